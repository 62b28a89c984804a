"""How good is the embedder? Cross-validation of the default against its baselines.

Each fold's unseen images are the gallery, their captions the queries. IDF, common direction,
standardisation and every choice see the training folds only. Several caption files are taken
together.

  python -m benchmarks.embedder --images photos/ --captions captions.json --backbone resnet18
  python -m benchmarks.embedder --db my.db --captions captions.json --json table.json
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jobs.train_embedder import HELD_OUT_SHARE
from lib.datasets.captions import Captions, held_out, load_captions, merge, select
from lib.descriptors.store import DescriptorIndex, index_descriptors, read_descriptors
from lib.embedder.dataset import Examples, Share, fit_text_side, load_share, match_captions
from lib.embedder.fitting import FitSettings, TrainingData, fit
from lib.embedder.losses import MARGIN, margin_ranking_loss
from lib.embedder.metrics import caption_ranks, gains, retrieval_report
from lib.embedder.model import Embedder
from lib.embedder.ridge import STRENGTHS, Moments, RidgePath, judge_choices, moments
from lib.embedder.triples import uniform_triples
from lib.text.encoder import TextEncoder, fit_idf
from lib.text.word_vectors import load_word_vectors

CPU = torch.device("cpu")
FIGURES = ("recall@1", "recall@5", "recall@10", "median_rank", "triple_accuracy", "seconds")


class Collection:
    """Descriptors in memory, with their captions."""

    def __init__(self, index: DescriptorIndex, captions: Captions, word_vectors: str | None):
        self.index = index
        self.captions = captions
        self.descriptors = read_descriptors(index.files, np.arange(len(index.image_ids)))
        self.vectors = load_word_vectors(word_vectors)
        rows = captions.rows_among(index.image_ids, index.paths)
        self.captioned = sorted({captions.image_ids[i] for i in np.flatnonzero(rows >= 0)})

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Descriptors of some rows, a copy."""
        return self.descriptors[rows]


Scorer = tuple[TextEncoder, Callable[[np.ndarray], np.ndarray], np.ndarray]
# A method gets the collection and the training captions; it gives the text side, the image side,
# and a (d, d) matrix that maps text embeddings (the identity but for CCA).
Method = Callable[[Collection, Captions, int], Scorer]


def default(collection: Collection, training: Captions, seed: int) -> Scorer:
    """What jobs.train_embedder does without options."""
    text = fit_text_side(training.texts, collection.vectors)
    apart = held_out(training.images, HELD_OUT_SHARE)
    parts = [
        match_captions(select(training, images), collection.index, text)
        for images in (set(training.images) - apart, apart)
    ]
    data = TrainingData(parts[0], parts[1], collection.read, rejoin=True)
    state = fit(data, FitSettings(seed=seed), CPU)
    embedder = Embedder.from_arrays(state["M"].numpy(), state["b"].numpy())
    return text, embedder.se_image, np.eye(text.dimension, dtype=np.float32)


def _standardised(collection: Collection, training: Captions) -> tuple[TextEncoder, Share]:
    text = fit_text_side(training.texts, collection.vectors)
    examples = match_captions(training, collection.index, text)
    return text, load_share(examples, collection.read, CPU)


def _image_side(share: Share, matrix: torch.Tensor) -> Callable[[np.ndarray], np.ndarray]:
    folded = matrix * share.scale[:, None]
    return Embedder.from_arrays(folded.numpy(), (-share.mean @ folded).numpy()).se_image


def ridge(collection: Collection, training: Captions, seed: int) -> Scorer:
    """Ridge regression onto the mean caption embedding, common direction removed, λ by LOO."""
    text, share = _standardised(collection, training)
    targets = share.caption_means()
    targets -= targets.mean(dim=0)
    path = RidgePath(moments(share.inputs, targets))
    plain = {0.0: torch.eye(text.dimension)}
    choices = judge_choices(path, plain, share.inputs, targets, share.texts, share.image)
    best = max(choices, key=lambda choice: choice.gain)
    return text, _image_side(share, path.solve(best.strength)), np.eye(text.dimension)


