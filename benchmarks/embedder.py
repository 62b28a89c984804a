"""How good is the embedder? Cross-validation of the default against its baselines.

Each fold's unseen images are the gallery, their captions the queries. IDF, common direction,
standardisation and every choice see the training folds only. Several caption files are taken
together.

  python -m benchmarks.embedder --images photos/ --captions captions.json --backbone resnet18
  python -m benchmarks.embedder --db my.db --captions captions.json --json table.json
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

import benchmarks
from jobs.train_embedder import HELD_OUT_SHARE
from lib.datasets.captions import Captions, held_out, load_captions, select
from lib.descriptors.store import DescriptorIndex, index_descriptors, read_descriptors
from lib.embedder.closed_form import MIN_JUDGES
from lib.embedder.dataset import (
    Examples,
    Share,
    Standardisation,
    fit_text_side,
    load_share,
    match_captions,
)
from lib.embedder.fitting import FitSettings, fit
from lib.embedder.layer import EmbedderLayer
from lib.embedder.metrics import retrieval_report
from lib.embedder.model import Embedder
from lib.embedder.preparation import POWERS, prepare_from, sample_collection
from lib.embedder.prior import Lesson, teach_classes
from lib.embedder.ridge import RidgePath, judge_choices, moments
from lib.embedder.training import fit_prior
from lib.embedder.triples import MARGIN, uniform_triples
from lib.errors import MissingError
from lib.text.encoder import TextEncoder, fit_idf, unit_rows
from lib.text.word_vectors import load_word_vectors

CPU = torch.device("cpu")
PLAIN_EPOCHS = 60
FIGURES = ("recall@1", "recall@5", "recall@10", "median_rank", "triple_accuracy", "seconds")


class Collection:
    """Descriptors in memory, with their captions."""

    def __init__(
        self,
        index: DescriptorIndex,
        captions: Captions,
        word_vectors: str | None,
        weights: str | None = None,
    ) -> None:
        self.index = index
        self.captions = captions
        self.descriptors = read_descriptors(index.files, np.arange(len(index)))
        self.vectors = load_word_vectors(word_vectors)
        self.sample = replace(sample_collection(index), read=self.read)
        self.lesson = self._lesson(weights)
        rows = captions.rows_among(index.images())
        self.captioned = sorted({captions.image_ids[i] for i in np.flatnonzero(rows >= 0)})

    def _lesson(self, weights: str | None) -> Lesson | None:
        try:
            return teach_classes(self.index, self.sample.rows, self.sample.descriptors, weights)
        except MissingError as error:
            print(f"no class names: {error}")
            return None

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Descriptors of some rows, a copy."""
        return self.descriptors[rows]


Scorer = tuple[TextEncoder, Callable[[np.ndarray], np.ndarray], np.ndarray]
# A method gets the collection and the training captions; it gives the text side, the image side,
# and a (d, d) matrix that maps text embeddings (the identity but for CCA).
Method = Callable[[Collection, Captions | None, int], Scorer]


def trained(
    collection: Collection,
    training: Captions | None,
    seed: int,
    lesson: bool = True,
    powers: tuple[float, ...] = POWERS,
) -> Scorer:
    """What jobs.train_embedder does, with or without the names of classes."""
    validation = None
    if training:
        apart = held_out(training.images, HELD_OUT_SHARE)
        if len(training.images) - len(apart) >= MIN_JUDGES:
            validation = select(training, apart)
            training = select(training, set(training.images) - apart)
    prepared = prepare_from(
        collection.sample,
        training,
        validation,
        collection.vectors,
        True,
        collection.lesson if lesson else None,
        powers,
    )
    if training is None:
        state = fit_prior(prepared.data)
    else:
        state = fit(prepared.data, FitSettings(seed=seed), CPU)
    embedder = Embedder(state["M"].numpy(), state["b"].numpy())
    return prepared.text, embedder.se_image, np.eye(prepared.text.dimension, dtype=np.float32)


def _standardised(collection: Collection, training: Captions) -> tuple[TextEncoder, Share]:
    text = fit_text_side(training.texts, collection.vectors)
    examples = match_captions(training, collection.index, text)
    standardisation = Standardisation.of(collection.read(examples.images))
    return text, load_share(examples, collection.read, standardisation, CPU)


def _image_side(share: Share, matrix: torch.Tensor) -> Callable[[np.ndarray], np.ndarray]:
    folded = matrix * share.scale[:, None]
    return Embedder(folded.numpy(), (-share.mean @ folded).numpy()).se_image


