"""Get data: by default a drawn sample that needs no download, else real sources by name."""

import argparse
import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobs import command
from lib.errors import BadArgumentError, MissingError

WITHOUT = (
    "Without it: `python -m jobs.prepare_data` draws a captioned sample, and the packaged word "
    "vectors and `--backbone auto` (packaged weights) need no download"
)

_RECORD = "drawn.json"  # what the sample in its directory was drawn with


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this job."""
    arguments = command.parser(
        "Draw the sample collection, or fetch real data. What is there is not fetched again; what "
        "was interrupted goes on.",
        "python -m jobs.prepare_data --coco val2017 --limit 500",
        "--seed",
    )
    arguments.add_argument(
        "--output", metavar="DIR", help="where to (default data/sample for the sample, else data)"
    )
    arguments.add_argument(
        "--count", type=command.at_least(1), default=1200, help="images of the drawn sample"
    )
    arguments.add_argument(
        "--coco", choices=["val2017", "train2017", "val2014", "train2014"], help="MS-COCO split"
    )
    arguments.add_argument(
        "--limit",
        type=command.at_least(1),
        metavar="N",
        help="of COCO, only the first N images by id",
    )
    arguments.add_argument(
        "--glove", type=int, choices=[50, 100, 200, 300], help="GloVe 6B word vectors"
    )
    arguments.add_argument("--weights", metavar="MODEL", help="torchvision's weights: resnet18, …")
    arguments.add_argument(
        "--base-url",
        metavar="URL_OR_DIR",
        help="mirror or local copy of the official files, under the same paths or names",
    )
    arguments.add_argument("--flickr8k", metavar="DIR", help="Flickr8k, unpacked")
    arguments.add_argument("--folder", metavar="DIR", help="your own images, with --captions")
    arguments.add_argument(
        "--captions",
        metavar="FILE",
        help="CSV with the columns image, caption; or COCO's JSON; or a folder",
    )
    arguments.add_argument("--webdataset", nargs="+", metavar="TAR", help="WebDataset shards")
    return arguments


def prepare_data(options: argparse.Namespace) -> Mapping[str, Any]:
    """Run the job; returns its summary."""
    _check(options)
    output = Path(options.output or "data")
    summary: dict[str, Any] = {}
    try:
        if options.coco:
            summary["coco"] = _coco(options, output / "coco")
        if options.glove:
            summary["glove"] = _glove(options, output / "glove")
        if options.weights:
            summary["weights"] = _weights(options)
    except MissingError as error:
        raise MissingError(f"{error}. {WITHOUT}") from error
    for name in ("flickr8k", "folder", "webdataset"):
        if getattr(options, name):
            summary[name] = _captioned(options, name, output / name)
    if not summary:
        summary["sample"] = _sample(options)
    return summary


def _check(options: argparse.Namespace) -> None:
    if options.limit is not None and not options.coco:
        raise BadArgumentError("--limit goes with --coco")
    if bool(options.folder) != bool(options.captions):
        raise BadArgumentError("--folder and --captions go together")
    if options.base_url and not (options.coco or options.glove or options.weights):
        raise BadArgumentError("--base-url goes with --coco, --glove or --weights")


def _sample(options: argparse.Namespace) -> dict[str, Any]:
    from lib.datasets.sample import draw_sample
    from lib.storage import write_json_atomic

    output = Path(options.output or "data/sample")
    drawn_with = {"count": options.count, "seed": options.seed, "program": _program()}
    summary = _drawn_already(output, drawn_with)
    if summary:
        print(f"the sample in {output} is there already, of the same count and seed")
        return summary
    drawn = draw_sample(output, options.count, options.seed)
    print(f"{drawn.images} images with {drawn.captions} captions drawn in {output}")
    _next_step(output / "images", output / "captions_train.json", output)
    summary = {
        "images": str(output / "images"),
        "image_count": drawn.images,
        "caption_count": drawn.captions,
    }
    write_json_atomic(str(output / _RECORD), {**drawn_with, **summary})
    return summary


def _drawn_already(output: Path, drawn_with: dict[str, Any]) -> dict[str, Any] | None:
    """What an earlier run with this count, seed and program reported; None where there is none."""
    from lib.storage import exists, read_json

    if not exists(str(output / _RECORD)):
        return None
    record = read_json(str(output / _RECORD))
    whole = len(list((output / "images").glob("*.jpg"))) == drawn_with["count"]
    if not whole or {name: record.pop(name, None) for name in drawn_with} != drawn_with:
        return None
    return record | {"images": str(output / "images")}


def _program() -> str:
    """Digest of the code that draws: another version draws other pictures."""
    import lib.datasets.sample

    digest = hashlib.sha256()
    for file in sorted(Path(lib.datasets.sample.__path__[0]).glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _coco(options: argparse.Namespace, output: Path) -> dict[str, Any]:
    from lib.datasets.coco import prepare_coco

    done = prepare_coco(options.coco, output, options.limit, options.base_url)
    fetched = done.downloads
    print(
        f"COCO {options.coco}: {done.image_count} images in {done.images}, captions in "
        f"{done.captions}; {fetched.bytes / 1e6:.1f} MB fetched in {fetched.seconds:.0f} s"
    )
    _next_step(done.images, done.captions, output)
    return {
        "images": str(done.images),
        "captions": str(done.captions),
        "image_count": done.image_count,
        "files_fetched": fetched.fetched,
        "bytes_fetched": fetched.bytes,
    }


def _glove(options: argparse.Namespace, output: Path) -> dict[str, Any]:
    from lib.datasets.pretrained import prepare_glove
    from lib.text.word_vectors import load_word_vectors

    path = prepare_glove(options.glove, output, options.base_url)
    print(f"reading {path} once, so that it loads at once from now on …", file=sys.stderr)
    vectors = load_word_vectors(str(path))
    print(
        f"GloVe: {len(vectors)} words of {vectors.vector_size} dimensions; use them with "
        f"--word-vectors {path}"
    )
    return {"file": str(path), "words": len(vectors), "dimension": int(vectors.vector_size)}


def _weights(options: argparse.Namespace) -> dict[str, Any]:
    from lib.datasets.pretrained import prepare_weights

    path = prepare_weights(options.weights, options.base_url)
    print(f"weights of {options.weights}: {path}, where --backbone {options.weights} finds them")
    return {"file": str(path)}


def _captioned(options: argparse.Namespace, name: str, output: Path) -> dict[str, Any]:
    from lib.datasets.caption_formats import prepare_flickr8k, prepare_folder, prepare_webdataset

    if name == "flickr8k":
        done = prepare_flickr8k(Path(options.flickr8k), output)
    elif name == "folder":
        done = prepare_folder(Path(options.folder), options.captions, output)
    else:
        done = prepare_webdataset([Path(shard) for shard in options.webdataset], output)
    command.note_all(done.notes)
    print(f"{name}: {done.image_count} images with {done.caption_count} captions")
    if done.missing:
        print(
            f"left out: {len(done.missing)} captioned images are not there ({done.missing[0]}, …)"
        )
    if done.uncaptioned:
        print(f"{done.uncaptioned} images have no caption; they are searched, not learned from")
    _next_step(done.images, done.captions, output)
    return {**vars(done), "missing": len(done.missing)}


def _next_step(images: Path, captions: Path, output: Path) -> None:
    print(f"next: python -m jobs.pipeline --images {images} --captions {captions} --db {output}.db")


main = command.main(build_parser, prepare_data)

if __name__ == "__main__":
    main()
