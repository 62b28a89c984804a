"""Train the embedder: IDF from the captions, then M and b, into DB/embedder/."""

import argparse
from typing import Any, NoReturn

from jobs import command
from lib.datasets.captions import Captions, held_out, select
from lib.embedder.fitting import FitSettings
from lib.embedder.training import TrainingReport, train
from lib.text.word_vectors import PACKAGED, load_word_vectors

HELD_OUT_SHARE = 0.1


def build_parser() -> argparse.ArgumentParser:
    """Arguments of the job."""
    made = command.parser(
        "train_embedder",
        __doc__ or "",
        "python -m jobs.train_embedder --db my.db --captions captions.json",
    )
    command.add_database(made)
    made.add_argument("--captions", required=True, metavar="FILE", help="training captions")
    made.add_argument(
        "--validation-captions",
        metavar="FILE",
        help="captions of other images, which choose the weights; "
        "default: those of 10%% of the images, by a hash of the id, held out",
    )
    made.add_argument(
        "--word-vectors",
        metavar="FILE",
        default=PACKAGED,
        help=f"GloVe or word2vec text file, or a gensim file (default: {PACKAGED})",
    )
    defaults = FitSettings()
    made.add_argument("--margin", type=float, default=defaults.margin)
    made.add_argument("--epochs", type=int, default=defaults.epochs)
    made.add_argument(
        "--patience", type=int, default=defaults.patience, help="epochs without improvement"
    )
    made.add_argument("--batch-size", type=int, default=defaults.batch_size)
    made.add_argument("--seed", type=int, default=defaults.seed)
    made.add_argument("--workers", type=int, default=1, help="Ray Train workers (default: 1)")
    return made


def train_embedder(
    options: argparse.Namespace, parts: tuple[Captions, Captions] | None = None
) -> dict[str, Any]:
    """Train, write the embedder, and return the summary.

    `parts`: training and validation captions where they are loaded already.
    """
    from lib.cluster import connect

    training, validation = parts or load_parts(options.captions, options.validation_captions)
    vectors = load_word_vectors(options.word_vectors)
    settings = FitSettings(
        margin=options.margin,
        epochs=options.epochs,
        patience=options.patience,
        batch_size=options.batch_size,
        seed=options.seed,
    )
    with connect():
        import ray

        report = train(
            options.db,
            training,
            validation,
            vectors,
            options.word_vectors,
            settings,
            rejoin=options.validation_captions is None,
            workers=options.workers,
            use_gpu=ray.cluster_resources().get("GPU", 0) >= options.workers,
        )
    _print_summary(report, options.db)
    return {"db": options.db, "digest": report.digest, **report.metadata, "history": report.history}


def _print_summary(report: TrainingReport, db: str) -> None:
    counts, chosen = report.metadata["captions"], report.metadata["chosen"]
    print(
        f"{counts['training_images']} training images with {counts['training_captions']} captions, "
        f"{counts['validation_images']} validation images with {counts['validation_captions']}"
    )
    if counts["captions_of_absent_images"]:
        print(f"left out: {counts['captions_of_absent_images']} captions of images not in {db}")
    if counts["captions_without_known_word"]:
        print(f"left out: {counts['captions_without_known_word']} captions without a known word")
    bare = counts["images_in_database"] - counts["images_with_captions"]
    if bare:
        print(f"not used: {bare} images of {db} that have no caption in these files")
    print(
        f"kept: {chosen['method']} (on validation images ranking gained "
        f"{chosen['validation_gain']:+.4f} ± {chosen['validation_gain_standard_error']:.4f} nDCG)"
    )
    print(f"embedder {report.digest[:12]} written to {db}/embedder")


def load_parts(captions: str, validation: str | None) -> tuple[Captions, Captions]:
    """Training and validation captions from two files, or from one by holding images out."""
    training = command.load_captions(captions)
    return (training, command.load_captions(validation)) if validation else split(training)


def split(training: Captions) -> tuple[Captions, Captions]:
    """Training captions without those of some images, and those, for validation."""
    kept_apart = held_out(training.images, HELD_OUT_SHARE)
    return (
        select(training, set(training.images) - kept_apart),
        select(training, kept_apart),
    )


def main(argv: list[str] | None = None) -> NoReturn:
    """Run this job as a command."""
    command.run(build_parser(), train_embedder, argv)


if __name__ == "__main__":
    main()
