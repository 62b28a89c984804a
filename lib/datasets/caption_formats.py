"""Captioned collections of other shapes, turned into an image folder and a captions CSV."""

import csv
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lib.datasets.archives import unpack
from lib.datasets.captions import Captions, load_captions, select
from lib.errors import BadInputError, MissingError
from lib.images.file_names import is_image
from lib.storage import write_bytes_atomic


@dataclass(frozen=True)
class CaptionedFolder:
    """An image folder and the captions of it, as `load_captions` reads them."""

    images: Path
    captions: Path
    image_count: int
    caption_count: int
    missing: list[str]  # captioned images that are not there
    uncaptioned: int  # images that no caption names
    notes: list[str]  # what was left out of the caption files, or taken otherwise than written


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
    return _write([(load_captions(str(tokens)), "")], images, output / "captions.csv")


def prepare_folder(directory: Path, captions: str, output: Path) -> CaptionedFolder:
    """Any folder of images with captions of any shape and place that `load_captions` reads."""
    _require_directory(directory)
    return _write([(load_captions(captions), "")], directory, output / "captions.csv")


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
    parts: list[tuple[Captions, str]] = []
    for shard, name in zip(shards, names, strict=True):
        if not shard.is_file():
            raise MissingError(f"no WebDataset shard at {shard}")
        unpack(shard, output / "images" / name, lambda member: member if is_image(member) else None)
        parts.append((load_captions(str(shard)), f"{name}/"))
    return _write(parts, output / "images", output / "captions.csv")


def _write(parts: Iterable[tuple[Captions, str]], images: Path, target: Path) -> CaptionedFolder:
    """Write the captions of the images that are there, and note those that are not.

    Each part of the captions is about the images whose path begins with its folder.
    """
    there = sorted(
        (Path(folder) / name).relative_to(images).as_posix()
        for folder, _, names in os.walk(images)
        for name in names
        if is_image(name)
    )
    kept: list[tuple[str, str]] = []
    missing: list[str] = []
    notes: list[str] = []
    for whole, folder in parts:
        notes += whole.notes
        captions = select(whole, set(whole.image_ids))
        paths = captions.match((path, path) for path in there if path.startswith(folder)).image_ids
        pairs = zip(captions.image_ids, captions.texts, strict=True)
        kept += [(paths[image_id], text) for image_id, text in pairs if image_id in paths]
        missing += [image.file_name for key, image in captions.images.items() if key not in paths]
    if not kept:
        example = f"; it names {missing[0]}, say" if missing else ""
        raise BadInputError(f"no caption belongs to an image of {images}{example}")
    sink = io.StringIO()
    csv.writer(sink, lineterminator="\n").writerows([("image", "caption"), *kept])
    write_bytes_atomic(str(target), sink.getvalue().encode())
    captioned = len({image for image, _ in kept})
    bare = len(there) - captioned
    return CaptionedFolder(images, target, captioned, len(kept), missing, bare, notes)


def _first(directory: Path, names: Iterable[str]) -> Path | None:
    """The first of these names in a directory, else one folder deeper."""
    places = (p for name in names for p in (directory / name, *sorted(directory.glob(f"*/{name}"))))
    return next((place for place in places if place.exists()), None)


def _require_directory(directory: Path) -> None:
    if not directory.is_dir():
        raise MissingError(f"there is no directory {directory}")
