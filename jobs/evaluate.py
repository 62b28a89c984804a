"""Evaluate a database: how well captions find their images among those that a file names."""

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from jobs import command
from lib.datasets.captions import Captions
from lib.descriptors.store import DescriptorIndex, read_descriptors, read_uris
from lib.embedder.metrics import Retrieval, chance_recall, evaluate_retrieval, retrieval_report
from lib.embedder.plots import recall_plot
from lib.embedder.seen import captions_digest, copies, training_rows
from lib.embedder.space import SemanticSpace, load_with_descriptors
from lib.images.contact_sheet import Section, Tile, write_sections
from lib.storage import join, write_bytes_atomic, write_json_atomic

if TYPE_CHECKING:  # PyTorch, seconds: not for --help, a wrong option, or Ctrl-C right away
    from lib.embedder.dataset import Examples

SHOWN_QUERIES = 8  # best, and as many worst
SHOWN_IMAGES = 5
# With fewer images the figures are not to be trusted, and the report says so.
LEAST_TEST_IMAGES, LEAST_TRAINING_IMAGES = 100, 30


def build_parser() -> argparse.ArgumentParser:
    """Arguments of the job."""
    arguments = command.parser(
        __doc__,
        "python -m jobs.evaluate --db my.db --captions test_captions.json",
        "--db --word-vectors --seed",
    )
    arguments.add_argument(
        "--captions", required=True, metavar="FILE", help="captions of images unseen in training"
    )
    arguments.add_argument(
        "--output",
        metavar="DIR",
        help="where report.json, recall.png and queries.html go (default: DB/evaluation)",
    )
    return arguments


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Run the job; returns its summary."""
    captions = command.load_captions(options.captions)
    return evaluate(options.db, captions, options.word_vectors, options.seed, options.output)


def evaluate(
    db: str,
    captions: Captions,
    word_vectors: str | None = None,
    seed: int = 0,
    output: str | None = None,
) -> dict[str, Any]:
    """Embed the named images and their captions, and report retrieval in both directions."""
    from lib.embedder.dataset import match_captions

    space, index = load_with_descriptors(db, word_vectors)
    examples, seen = _unseen(match_captions(captions, index, space.text), db, space, index)
    descriptors = read_descriptors(index.files, examples.images)
    images = space.se_image(descriptors)
    caption_to_row = np.searchsorted(examples.images, examples.rows)
    ranks = evaluate_retrieval(examples.texts, images, caption_to_row)
    report = retrieval_report(examples.texts, images, caption_to_row, seed, ranks)
    report |= {
        "captions_of_absent_images": examples.absent,
        "captions_without_known_word": examples.wordless,
        "embedder": space.digest,
        "prior": None,
        **seen,
    }
    if space.prior is not None:
        prior = space.prior.se_image(descriptors)
        alone = retrieval_report(examples.texts, prior, caption_to_row, seed)
        report["prior"] = {"source": space.metadata["prior"], **alone["caption_to_image"]}
    trained_on = space.metadata.get("captions", {})
    report["warnings"] = _warnings(report, trained_on, captions_digest([captions]))
    output = output or join(db, "evaluation")
    write_json_atomic(join(output, "report.json"), report)
    write_bytes_atomic(join(output, "recall.png"), _recall_plot(ranks, caption_to_row))
    sections = _extremes(captions, index, examples, images, caption_to_row, ranks)
    write_sections(join(output, "queries.html"), "Best and worst queries", sections)
    _print_report(report, output)
    return report


def _unseen(
    examples: "Examples", db: str, space: SemanticSpace, index: DescriptorIndex
) -> tuple["Examples", dict[str, int]]:
    """The examples without images of training and copies of such, and how many those were.

    Where nothing else would stay, all stay.
    """
    rows = examples.images
    training = training_rows(db, space.digest, index)
    taught = np.isin(rows, training)
    copied = np.zeros(len(rows), bool)
    copied[~taught] = copies(index, rows[~taught], training)
    unseen = rows[~taught & ~copied]
    counts = {
        "images_of_training": int(taught.sum()),
        "copies_of_training": int(copied.sum()),
        "images_left_out": len(rows) - len(unseen) if len(unseen) else 0,
    }
    return (examples.of_images(unseen) if len(unseen) else examples), counts


def _warnings(report: Mapping[str, Any], trained_on: Mapping[str, Any], digest: str) -> list[str]:
    """Why the figures are not to be trusted, if so; `digest` of the captions evaluated."""
    warnings = []
    seen = report["images_of_training"] + report["copies_of_training"]
    if trained_on.get("digest") == digest or seen > report["images_left_out"]:
        warnings.append("these captions trained the embedder: of unseen images this says nothing")
    elif seen:
        warnings.append(
            f"left out: {report['images_of_training']} images that trained the embedder, and "
            f"{report['copies_of_training']} copies of such (the same bytes, or nearly the same "
            "descriptor)"
        )
    if report["images"] < LEAST_TEST_IMAGES:
        warnings.append(
            f"only {report['images']} test images: a few more or less would change the figures "
            f"much (from {LEAST_TEST_IMAGES} on they tell something)"
        )
    taught = trained_on.get("images_with_captions", LEAST_TRAINING_IMAGES)
    if 0 < taught < LEAST_TRAINING_IMAGES:
        warnings.append(
            f"only {taught} captioned images in training: others would have given another "
            f"embedder (from {LEAST_TRAINING_IMAGES} on chance decides less)"
        )
    return warnings


def _recall_plot(ranks: Retrieval, caption_to_row: np.ndarray) -> bytes:
    captioned, own = np.unique(caption_to_row, return_counts=True)
    captions, images = len(ranks.caption_to_image), len(ranks.image_to_caption)
    return recall_plot(
        {
            "caption_to_image": ranks.caption_to_image,
            "image_to_caption": ranks.image_to_caption[captioned],
        },
        {
            "caption_to_image": chance_recall(images, np.ones(1, np.int64)),
            "image_to_caption": chance_recall(captions, own),
        },
    )


def _extremes(
    captions: Captions,
    index: DescriptorIndex,
    examples: "Examples",
    images: np.ndarray,
    caption_to_row: np.ndarray,
    ranks: Retrieval,
) -> list[Section]:
    """The best and the worst queries, each with its own image first, then what was found."""
    scores = np.einsum("cd,cd->c", examples.texts, images[caption_to_row])
    order = np.lexsort((-scores, ranks.caption_to_image))
    queries = [*order[:SHOWN_QUERIES], *order[: -SHOWN_QUERIES - 1 : -1]]
    found = [np.argsort(-(images @ examples.texts[query]))[:SHOWN_IMAGES] for query in queries]
    shown = np.column_stack([caption_to_row[queries], found])
    needed = np.unique(shown)
    uris = dict(zip(needed, read_uris(index.files, examples.images[needed]), strict=True))
    labels = ["its own image", *(f"found {place}" for place in range(1, shown.shape[1]))]
    sections = []
    for query, rows in zip(queries, shown, strict=True):
        scores = images[rows] @ examples.texts[query]
        tiles = [
            Tile(uris[row], f"{label}  {score:.3f}")
            for row, label, score in zip(rows, labels, scores, strict=True)
        ]
        note = f"rank {ranks.caption_to_image[query]:g} of {len(images)}"
        sections.append(Section(captions.texts[examples.captions[query]], tiles, note))
    return sections


def _print_report(report: Mapping[str, Any], output: str) -> None:
    for warning in report["warnings"]:
        print(f"warning: {warning}")
    print(
        f"{report['captions']} captions, a gallery of {report['images']} images; "
        "95 % intervals in brackets"
    )
    for name in ("caption_to_image", "image_to_caption"):
        print(f"{name.replace('_', ' ')}: {_in_words(report[name])}")
    if prior := report["prior"]:
        print(f"for comparison, before any caption ({prior['source']}): {_in_words(prior)}")
    for name in ("coco_1k", "coco_5k"):
        if name in report:
            figures = (f"{figure} {value:.3f}" for figure, value in report[name].items())
            print(f"{name.replace('_', ' ')}: {', '.join(figures)}")
    if "triple_accuracy" in report:
        print(f"triple accuracy {report['triple_accuracy']:.3f} (bad images drawn uniformly)")
    if report["captions_of_absent_images"]:
        print(f"left out: {report['captions_of_absent_images']} captions whose image is absent")
    if report["captions_without_known_word"]:
        print(f"left out: {report['captions_without_known_word']} captions without a known word")
    print(f"plot and pictures: {output}")


def _in_words(direction: Mapping[str, Any]) -> str:
    recalls = (
        "recall@{} {:.3f} [{:.3f}, {:.3f}] (chance {:.3f})".format(
            k,
            direction[f"recall@{k}"],
            *direction[f"recall@{k}_interval"],
            direction[f"recall@{k}_chance"],
        )
        for k in (1, 5, 10)
    )
    return f"{', '.join(recalls)}, median rank {direction['median_rank']:g}"


main = command.main(build_parser, run, goes_on=False)

if __name__ == "__main__":
    main()
