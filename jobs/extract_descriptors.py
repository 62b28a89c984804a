"""Describe images: a backbone's descriptor of each, in Parquet files under DB/descriptors."""

import argparse
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from jobs import command
from lib.errors import BadArgumentError


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this job."""
    arguments = command.parser(
        "extract_descriptors",
        "Describe every image of a source that the database does not describe yet.",
        "python -m jobs.extract_descriptors --images photos/ --db demo/db",
    )
    arguments.add_argument(
        "--images", required=True, metavar="DIR_OR_URL", help="directory that holds the images"
    )
    command.add_database(arguments)
    arguments.add_argument("--backbone", default="resnet18", metavar="NAME", help="resnet18, …")
    arguments.add_argument("--weights", metavar="FILE_OR_URL", help="state dict of the backbone")
    arguments.add_argument(
        "--captions", action="append", default=[], metavar="FILE", help="names the images' ids"
    )
    arguments.add_argument("--precision", choices=["float32", "float16"], default="float32")
    arguments.add_argument("--shard-size", type=int, default=1000, metavar="N")
    arguments.add_argument("--cpus-per-worker", type=int, default=1, metavar="N")
    arguments.add_argument("--gpus-per-worker", type=float, default=0.0, metavar="N")
    arguments.add_argument("--prune", action="store_true", help="drop images no longer there")
    arguments.add_argument("--retry-failed", action="store_true", help="try failed images again")
    return arguments


def extract_descriptors(options: argparse.Namespace) -> Mapping[str, Any]:
    """Run the job; returns its summary."""
    from lib.backbones import load_backbone
    from lib.cluster import connect
    from lib.extraction import Settings, extract

    if options.shard_size < 1:
        raise BadArgumentError("--shard-size must be at least 1")
    settings = Settings(
        precision=options.precision,
        shard_size=options.shard_size,
        cpus_per_worker=options.cpus_per_worker,
        gpus_per_worker=options.gpus_per_worker,
    )
    backbone = load_backbone(options.backbone, options.weights)
    ids = image_ids(options.captions)
    with connect():
        run = extract(
            options.images,
            options.db,
            backbone,
            settings,
            ids,
            prune=options.prune,
            retry_failed=options.retry_failed,
        )
    print(
        f"{run.described} images described and {run.failed} failed in {run.seconds:.1f} s; "
        f"{run.already_described} were already described, {run.already_failed} already failed"
    )
    return dataclasses.asdict(run) | {"backbone": backbone.name}


def image_ids(caption_files: list[str]) -> Callable[[str], str]:
    """What gives an image's id: the captions' id of its path or file name, else its path."""
    from lib.captions import load_captions

    ids: dict[str, str] = {}
    for file in caption_files:
        ids.update(load_captions(file).ids_by_file_name())
    return lambda path: ids.get(path) or ids.get(path.rpartition("/")[2]) or path


if __name__ == "__main__":
    command.run(build_parser(), extract_descriptors)
