"""Captioned collections of other shapes, turned into an image folder and a captions CSV."""

import csv
import io
import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from lib.datasets.archives import unpack
from lib.datasets.captions import load_captions
from lib.errors import BadInputError, MissingError
from lib.images.file_names import ENDINGS
from lib.storage import write_bytes_atomic

Pair = tuple[str, str]  # image, as a path relative to the image folder; caption


@dataclass(frozen=True)
class CaptionedFolder:
    """An image folder and the captions of it, as `load_captions` reads them."""

    images: Path
    captions: Path
    image_count: int
    caption_count: int
    missing: list[str]  # captioned images that are not there
    uncaptioned: int  # images that no caption names


def prepare_flickr8k(directory: Path, output: Path) -> CaptionedFolder:
    """Flickr8k where it was unpacked: the original files or Kaggle's.

    Original: `Flickr8k.token.txt` (`NAME.jpg#0<tab>caption`) and `Flicker8k_Dataset/`. Kaggle's:
    `captions.txt` (CSV of image and caption) and `Images/`. Both may lie one folder deeper.
    """
    _require_directory(directory)
    tokens = _first(directory, ("Flickr8k.token.txt", "captions.txt"))
    images = _first(directory, ("Flicker8k_Dataset", "Flickr8k_Dataset", "Images", "images"))
    if tokens is None or images is None:
        raise MissingError(
            f"{directory} is not Flickr8k: it needs Flickr8k.token.txt and Flicker8k_Dataset/ "
            "(the original), or captions.txt and Images/ (Kaggle's)"
        )
    pairs = _token_pairs(tokens) if tokens.name.endswith("token.txt") else _csv_pairs(tokens)
    return _write(list(pairs), images, output / "captions.csv")


def prepare_folder(directory: Path, captions: Path, output: Path) -> CaptionedFolder:
    """Any folder of images with a CSV of the columns image and caption, or COCO's JSON.

    `image` is a path relative to the folder, or a file name that occurs once in it.
    """
    _require_directory(directory)
    if not captions.is_file():
        raise MissingError(f"no captions at {captions}; give a CSV with the columns image, caption")
    if captions.suffix.lower() == ".csv":
        pairs = list(_csv_pairs(captions))
    else:
        loaded = load_captions(str(captions))
        names = (loaded.images[image_id].file_name for image_id in loaded.image_ids)
        pairs = list(zip(names, loaded.texts, strict=True))
    return _write(pairs, directory, output / "captions.csv")


def prepare_webdataset(shards: Sequence[Path], output: Path) -> CaptionedFolder:
    """WebDataset tar shards: members of one key are one sample.

    A sample is an image and its captions, as `.txt` (a caption a line) or `.json` (an object with
    "caption" or "captions"). Images are unpacked below `output/images/<shard>/`; a member that is
    neither is left in the archive. See `lib.datasets.archives.unpack` for what is refused.
    """
    if not shards:
        raise MissingError("no WebDataset shards were found; name .tar files")
    names = [shard.name.split(".")[0] for shard in shards]
    if len(set(names)) < len(names):
        raise BadInputError("two shards have the same name; put them together under other names")
    pairs: list[Pair] = []
    for shard, name in zip(shards, names, strict=True):
        if not shard.is_file():
            raise MissingError(f"no WebDataset shard at {shard}")
        unpack(shard, output / "images" / name, _only_images, progress=False)
        pairs += _shard_pairs(shard, name)
    return _write(pairs, output / "images", output / "captions.csv")


def _only_images(name: str) -> str | None:
    return name if PurePosixPath(name).suffix.lower() in ENDINGS else None