def ridge(collection: Collection, training: Captions | None, seed: int) -> Scorer:
    """Ridge regression onto the mean caption embedding, common direction removed, IDF as it is."""
    assert training is not None
    text, share = _standardised(collection, training)
    targets = share.caption_means()
    targets -= targets.mean(dim=0)
    path = RidgePath(moments(share.inputs, targets))
    plain = {0.0: torch.eye(text.dimension)}
    choices = judge_choices(path, plain, share.inputs, targets, share.texts, share.image)
    best = max(choices, key=lambda choice: choice.gain)
    assert best.ridge_lambda is not None
    return text, _image_side(share, path.solve(best.ridge_lambda)), np.eye(text.dimension)


def plain_recipe(collection: Collection, training: Captions | None, seed: int) -> Scorer:
    """Margin ranking loss, a uniformly random bad image a caption, Adam, no regularisation."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    assert training is not None
    text = TextEncoder(collection.vectors, fit_idf(training.texts))
    examples = match_captions(training, collection.index, text)
    images, rows = np.unique(examples.rows, return_inverse=True)
    descriptors = torch.from_numpy(collection.read(images))
    texts = torch.from_numpy(examples.texts)
    model = EmbedderLayer(descriptors.shape[1], text.dimension)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(PLAIN_EPOCHS):
        triples = uniform_triples(rows, len(images), 1, rng)
        for batch in np.array_split(rng.permutation(len(triples)), max(1, len(triples) // 256)):
            good, bad = (model(descriptors[part[batch]]) for part in (triples.good, triples.bad))
            caption = texts[triples.caption[batch]]
            short = MARGIN - ((caption * good).sum(1) - (caption * bad).sum(1))
            loss = short.clamp(min=0).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    weight, bias = (parameter.detach().numpy() for parameter in model.parameters())
    return text, Embedder(weight.T, bias).se_image, np.eye(text.dimension)


METHODS: dict[str, Method] = {
    "plain recipe": plain_recipe,
    "ridge": ridge,
    "class names alone": lambda collection, _, seed: trained(collection, None, seed),
    "without class names": partial(trained, lesson=False),
    "IDF as it is": partial(trained, powers=(1.0,)),
    "train_embedder": trained,
}
CURVE = (0, 20, 50, 100, 200, 500)  # captioned images
CURVE_METHODS = ("train_embedder", "without class names")


def joined(parts: list[Captions]) -> Captions:
    """The captions of several files as those of one collection."""
    return Captions(
        [image_id for part in parts for image_id in part.image_ids],
        [text for part in parts for text in part.texts],
        {image_id: image for part in parts for image_id, image in part.images.items()},
        ", ".join(part.source for part in parts),
    )


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
    captions = select(collection.captions, training) if training else None
    text, se_image, text_map = method(collection, captions, seed)
    seconds = time.perf_counter() - begun
    unseen: Examples = match_captions(select(collection.captions, test), collection.index, text)
    report = retrieval_report(
        unit_rows(unseen.texts @ text_map),
        se_image(collection.read(unseen.images)),
        np.searchsorted(unseen.images, unseen.rows),
    )
    figures = report["caption_to_image"] | report | {"seconds": seconds}
    return {name: figures[name] for name in FIGURES}


def table(collection: Collection, methods: list[str], count: int, seed: int) -> dict[str, Any]:
    """Mean and standard error over the folds, for each method."""
    results: dict[str, list[dict[str, float]]] = {name: [] for name in methods}
    for fold, (training, test) in enumerate(folds(collection.captioned, count, seed)):
        for name in methods:
            results[name].append(measure(METHODS[name], collection, training, test, seed + fold))
    return {name: summary(rows) for name, rows in results.items()}


def summary(rows: list[dict[str, float]]) -> dict[str, Any]:
    """Mean and standard error over the folds, for each figure."""
    return {
        figure: {
            "mean": float(np.mean([row[figure] for row in rows])),
            "standard_error": float(np.std([row[figure] for row in rows], ddof=1))
            / len(rows) ** 0.5,
            "folds": [row[figure] for row in rows],
        }
        for figure in FIGURES
    }


def curve(collection: Collection, numbers: list[int], count: int, seed: int) -> dict[str, Any]:
    """recall of the default and of captions alone, by the captioned images that there are.

    Each fold draws its own; a number larger than there are takes all.
    """
    rows: dict[str, Any] = {}
    most = len(collection.captioned) - -(-len(collection.captioned) // count)
    for number in sorted({min(number, most) for number in numbers}):
        for name in CURVE_METHODS:
            if number == 0 and name != "train_embedder":
                continue
            figures = []
            for fold, (training, test) in enumerate(folds(collection.captioned, count, seed)):
                order = np.random.default_rng(seed + fold).permutation(sorted(training))
                part = set(order[:number].tolist())
                figures.append(measure(METHODS[name], collection, part, test, seed + fold))
            row = rows[f"{name}, {number}"] = summary(figures)
            cells = (
                f"{figure} {x['mean']:.3f} ± {x['standard_error']:.3f}" for figure, x in row.items()
            )
            print(f"{name}, {number} captioned images: {', '.join(cells)}", flush=True)
    return rows


def across(collection: Collection, other: Collection, seed: int) -> dict[str, Any]:
    """recall where all of one collection trains and the other's images are searched, by method."""
    rows = {}
    for name in CURVE_METHODS:
        text, se_image, _ = METHODS[name](collection, collection.captions, seed)
        unseen = match_captions(other.captions, other.index, text)
        report = retrieval_report(
            unseen.texts,
            se_image(other.read(unseen.images)),
            np.searchsorted(unseen.images, unseen.rows),
        )
        figures = report["caption_to_image"]
        rows[name] = {"images": len(unseen.images)} | {k: figures[k] for k in FIGURES[:3]}
    return rows


