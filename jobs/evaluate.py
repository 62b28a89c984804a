"""Evaluate a database: how well captions find their images among those that a file names."""

import argparse
from typing import Any

import numpy as np

from jobs import command
from lib.captions import load_captions
from lib.descriptors import index_descriptors, read_descriptors
from lib.errors import BadInputError
from lib.evaluation import retrieval_report
from lib.examples import match_captions
from lib.schemas import require_same
from lib.semantic_space import load_semantic_space


def build_parser() -> argparse.ArgumentParser:
    """Arguments of the job."""
    made = command.parser(
        "evaluate",
        __doc__ or "",
        "python -m jobs.evaluate --db my.db --captions test_captions.json",
    )
    command.add_database(made)
    made.add_argument(
        "--captions", required=True, metavar="FILE", help="captions of images unseen in training"
    )
    made.add_argument("--word-vectors", metavar="FILE", help="default: those of training")
    made.add_argument("--seed", type=int, default=0, help="of the triples and the intervals")
    return made


def evaluate(options: argparse.Namespace) -> dict[str, Any]:
    """Embed the named images and their captions, and report retrieval in both directions."""
    captions = load_captions(options.captions)
    space = load_semantic_space(options.db, options.word_vectors)
    index = index_descriptors(options.db)
    require_same(
        "the embedder's and the descriptors' origin",
        space.provenance,
        index.provenance,
        "Train anew with jobs.train_embedder",
    )
    examples = match_captions(captions, index, space.text)
    if not len(examples.rows):
        raise BadInputError(
            f"no captions for any image: none of the {len(captions)} captions of "
            f"{options.captions} names an image in {options.db}/descriptors"
        )
    rows, caption_to_row = np.unique(examples.rows, return_inverse=True)
    images = space.se_image(read_descriptors(index.files, rows))
    report = retrieval_report(examples.texts, images, caption_to_row, options.seed)
    report["captions_of_absent_images"] = examples.absent
    report["captions_without_known_word"] = examples.wordless
    report["embedder"] = space.digest
    for name in ("caption_to_image", "image_to_caption"):
        direction = report[name]
        print(
            f"{name.replace('_', ' ')}: "
            + ", ".join(
                f"{key} {value:.3f}" for key, value in direction.items() if "interval" not in key
            )
        )
    print(f"images {report['images']}, captions {report['captions']}")
    print(f"triple accuracy {report['triple_accuracy']:.3f} (uniform bad images)")
    return report


if __name__ == "__main__":
    command.run(build_parser(), evaluate)
