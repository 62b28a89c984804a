"""Triples of a caption, a good image and a bad image, and the ways to draw the bad one."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from lib.errors import BadArgumentError, BadInputError

Strategy = Literal["uniform", "semi-hard", "hardest", "dissimilar"]
MARGIN = 0.1  # of the ranking loss: by what a good image's cosine is to be above a bad one's
STRATEGIES: tuple[str, ...] = get_args(Strategy)
# Captions closer than this say nearly the same: so are a tenth of the pairs of one COCO image, and
# one in a thousand of those of two images.
SIMILAR = 0.8
CANDIDATES = 256  # random images among which a strategy other than uniform looks
_CHUNK = 512


@dataclass(frozen=True)
class Triples:
    """Row i: caption `caption[i]`, an image it describes, and one it does not; all (T,) int64."""

    caption: np.ndarray
    good: np.ndarray
    bad: np.ndarray

    def __len__(self) -> int:
        return len(self.caption)


def uniform_triples(
    caption_to_row: np.ndarray, image_count: int, per_caption: int, rng: np.random.Generator
) -> Triples:
    """`per_caption` triples a caption, the bad image uniform among all but the caption's own.

    caption_to_row: (C,) int, the row of each caption's image in 0..image_count-1. The order is
    caption by caption. Raises BadInputError with fewer than two images: nothing is bad then.
    """
    if image_count < 2:
        raise BadInputError(f"a triple needs two images or more; there is {image_count}")
    caption = np.repeat(np.arange(len(caption_to_row), dtype=np.int64), per_caption)
    good = caption_to_row[caption].astype(np.int64)
    # One of the other image_count - 1, shifted past the good one: no rejection, no bias.
    bad = rng.integers(0, image_count - 1, len(caption))
    return Triples(caption, good, bad + (bad >= good))


def draw_triples(
    strategy: Strategy,
    text_embeddings: np.ndarray,
    image_embeddings: np.ndarray,
    caption_to_row: np.ndarray,
    per_caption: int,
    rng: np.random.Generator,
    margin: float = MARGIN,
) -> Triples:
    """Triples whose bad image a strategy picks among CANDIDATES uniform ones, for every triple.

    text_embeddings (C, d) and image_embeddings (N, d): unit, as the embedder places them now;
    caption_to_row: (C,) int. Strategies:

    - uniform: any other image.
    - hardest: the candidate that scores highest (Faghri et al., VSE++, BMVC 2018).
    - semi-hard: the highest that still scores below the good image, by less than the margin; where
      there is none, the highest below it, else any (Schroff et al., FaceNet, CVPR 2015).
    - dissimilar: the highest of those none of whose own captions is close to the caption (cosine
      over SIMILAR): such an image is not bad (Biten et al., "Is an image worth five sentences?",
      WACV 2022).
    """
    if strategy not in STRATEGIES:
        raise BadArgumentError(f"no strategy {strategy!r}; there are {', '.join(STRATEGIES)}")
    if per_caption < 1:
        raise BadArgumentError(f"triples per caption must be 1 or more, not {per_caption}")
    drawn = uniform_triples(caption_to_row, len(image_embeddings), per_caption, rng)
    if strategy == "uniform":
        return drawn
    bad = np.empty_like(drawn.bad)
    for start in range(0, len(drawn), _CHUNK):
        part = slice(start, start + _CHUNK)
        caption, good = drawn.caption[part], drawn.good[part]
        others = uniform_triples(good, len(image_embeddings), CANDIDATES, rng).bad
        others = others.reshape(len(good), CANDIDATES)
        texts = text_embeddings[caption]
        scores = np.einsum("td,tcd->tc", texts, image_embeddings[others])
        if strategy == "semi-hard":
            reach = np.einsum("td,td->t", texts, image_embeddings[good])[:, None]
            scores = _semi_hard(scores, reach, margin)
        elif strategy == "dissimilar":
            close = _closeness(texts, others, text_embeddings, caption_to_row)
            scores = np.where(close > SIMILAR, scores - 4, scores)  # behind all of the others
        bad[part] = others[np.arange(len(good)), scores.argmax(axis=1)]
    return Triples(drawn.caption, drawn.good, bad)


def _semi_hard(scores: np.ndarray, good: np.ndarray, margin: float) -> np.ndarray:
    """Scores moved by multiples of 4, more than any difference, to put the classes in order."""
    below = scores < good
    within = below & (scores > good - margin)
    return scores + 4.0 * below + 4.0 * within


def _closeness(
    texts: np.ndarray, others: np.ndarray, text_embeddings: np.ndarray, caption_to_row: np.ndarray
) -> np.ndarray:
    """(T, K): cosine of each text with the closest caption of each candidate image."""
    order = np.argsort(caption_to_row, kind="stable")
    images, first = np.unique(caption_to_row[order], return_index=True)
    candidates, place = np.unique(others, return_inverse=True)
    closest = np.full((len(texts), len(candidates)), -1.0)
    captioned = np.isin(images, candidates)
    scores = texts @ text_embeddings[order].T
    best = np.maximum.reduceat(scores, first, axis=1)[:, captioned]
    closest[:, np.isin(candidates, images)] = best
    return np.take_along_axis(closest, place.reshape(others.shape), axis=1)