def plot(rows: dict[str, Any], file: str) -> None:
    """The learning curve as a PNG."""
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    for axes, measure_name in zip(figure.subplots(1, 2), ("recall@1", "recall@10"), strict=True):
        for name in CURVE_METHODS:
            points = [
                (int(key.rpartition(", ")[2]), value[measure_name]["mean"])
                for key, value in rows.items()
                if key.startswith(f"{name}, ")
            ]
            axes.plot(*zip(*points, strict=True), marker=".", label=name)
        axes.set(xlabel="captioned images", title=measure_name, xscale="symlog")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.savefig(file, dpi=90)


def extract(images: str, captions: str, backbone: str, db: str, weights: str | None) -> None:
    """Describe the photographs, with the job that does so."""
    from jobs.extract_descriptors import build_parser, extract_descriptors

    arguments = ["--images", images, "--captions", captions, "--db", db, "--backbone", backbone]
    arguments += ["--weights", weights] if weights else []
    extract_descriptors(build_parser().parse_args(arguments))


def main() -> None:
    """Print the table."""
    parser = benchmarks.parser(__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--images", metavar="DIR", help="photographs to describe first")
    source.add_argument("--db", help="database whose descriptors are there")
    parser.add_argument("--captions", required=True, nargs="+", metavar="FILE")
    parser.add_argument("--backbone", default="resnet18", help="for --images")
    parser.add_argument("--word-vectors", metavar="FILE")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--weights", metavar="FILE", help="the backbone's, as in extraction")
    parser.add_argument(
        "--curve", type=int, nargs="*", metavar="N", help="by the number of captioned images"
    )
    parser.add_argument("--plot", metavar="PNG", help="of the curve")
    parser.add_argument("--across", metavar="DB", help="another collection to search")
    parser.add_argument("--across-captions", metavar="FILE", help="its captions")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        db = options.db or directory
        if options.images:
            extract(options.images, options.captions[0], options.backbone, db, options.weights)
        captions = [load_captions(file) for file in options.captions]
        collection = Collection(
            index_descriptors(db), joined(captions), options.word_vectors, options.weights
        )
        report_on(collection, options)


def report_on(collection: Collection, options: argparse.Namespace) -> None:
    """What the options ask for, while the files of the collection are there."""
    if options.curve is not None:
        report = curve(collection, options.curve or [*CURVE], options.folds, options.seed)
        if options.plot:
            plot(report, options.plot)
        benchmarks.write_json(options.json, report)
        return
    if options.across:
        other = Collection(
            index_descriptors(options.across),
            load_captions(options.across_captions),
            options.word_vectors,
            options.weights,
        )
        report = across(collection, other, options.seed)
        for name, row in report.items():
            print(f"{name}, searched in {options.across}: {row}")
        benchmarks.write_json(options.json, report)
        return
    results = table(collection, options.methods, options.folds, options.seed)
    count = len(collection.captioned)
    print(f"{count} images, {options.folds} folds, galleries of about {count // options.folds}")
    print(f"{'method':16}" + "".join(f"{name:>18}" for name in FIGURES))
    for name, figures in results.items():
        cells = (f"{x['mean']:.3f} ± {x['standard_error']:.3f}" for x in figures.values())
        print(f"{name:16}" + "".join(f"{cell:>18}" for cell in cells))
    benchmarks.write_json(options.json, results)


if __name__ == "__main__":
    main()
