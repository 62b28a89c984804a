"""Train the embedder, M and b, into DB/embedder/: from captions, or from class names alone."""

import argparse
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from jobs import command
from lib.datasets.captions import Captions, held_out, select
from lib.errors import BadArgumentError

if TYPE_CHECKING:  # PyTorch, seconds: not for --help, a wrong option, or Ctrl-C right away
    from lib.embedder.training import TrainingReport

HELD_OUT_SHARE = 0.1


def build_parser() -> argparse.ArgumentParser:
    """Arguments of the job."""
    arguments = command.parser(
        __doc__,
        "python -m jobs.train_embedder --db my.db --captions captions.json",
        "--db --weights --word-vectors --seed",
    )
    arguments.add_argument(
        "--captions",
        metavar="FILE",
        help="training captions; without them the names of the network's classes teach alone",
    )
    arguments.add_argument(
        "--start",
        metavar="DB_OR_FILE",
        help="an embedder made elsewhere to start from, instead of the names of classes",
    )
    arguments.add_argument(
        "--validation-captions",
        metavar="FILE",
        help="captions of other images, which choose the weights; "
        "default: those of 10%% of the images, by a hash of the id, held out",
    )
    for name, kind, what in (
        ("--margin", float, None),
        ("--epochs", int, None),
        ("--patience", int, "epochs without improvement"),
        ("--batch-size", int, None),
    ):
        arguments.add_argument(name, type=kind, default=argparse.SUPPRESS, help=what)
    arguments.add_argument("--workers", type=int, default=1, help="Ray Train workers (default: 1)")
    return arguments


def train_embedder(options: argparse.Namespace) -> dict[str, Any]:
    """Run the job; returns its summary."""
    from lib.embedder.fitting import FitSettings

    training, validation = load_parts(options.captions, options.validation_captions)
    chosen = {field.name for field in fields(FitSettings)} & vars(options).keys()
    settings = FitSettings(**{name: getattr(options, name) for name in chosen})
    return teach(
        options.db,
        options.word_vectors,
        training=training,
        validation=validation,
        settings=settings,
        rejoin=options.validation_captions is None,
        workers=options.workers,
        start=options.start,
        weights=options.weights,
    )


def teach(db: str, word_vectors: str | None, **options: Any) -> dict[str, Any]:
    """Train, tell what was done, and return it; `options` go to `lib.embedder.training.train`."""
    from lib.embedder.training import train
    from lib.text.word_vectors import PACKAGED, load_word_vectors

    vectors = load_word_vectors(word_vectors)
    report = train(db, vectors=vectors, word_vectors_source=word_vectors or PACKAGED, **options)
    _print_summary(report, db)
    return {"db": db, "digest": report.digest, **report.metadata, "history": report.history}


def _print_summary(report: "TrainingReport", db: str) -> None:
    from lib.embedder.closed_form import MIN_JUDGES
    from lib.embedder.fitting import MIN_VALIDATION_IMAGES

    counts, chosen = report.metadata["captions"], report.metadata["chosen"]
    print(f"prior: {report.metadata['prior']}")
    if chosen["method"] == "prior alone":
        print(
            f"no captions: {counts['images_in_database']} images, taught by the prior alone. "
            "To make it better: captions for some images (--captions FILE), or an embedder from "
            "a captioned collection (--start DB_OR_FILE)"
        )
        print(f"embedder {report.digest[:12]} written to {db}/embedder")
        return
    print(
        f"{counts['training_images']} training images with {counts['training_captions']} captions, "
        f"{counts['validation_images']} validation images with {counts['validation_captions']}"
    )
    for name, reason in (
        ("captions_of_absent_images", f"captions of images not in {db}"),
        ("captions_without_known_word", "captions without a known word"),
        ("repeated_captions", "captions that their image has twice"),
        ("copies_of_training_images", "validation images that are copies of training images"),
    ):
        if counts[name]:
            print(f"left out: {counts[name]} {reason}")
    bare = counts["images_in_database"] - counts["images_with_captions"]
    untaught = report.metadata["prior"].startswith("none")
    if bare:
        knows = "nothing was learnt from them" if untaught else "the prior alone knows them"
        print(f"{bare} images of {db} have no caption to learn from: {knows}")
    if counts["images_with_captions"] < MIN_JUDGES:
        print(
            f"captions of only {counts['images_with_captions']} images: too few to judge by (from "
            f"{MIN_JUDGES} on); "
            + ("what is learnt from them is mostly chance" if untaught else "the prior decides")
        )
    ranking = f"ranking not tried: it takes {MIN_VALIDATION_IMAGES} validation images and epochs"
    if len(report.history) > 1:
        ranking = (
            f"on validation images ranking gained {chosen['validation_gain']:+.4f} ± "
            f"{chosen['validation_gain_standard_error']:.4f} nDCG"
        )
    print(f"kept: {chosen['method']} ({ranking})")
    print(f"embedder {report.digest[:12]} written to {db}/embedder")


def load_parts(
    captions: str | None, validation: str | None
) -> tuple[Captions | None, Captions | None]:
    """Training and validation captions from two files, or from one by holding images out."""
    if captions is None:
        if validation:
            raise BadArgumentError("--validation-captions judge what --captions teach: give both")
        return None, None
    training = command.load_captions(captions)
    return (training, command.load_captions(validation)) if validation else split(training)


def split(training: Captions) -> tuple[Captions, Captions]:
    """Training captions without those of some images, and those, for validation."""
    from lib.embedder.closed_form import MIN_JUDGES

    captioned = set(training.image_ids)
    kept_apart = held_out(captioned, HELD_OUT_SHARE)
    if len(captioned) - len(kept_apart) < MIN_JUDGES:
        kept_apart = set()
    return select(training, captioned - kept_apart), select(training, kept_apart)


main = command.main(build_parser, train_embedder)

if __name__ == "__main__":
    main()