def _shard_pairs(shard: Path, folder: str) -> Iterator[Pair]:
    images: dict[str, str] = {}
    texts: dict[str, list[str]] = {}
    with tarfile.open(shard, "r:*") as opened:
        for member in opened:
            # WebDataset's key: the path up to the first dot of the file name.
            head, _, base = member.name.rpartition("/")
            stem, _, ending = base.partition(".")
            key = f"{head}/{stem}"
            if _only_images(member.name):
                images[key] = str(PurePosixPath(folder) / member.name)
            elif member.isreg() and ending in ("txt", "json"):
                content = opened.extractfile(member)
                assert content is not None
                texts.setdefault(key, []).extend(
                    _sample_captions(content.read(), ending, f"{shard}: {member.name}")
                )
    for key, image in images.items():
        yield from ((image, text) for text in texts.get(key, []))


def _sample_captions(content: bytes, ending: str, name: str) -> list[str]:
    try:
        if ending == "txt":
            return [line.strip() for line in content.decode().splitlines() if line.strip()]
        document = json.loads(content)
    except ValueError as error:
        raise BadInputError(f"{name} cannot be read: {error}") from error
    if not isinstance(document, dict):
        return []
    found = document.get("captions", document.get("caption"))
    texts = found if isinstance(found, list) else [found]
    return [text for text in texts if isinstance(text, str) and text.strip()]


def _token_pairs(tokens: Path) -> Iterator[Pair]:
    for number, line in enumerate(_text(tokens).splitlines(), 1):
        if not line.strip():
            continue
        image, mark, rest = line.partition("#")
        _, tab, caption = rest.partition("\t")
        if not mark or not tab:
            raise BadInputError(f"{tokens}, line {number}: NAME.jpg#0<tab>caption is expected")
        yield image, caption.strip()


def _csv_pairs(table: Path) -> Iterator[Pair]:
    try:
        rows = pd.read_csv(io.StringIO(_text(table)), dtype=str, keep_default_na=False)
    except ValueError as error:
        raise BadInputError(f"{table} cannot be read as CSV: {error}") from error
    rows.columns = rows.columns.str.strip().str.lower()
    if not {"image", "caption"} <= set(rows.columns):
        found = ", ".join(rows.columns)
        raise BadInputError(f"{table} needs the columns image and caption; it has {found[:100]}")
    return zip(rows["image"].str.strip(), rows["caption"].str.strip(), strict=True)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInputError(f"{path} is not UTF-8 text: {error}") from error


def _write(pairs: Sequence[Pair], images: Path, captions: Path) -> CaptionedFolder:
    """Write the captions of the images that are there; note those that are not."""
    there = _image_files(images)
    by_name: dict[str, str | None] = {}
    for file in there:
        name = file.rpartition("/")[2]
        by_name[name] = None if name in by_name else file
    kept: list[Pair] = []
    missing: dict[str, None] = {}
    for image, caption in pairs:
        path = image if image in there else by_name.get(image.rpartition("/")[2])
        if path is None:
            missing[image] = None
        elif caption:
            kept.append((path, caption))
    if not kept:
        example = f"; it names {next(iter(missing))}, say" if missing else ""
        raise BadInputError(f"no caption belongs to an image of {images}{example}")
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerows([("image", "caption"), *kept])
    write_bytes_atomic(str(captions), sink.getvalue().encode())
    captioned = {image for image, _ in kept}
    return CaptionedFolder(
        images, captions, len(captioned), len(kept), list(missing), len(there) - len(captioned)
    )


def _image_files(images: Path) -> set[str]:
    """Paths of all images below a folder, relative to it."""
    return {
        (Path(folder) / name).relative_to(images).as_posix()
        for folder, _, names in os.walk(images)
        for name in names
        if Path(name).suffix.lower() in ENDINGS
    }


def _first(directory: Path, names: Iterable[str]) -> Path | None:
    """The first of these names in a directory, else one folder deeper."""
    for name in names:
        for found in (directory / name, *sorted(directory.glob(f"*/{name}"))):
            if found.exists():
                return found
    return None


def _require_directory(directory: Path) -> None:
    if not directory.is_dir():
        raise MissingError(f"there is no directory {directory}")
