"""Reads the bytes of one listed image, wherever it is; transient errors are tried again."""

import random
import threading
import time
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import fsspec
import pyarrow.parquet as pq

from lib.images.decoding import ImageError
from lib.images.listing import ListedImage, content_column
from lib.storage import filesystem

ATTEMPTS = 4
FIRST_WAIT_S = 0.25  # doubled after each attempt
HTTP_STALL_S = 20.0  # without a byte
_PERMANENT = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)


def read_uri(uri: str) -> bytes:
    """Bytes of the image that a URI of the database names, for showing it: tried once.

    Raises ImageError as `read_image`.
    """
    return read_image(ListedImage("", uri, -1, "", ""), attempts=1)


def read_image(image: ListedImage, attempts: int = ATTEMPTS) -> bytes:
    """Bytes of an image.

    Raises ImageError with reason `missing`, `forbidden`, or `unreadable` where several attempts
    with growing waits in between failed.
    """
    for attempt in range(attempts):
        try:
            return _read(image)
        except _PERMANENT as error:
            reason = "forbidden" if isinstance(error, PermissionError) else "missing"
            raise ImageError(reason, _message(error)) from error
        except Exception as error:  # every kind of storage raises errors of its own
            status = getattr(error, "status", 0)
            if status in (401, 403):
                raise ImageError("forbidden", _message(error)) from error
            if attempt + 1 == attempts or (400 <= status < 500 and status not in (408, 429)):
                raise ImageError("unreadable", _message(error)) from error
            time.sleep(FIRST_WAIT_S * 2**attempt * random.uniform(0.5, 1.5))
    raise AssertionError("the last attempt returns or raises")


def _message(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(": ")


def _read(image: ListedImage) -> bytes:
    if "://" not in image.uri:
        return Path(image.uri).read_bytes()
    kind, _, rest = image.uri.partition("://")
    member, chained, source = rest.partition("::")
    if not chained:
        fs, path = _remote(image.uri)
        return fs.cat_file(path)
    if kind == "zip":
        return _archive(source).read(member)
    if kind == "tar" and image.etag:
        start = int(image.etag.partition("-")[0], 16)
        fs, path = _remote(source)
        return fs.cat_file(path, start=start, end=start + image.bytes)
    if kind == "parquet":
        group, row = (int(part) for part in member.split("/"))
        return _table(source).read(group, row)
    with fsspec.open(image.uri) as file:
        return file.read()


def _remote(uri: str) -> tuple[Any, str]:
    if uri.startswith(("http://", "https://")):
        return _http(HTTP_STALL_S), uri
    return filesystem(uri)


@lru_cache(maxsize=4)
def _http(stall_s: float) -> Any:
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=stall_s, sock_read=stall_s)
    return fsspec.filesystem("http", client_kwargs={"timeout": timeout})


@lru_cache(maxsize=4)
def _archive(source: str) -> zipfile.ZipFile:
    """An archive, opened once a process: ZipFile lets threads read in turn."""
    fs, path = _remote(source)
    return zipfile.ZipFile(fs.open(path))


@lru_cache(maxsize=4)
def _table(source: str) -> "_ContentTable":
    return _ContentTable(source)


class _ContentTable:
    """A Parquet table of image bytes; keeps the row groups last read, since rows come in order."""

    def __init__(self, source: str) -> None:
        fs, path = _remote(source)
        self._file = pq.ParquetFile(fs.open(path))
        self._column = content_column(self._file.schema_arrow)
        self._lock = threading.Lock()
        self._groups: dict[int, Any] = {}

    def read(self, group: int, row: int) -> bytes:
        """Bytes of one image."""
        with self._lock:
            if group not in self._groups:
                while len(self._groups) > 1:
                    self._groups.pop(next(iter(self._groups)))
                self._groups[group] = self._file.read_row_group(group, [self._column]).column(0)
            value = self._groups[group][row].as_py()
        content = value["bytes"] if isinstance(value, dict) else value
        return content or b""