def plain_recipe(collection: Collection, training: Captions, seed: int) -> Scorer:
    """Margin ranking loss, a uniformly random bad image a caption, Adam, no regularisation."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    text = TextEncoder(collection.vectors, fit_idf(training.texts))
    examples = match_captions(training, collection.index, text)
    images, rows = np.unique(examples.rows, return_inverse=True)
    descriptors = torch.from_numpy(collection.read(images))
    texts = torch.from_numpy(examples.texts)
    model = Embedder(descriptors.shape[1], text.dimension)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(PLAIN_EPOCHS):
        triples = uniform_triples(rows, len(images), 1, rng)
        for batch in np.array_split(rng.permutation(len(triples)), max(1, len(triples) // 256)):
            good, bad = (model(descriptors[part[batch]]) for part in (triples.good, triples.bad))
            caption = texts[triples.caption[batch]]
            loss = margin_ranking_loss((caption * good).sum(1), (caption * bad).sum(1), MARGIN)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return text, model.se_image, np.eye(text.dimension)


PLAIN_EPOCHS = 60


def cca(collection: Collection, training: Captions, seed: int) -> Scorer:
    """Regularised canonical correlation analysis of descriptors and mean caption embeddings.

    Dimensions are weighted by their correlation to the fourth power (Gong et al., IJCV 2014). The
    ridge on the image side is chosen on a held-out tenth of the training images.
    """
    text = fit_text_side(training.texts, collection.vectors)
    apart = held_out(training.images, HELD_OUT_SHARE)
    fitting, judging = (
        match_captions(select(training, images), collection.index, text)
        for images in (set(training.images) - apart, apart)
    )
    share = load_share(fitting, collection.read, CPU)
    unseen = torch.from_numpy(collection.read(judging.images)).sub(share.mean).mul(share.scale)
    caption_rows = np.searchsorted(judging.images, judging.rows)

    def gain(strength: float) -> float:
        left, right = _canonical(share, strength)
        embeddings = torch.nn.functional.normalize(unseen @ left, dim=1).numpy()
        texts = _unit(judging.texts @ right.numpy())
        return float(gains(caption_ranks(texts, embeddings, caption_rows)).mean())

    best = max(STRENGTHS, key=gain)
    share = load_share(fitting + judging, collection.read, CPU)
    left, right = _canonical(share, best)
    return text, _image_side(share, left), right.numpy()


def _canonical(share: Share, strength: float) -> tuple[torch.Tensor, torch.Tensor]:
    targets = share.caption_means()
    targets -= targets.mean(dim=0)
    sums: Moments = moments(share.inputs, targets)
    count, dimension = sums.count, targets.shape[1]
    values, vectors = torch.linalg.eigh(targets.double().T @ targets.double() / count)
    floor = 0.05 * float(values[-1])
    whiten = (vectors * values.clamp(min=floor) ** -0.5) @ vectors.T
    size = sums.inner.shape[0]
    inner = sums.inner + strength * count * torch.eye(size, dtype=torch.float64)
    solved = torch.linalg.solve(inner, sums.cross @ whiten)
    # Eigenvectors of the explained covariance are the canonical directions of the text side.
    explained = (sums.cross @ whiten).T @ solved / count
    squares, directions = torch.linalg.eigh((explained + explained.T) / 2)
    correlations = squares.clamp(min=1e-12).sqrt()
    left = solved @ directions / correlations * correlations**4
    right = whiten @ directions * correlations**4
    return left.float()[:, -dimension:], right.float()[:, -dimension:]


METHODS: dict[str, Method] = {
    "plain recipe": plain_recipe,
    "CCA": cca,
    "ridge": ridge,
    "train_embedder": default,
}


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def folds(images: list[str], count: int, seed: int) -> Iterator[tuple[set[str], set[str]]]:
    """Training and test images of each fold."""
    order = np.random.default_rng(seed).permutation(len(images))
    for fold in range(count):
        test = {images[i] for i in order[fold::count]}
        yield set(images) - test, test


def measure(
    method: Method, collection: Collection, training: set[str], test: set[str], seed: int
) -> dict[str, float]:
    """Train on one part and report retrieval on the other."""
    begun = time.perf_counter()
    text, se_image, text_map = method(collection, select(collection.captions, training), seed)
    seconds = time.perf_counter() - begun
    unseen: Examples = match_captions(select(collection.captions, test), collection.index, text)
    report = retrieval_report(
        _unit(unseen.texts @ text_map),
        se_image(collection.read(unseen.images)),
        np.searchsorted(unseen.images, unseen.rows),
    )
    figures = report["caption_to_image"] | report | {"seconds": seconds}
    return {name: figures[name] for name in FIGURES}


def table(collection: Collection, methods: list[str], count: int, seed: int) -> dict[str, Any]:
    """Mean and standard error over the folds, for each method."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in methods}
    for fold, (training, test) in enumerate(folds(collection.captioned, count, seed)):
        for name in methods:
            found[name].append(measure(METHODS[name], collection, training, test, seed + fold))
    return {
        name: {
            figure: {
                "mean": float(np.mean([row[figure] for row in rows])),
                "standard_error": float(np.std([row[figure] for row in rows], ddof=1))
                / len(rows) ** 0.5,
                "folds": [row[figure] for row in rows],
            }
            for figure in FIGURES
        }
        for name, rows in found.items()
    }


def extract(images: str, captions: str, backbone: str, db: str) -> None:
    """Describe the photographs, with the job that does so."""
    from jobs.extract_descriptors import build_parser, extract_descriptors

    arguments = ["--images", images, "--captions", captions, "--db", db, "--backbone", backbone]
    extract_descriptors(build_parser().parse_args(arguments))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--images", metavar="DIR", help="photographs to describe first")
    source.add_argument("--db", help="database whose descriptors are there")
    parser.add_argument("--captions", required=True, nargs="+", metavar="FILE")
    parser.add_argument("--backbone", default="resnet18", help="for --images")
    parser.add_argument("--word-vectors", metavar="FILE")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        db = options.db or directory
        if options.images:
            extract(options.images, options.captions[0], options.backbone, db)
        captions = merge([load_captions(file) for file in options.captions])
        collection = Collection(index_descriptors(db), captions, options.word_vectors)
    found = table(collection, options.methods, options.folds, options.seed)
    count = len(collection.captioned)
    print(f"{count} images, {options.folds} folds, galleries of about {count // options.folds}")
    print(f"{'method':16}" + "".join(f"{name:>18}" for name in FIGURES))
    for name, figures in found.items():
        cells = (f"{x['mean']:.3f} ± {x['standard_error']:.3f}" for x in figures.values())
        print(f"{name:16}" + "".join(f"{cell:>18}" for cell in cells))
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
