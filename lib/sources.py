"""Where images come from: lists what a directory, glob, archive, table or URL holds."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from fsspec.implementations.local import LocalFileSystem

from lib.errors import BadInputError, MissingError
from lib.images import ImageError
from lib.storage import filesystem

ENDINGS = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".gif",
        ".bmp",
        ".webp",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".avif",
        ".jp2",
        ".ico",
    ]
)


class ListedImage(NamedTuple):
    """One listed image; `bytes` is -1 and `etag` empty where the source does not tell."""

    path: str  # relative to the source
    uri: str  # what opens it
    bytes: int
    etag: str
    image_id: str


def list_images(source: str) -> Iterator[ListedImage]:
    """The images of a source, in no particular order.

    Raises MissingError where the source is not there, BadInputError where it is of no known kind.
    """
    fs, path = filesystem(source)
    if isinstance(fs, LocalFileSystem) and not any(mark in path for mark in "*?["):
        root = Path(path)
        if not root.exists():
            raise MissingError(f"no images at {source}: there is no such file or directory")
        if root.is_dir():
            return _walk(str(root), "")
    raise BadInputError(f"{source} is no directory")


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in ENDINGS


def _walk(root: str, below: str) -> Iterator[ListedImage]:
    with os.scandir(os.path.join(root, below)) as entries:
        for entry in entries:
            path = f"{below}{entry.name}"
            if entry.is_dir():
                yield from _walk(root, f"{path}/")
            elif _is_image(entry.name):
                status = entry.stat()
                yield ListedImage(path, entry.path, status.st_size, f"{status.st_mtime_ns:x}", path)


def read_image(uri: str) -> bytes:
    """Bytes of an image by its URI. Raises ImageError."""
    try:
        if "://" not in uri:
            return Path(uri).read_bytes()
        fs, path = filesystem(uri)
        return fs.cat_file(path)
    except OSError as error:
        raise ImageError("unreadable", str(error)) from error
