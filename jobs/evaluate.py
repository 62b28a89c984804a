"""Evaluate a database: how well captions find their images among those that a file names."""

import argparse
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np

from jobs import command
from lib.datasets.captions import Captions
from lib.descriptors.store import DescriptorIndex, index_descriptors, read_descriptors, read_uris
from lib.embedder.dataset import Examples, match_captions
from lib.embedder.metrics import Retrieval, evaluate_retrieval, retrieval_report
from lib.embedder.plots import recall_plot
from lib.embedder.space import load_semantic_space
from lib.images.contact_sheet import Section, Tile, write_sections
from lib.schemas import require_same
from lib.storage import join, write_bytes_atomic, write_json_atomic

SHOWN_QUERIES = 8  # best, and as many worst
SHOWN_IMAGES = 5


def build_parser() -> argparse.ArgumentParser:
    """Arguments of the job."""
    arguments = command.parser(
        "evaluate",
        __doc__ or "",
        "python -m jobs.evaluate --db my.db --captions test_captions.json",
    )
    command.add_database(arguments)
    arguments.add_argument(
        "--captions", required=True, metavar="FILE", help="captions of images unseen in training"
    )
    arguments.add_argument("--word-vectors", metavar="FILE", help="default: those of training")
    arguments.add_argument(
        "--seed", type=int, default=0, help="of triples and intervals (default: 0)"
    )
    arguments.add_argument(
        "--output",
        metavar="DIR",
        help="where report.json, recall.png and queries.html go (default: DB/evaluation)",
    )
    return arguments


def evaluate(options: argparse.Namespace, captions: Captions | None = None) -> dict[str, Any]:
    """Embed the named images and their captions, and report retrieval in both directions."""
    captions = captions or command.load_captions(options.captions)
    space = load_semantic_space(options.db, options.word_vectors)
    index = index_descriptors(options.db)
    require_same(
        "the origins of the embedder's and the database's descriptors",
        space.provenance,
        index.provenance,
        "Train anew with jobs.train_embedder",
    )
    examples = match_captions(captions, index, space.text)
    images = space.se_image(read_descriptors(index.files, examples.images))
    caption_to_row = np.searchsorted(examples.images, examples.rows)
    report = retrieval_report(examples.texts, images, caption_to_row, options.seed)
    report |= {
        "captions_of_absent_images": examples.absent,
        "captions_without_known_word": examples.wordless,
        "embedder": space.digest,
    }
    output = options.output or join(options.db, "evaluation")
    write_json_atomic(join(output, "report.json"), report)
    ranks = evaluate_retrieval(examples.texts, images, caption_to_row)
    write_bytes_atomic(join(output, "recall.png"), _recall_plot(ranks))
    sections = _extremes(captions, index, examples, images, ranks.caption_to_image)
    write_sections(join(output, "queries.html"), "Best and worst queries", sections)
    _print_report(report, output)
    return report


def _recall_plot(ranks: Retrieval) -> bytes:
    captioned = ranks.image_to_caption[ranks.image_to_caption > 0]
    return recall_plot(
        {"caption_to_image": ranks.caption_to_image, "image_to_caption": captioned},
        {
            "caption_to_image": len(ranks.image_to_caption),
            "image_to_caption": len(ranks.caption_to_image),
        },
    )


def _extremes(
    captions: Captions,
    index: DescriptorIndex,
    examples: Examples,
    images: np.ndarray,
    ranks: np.ndarray,
) -> list[Section]:
    """The best and the worst queries, each with its own image first, then what was found."""
    scores = np.einsum(
        "cd,cd->c", examples.texts, images[np.searchsorted(examples.images, examples.rows)]
    )
    order = np.lexsort((-scores, ranks))
    shown = [*order[:SHOWN_QUERIES], *order[: -SHOWN_QUERIES - 1 : -1]]
    ranked = {
        query: np.argsort(-(images @ examples.texts[query]))[:SHOWN_IMAGES] for query in shown
    }
    own = {query: int(np.searchsorted(examples.images, examples.rows[query])) for query in shown}
    needed = np.unique(np.concatenate([*ranked.values(), [*own.values()]]))
    uris = dict(zip(needed, read_uris(index.files, examples.images[needed]), strict=True))

    def tile(query: int, image: int, label: str) -> Tile:
        score = float(images[image] @ examples.texts[query])
        return Tile(uris[image], f"{label}  {score:.3f}")

    return [
        Section(
            captions.texts[examples.captions[query]],
            [tile(query, own[query], "its own image")]
            + [
                tile(query, image, f"found {place}") for place, image in enumerate(ranked[query], 1)
            ],
            note=f"rank {ranks[query]:g} of {len(images)}",
        )
        for query in shown
    ]


def _print_report(report: Mapping[str, Any], output: str) -> None:
    print(f"{report['captions']} captions, {report['images']} images; 95 % intervals in brackets")
    for name in ("caption_to_image", "image_to_caption"):
        direction = report[name]
        recalls = (
            "recall@{} {:.3f} [{:.3f}, {:.3f}]".format(
                k, direction[f"recall@{k}"], *direction[f"recall@{k}_interval"]
            )
            for k in (1, 5, 10)
        )
        median = f"median rank {direction['median_rank']:g}"
        print(f"{name.replace('_', ' ')}: {', '.join(recalls)}, {median}")
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


def main(argv: list[str] | None = None) -> NoReturn:
    """Run this job as a command."""
    command.run(build_parser(), evaluate, argv)


if __name__ == "__main__":
    main()
