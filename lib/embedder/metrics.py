"""How well captions find their images: recall@k, median rank, intervals. Pure numpy."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from lib.embedder.triples import uniform_triples

_CHUNK = 1024
COCO_IMAGES = 5000
TRIPLES_PER_CAPTION = 10


@dataclass(frozen=True)
class Retrieval:
    """Ranks, 1 = first, of the right image for each caption and of the best caption per image."""

    caption_to_image: np.ndarray
    image_to_caption: np.ndarray


def evaluate_retrieval(
    text_embeddings: np.ndarray, image_embeddings: np.ndarray, caption_to_row: np.ndarray
) -> Retrieval:
    """Rank of the right partner, in both directions.

    text_embeddings: (C, d) float, unit; image_embeddings: (N, d) float, unit; caption_to_row: (C,)
    int, the row of each caption's image. A rank is 1 + the partners that score strictly above,
    plus half of the wrong ones that tie, so that an embedder that gives all the same gets chance.
    An image's rank is that of its best-placed caption; an image without caption gets rank 0.
    """
    return Retrieval(
        caption_ranks(text_embeddings, image_embeddings, caption_to_row),
        image_ranks(text_embeddings, image_embeddings, caption_to_row),
    )


def caption_ranks(
    text_embeddings: np.ndarray, image_embeddings: np.ndarray, caption_to_row: np.ndarray
) -> np.ndarray:
    """(C,) float: rank of each caption's image among all images; see evaluate_retrieval."""
    ranks = np.empty(len(text_embeddings))
    for start in range(0, len(text_embeddings), _CHUNK):
        rows = caption_to_row[start : start + _CHUNK]
        scores = text_embeddings[start : start + _CHUNK] @ image_embeddings.T
        good = scores[np.arange(len(rows)), rows]
        ranks[start : start + _CHUNK] = _rank(scores, good[:, None], own_ties=1)
    return ranks


def image_ranks(
    text_embeddings: np.ndarray, image_embeddings: np.ndarray, caption_to_row: np.ndarray
) -> np.ndarray:
    """(N,) float: rank of each image's best-placed caption among all; see evaluate_retrieval."""
    backward = np.zeros(len(image_embeddings))
    order = np.argsort(caption_to_row, kind="stable")
    bounds = np.searchsorted(caption_to_row[order], np.arange(len(image_embeddings) + 1))
    for start in range(0, len(image_embeddings), _CHUNK):
        scores = image_embeddings[start : start + _CHUNK] @ text_embeddings.T
        for row, line in enumerate(scores, start):
            own = order[bounds[row] : bounds[row + 1]]
            if len(own):
                best = line[own].max()
                tied = int(np.count_nonzero(line[own] == best))
                backward[row] = _rank(line, best, tied)
    return backward


def _rank(scores: np.ndarray, good: np.ndarray, own_ties: int) -> np.ndarray:
    """Rank, along the last axis, of a good score, with which so many right ones tie."""
    above = np.count_nonzero(scores > good, axis=-1)
    ties = np.count_nonzero(scores == good, axis=-1) - own_ties
    return 1 + above + ties / 2


def recall(ranks: np.ndarray, k: int) -> float:
    """Share of the ranks that are k or better."""
    return float(np.mean(ranks <= k))


def rank_figures(ranks: np.ndarray) -> dict[str, float]:
    """Recall@1, 5 and 10, and the median rank."""
    recalls = {f"recall@{k}": recall(ranks, k) for k in (1, 5, 10)}
    return {**recalls, "median_rank": float(np.median(ranks))}


def gains(ranks: np.ndarray) -> np.ndarray:
    """1 / log2(1 + rank), whose mean is nDCG with one right answer: smoother than recall, so that
    it compares close embedders better (Järvelin and Kekäläinen, 2002).
    """
    return 1 / np.log2(1 + ranks)


def triple_accuracy_fixed(
    text_embeddings: np.ndarray,
    image_embeddings: np.ndarray,
    caption_to_row: np.ndarray,
    bad_rows: np.ndarray,
) -> float:
    """Share of fixed triples whose good image outscores the bad one.

    bad_rows: (C, T) int, T bad images for each caption; other shapes as in evaluate_retrieval.
    """
    good = np.einsum("cd,cd->c", text_embeddings, image_embeddings[caption_to_row])
    bad = np.einsum("cd,ctd->ct", text_embeddings, image_embeddings[bad_rows])
    return float(np.mean(good[:, None] > bad))


def bootstrap_interval(
    values: np.ndarray, groups: np.ndarray, seed: int = 0, draws: int = 1000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of `values`, drawing whole groups (images).

    Captions of one image are not independent, so images are drawn (cluster bootstrap; Efron and
    Tibshirani, 1993, chapter 8). values: (C,) float; groups: (C,) int.
    """
    _, group = np.unique(groups, return_inverse=True)
    sums, sizes = np.bincount(group, values), np.bincount(group)
    drawn = np.random.default_rng(seed).multinomial(
        len(sums), np.full(len(sums), 1 / len(sums)), size=draws
    )
    means = (drawn @ sums) / (drawn @ sizes)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def retrieval_report(
    text_embeddings: np.ndarray,
    image_embeddings: np.ndarray,
    caption_to_row: np.ndarray,
    seed: int = 0,
    ranks: Retrieval | None = None,
) -> dict[str, Any]:
    """Everything that evaluation reports, as plain numbers; shapes as in evaluate_retrieval.

    Each direction: recall@1/5/10 with 95 % bootstrap intervals and what chance would give, and the
    median rank. ranks: of these embeddings, where they are known already.
    """
    ranks = ranks or evaluate_retrieval(text_embeddings, image_embeddings, caption_to_row)
    captioned = np.flatnonzero(ranks.image_to_caption)
    own = np.bincount(caption_to_row, minlength=len(image_embeddings))[captioned]
    report: dict[str, Any] = {
        "captions": len(text_embeddings),
        "images": len(image_embeddings),
        "caption_to_image": _direction(ranks.caption_to_image, caption_to_row, seed)
        | _chance(len(image_embeddings), np.ones(1, np.int64)),
        "image_to_caption": _direction(ranks.image_to_caption[captioned], captioned, seed)
        | _chance(len(text_embeddings), own),
    }
    if len(image_embeddings) > 1:
        triples = uniform_triples(
            caption_to_row, len(image_embeddings), TRIPLES_PER_CAPTION, np.random.default_rng(seed)
        )
        report["triple_accuracy"] = triple_accuracy_fixed(
            text_embeddings,
            image_embeddings,
            caption_to_row,
            triples.bad.reshape(len(caption_to_row), -1),
        )
    if len(image_embeddings) >= COCO_IMAGES:
        report |= _coco_protocols(text_embeddings, image_embeddings, caption_to_row, seed)
    return report


def _coco_protocols(
    text_embeddings: np.ndarray, image_embeddings: np.ndarray, caption_to_row: np.ndarray, seed: int
) -> dict[str, Any]:
    """COCO's protocols (Karpathy and Fei-Fei, CVPR 2015): 5 folds of 1,000, and all of 5,000.

    The images are drawn by the seed where there are more than 5,000.
    """
    drawn = np.random.default_rng(seed).permutation(len(image_embeddings))[:COCO_IMAGES]
    parts = np.array_split(drawn, 5)

    def recalls(images: np.ndarray) -> dict[str, float]:
        place = np.full(len(image_embeddings), -1)
        place[images] = np.arange(len(images))
        kept = place[caption_to_row] >= 0
        ranks = caption_ranks(
            text_embeddings[kept], image_embeddings[images], place[caption_to_row[kept]]
        )
        return rank_figures(ranks)

    folds = [recalls(part) for part in parts]
    mean = {name: float(np.mean([fold[name] for fold in folds])) for name in folds[0]}
    return {"coco_1k": mean, "coco_5k": recalls(drawn)}


def _direction(ranks: np.ndarray, groups: np.ndarray, seed: int) -> dict[str, Any]:
    intervals = {
        f"recall@{k}_interval": bootstrap_interval(ranks <= k, groups, seed) for k in (1, 5, 10)
    }
    return {**rank_figures(ranks), **intervals}


def _chance(candidates: int, right: np.ndarray) -> dict[str, float]:
    curve = chance_recall(candidates, right)
    return {f"recall@{k}_chance": float(curve[min(k, candidates) - 1]) for k in (1, 5, 10)}


def chance_recall(candidates: int, right: np.ndarray) -> np.ndarray:
    """(candidates,) float: recall@1, @2 and so on of a random order, the mean over queries.

    right: (Q,) int, how many candidates are right for each. 1 - C(n - r, k) / C(n, k), as a product
    over the first k places.
    """
    places = np.arange(candidates)
    curve = np.zeros(candidates)
    for size, count in zip(*np.unique(right, return_counts=True), strict=True):
        wrong = np.maximum(candidates - size - places, 0) / (candidates - places)
        curve += (1 - wrong.cumprod()) * count / len(right)
    return curve
