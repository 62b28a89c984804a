"""Reads the bytes of one listed image, wherever it is; transient errors are tried again."""

import os
import posixpath
import random
import re
import stat
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.asyn import sync
from fsspec.implementations.local import LocalFileSystem

from lib.errors import BadInputError
from lib.images.addresses import PrivateAddressError, TooLargeError, get, open_filesystem
from lib.images.archives import zip_members
from lib.images.containers import content_column
from lib.images.decoding import ImageError
from lib.images.listed import ListedImage

MAX_FILE_BYTES = 256_000_000
DEADLINE_S = 60.0  # for one image, all attempts together
ATTEMPTS = 4
FIRST_WAIT_S = 0.25  # doubled after each attempt
_PERMANENT = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
_MEMBERS = ("zip", "tar", "parquet")  # URIs of images in a file: kind://member::source
_MEMBER = re.compile(r"(\d+)\+(\d+)/")  # offset and bytes of a tar's member
# Rows of a table come nearly in order: what was decoded last is kept, up to so many bytes.
_BATCH_BYTES, _KEPT_BYTES = 8_000_000, 128_000_000


def read_uri(uri: str) -> bytes:
    """Bytes of the image that a URI of the database names, for showing it: tried once.

    Raises ImageError as `read_image`.
    """
    return read_image(ListedImage("", uri, -1, "", ""), attempts=1)


def source_of(uri: str) -> str:
    """The file in which an image lies: itself, or an archive or a table."""
    kind, _, rest = uri.partition("://")
    return rest.partition("::")[2] if kind in _MEMBERS else uri


def read_image(image: ListedImage, attempts: int = ATTEMPTS) -> bytes:
    """Bytes of an image.

    Raises ImageError with reason `missing`, `forbidden`, `too_large` (over MAX_FILE_BYTES), or
    `unreadable` where it is no regular file, or several attempts with growing waits in between
    failed, or DEADLINE_S passed.
    """
    if image.bytes > MAX_FILE_BYTES:
        raise _too_large(f"{image.bytes:,} bytes")
    if not image.uri:
        raise ImageError("missing", "the image has no address, as where descriptors are imported")
    end = time.monotonic() + DEADLINE_S
    source = source_of(image.uri)
    if "://" not in source or source.startswith("file://"):
        attempts = 1  # a disk does not answer otherwise the next time
    for attempt in range(attempts):
        try:
            return _read(image, end - time.monotonic())
        except TooLargeError as error:
            raise _too_large(str(error)) from error
        except PrivateAddressError as error:
            raise ImageError("forbidden", str(error)) from error
        except _PERMANENT as error:
            reason = "forbidden" if isinstance(error, PermissionError) else "missing"
            raise ImageError(reason, _message(error)) from error
        except ImageError:
            raise
        except ValueError as error:  # a URL that cannot be one
            raise ImageError("unreadable", _message(error)) from error
        except Exception as error:  # every kind of storage raises errors of its own
            status = getattr(error, "status", 0)
            if status in (401, 403):
                raise ImageError("forbidden", _message(error)) from error
            wait = FIRST_WAIT_S * 2**attempt * random.uniform(0.5, 1.5)
            asked = (getattr(error, "headers", None) or {}).get("Retry-After", "")
            wait = max(wait, float(asked)) if asked.isdecimal() else wait
            lasting = 400 <= status < 500 and status not in (408, 429)
            if lasting or attempt + 1 == attempts or time.monotonic() + wait > end:
                raise ImageError("unreadable", _message(error)) from error
            time.sleep(wait)
    raise AssertionError("the last attempt returns or raises")


def _too_large(size: str) -> ImageError:
    return ImageError("too_large", f"the file has {size}; at most {MAX_FILE_BYTES:,} are read")


def _message(error: Exception) -> str:
    if isinstance(error, BadInputError):
        return str(error)
    if isinstance(error, TimeoutError):
        return f"{type(error).__name__}: no whole answer in {DEADLINE_S:g} s"
    return f"{type(error).__name__}: {error}".removesuffix(": ")


def _read(image: ListedImage, seconds: float) -> bytes:
    kind, _, rest = image.uri.partition("://")
    if kind.lower() in ("http", "https"):
        return get(image.uri, MAX_FILE_BYTES, seconds)
    if kind not in _MEMBERS:
        return _read_range(image.uri, seconds, known=image.bytes > 0)
    member, _, source = rest.partition("::")
    if kind == "zip":
        return _Zip(source, _state(source)).read(member)
    if kind == "parquet":
        group, row = (int(part) for part in member.split("/"))
        content, elsewhere = _ContentTable(source, _state(source)).read(group, row)
        if content is not None:
            return content
        if not elsewhere or elsewhere.partition("://")[0] in _MEMBERS:
            raise ImageError("missing", f"{source} has no image in row {row} of group {group}")
        if "://" not in elsewhere:  # beside the table, wherever this process works
            elsewhere = posixpath.join(posixpath.dirname(source), elsewhere)
        return _read(image._replace(uri=elsewhere), seconds)
    place = _MEMBER.match(member)
    if place is None:  # as databases before offsets have it
        return _search_tar(source, member)
    offset, size = (int(number) for number in place.groups())
    content = _read_range(source, seconds, offset, size)
    if len(content) < size:
        raise ImageError("unreadable", f"{source} is shorter than it was when it was listed")
    return content


def _read_range(
    uri: str, seconds: float, start: int = 0, size: int | None = None, known: bool = False
) -> bytes:
    """Bytes of a file: all, or `size` from `start`. known: the file was listed, and not empty."""
    fs, path = open_filesystem(uri)
    if (size or 0) > MAX_FILE_BYTES:
        raise TooLargeError(f"{size:,} bytes")
    if isinstance(fs, LocalFileSystem):
        with _open_regular(path) as file:
            whole = os.fstat(file.fileno()).st_size
            if size is None and whole > MAX_FILE_BYTES:
                raise TooLargeError(f"{whole:,} bytes")
            file.seek(start)
            # Asked for more than there is, Python maps memory for all of that and most of it back.
            return file.read((whole or MAX_FILE_BYTES) if size is None else size)
    end: int | None = MAX_FILE_BYTES + 1 if size is None else start + size
    if size is None and not known:
        whole = fs.size(path) or 0
        if whole > MAX_FILE_BYTES:
            raise TooLargeError(f"{whole:,} bytes")
        # Without an end stores ask for the size again; but an empty file has no range.
        end = end if whole else None
    if fs.async_impl:
        content = sync(fs.loop, fs._cat_file, path, start=start or None, end=end, timeout=seconds)
    else:
        content = fs.cat_file(path, start=start, end=end)
    if len(content) > MAX_FILE_BYTES:
        raise TooLargeError(f"more than {MAX_FILE_BYTES:,} bytes")
    return content


def _open_regular(path: str) -> Any:
    """A regular file, opened. A pipe, which would be waited for, raises ImageError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise ImageError("unreadable", f"{path} is no regular file")
    return os.fdopen(descriptor, "rb", buffering=0)


def _search_tar(source: str, member: str) -> bytes:
    fs, path = open_filesystem(source, DEADLINE_S)
    with fs.open(path) as file, tarfile.open(fileobj=file, mode="r:") as archive:
        try:
            content = archive.extractfile(member)
        except KeyError as error:
            raise FileNotFoundError(f"{source} has no member {member}") from error
        return content.read(MAX_FILE_BYTES) if content else b""


def _state(source: str) -> tuple[int, ...]:
    """What tells a file on this machine from the one that was opened before; empty elsewhere."""
    fs, path = open_filesystem(source)
    if not isinstance(fs, LocalFileSystem):
        return ()
    status = os.stat(path)  # noqa: PTH116
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


@lru_cache(maxsize=4)
class _Zip:
    """A zip archive, opened once a process and `state`: ZipFile lets threads read in turn."""

    def __init__(self, source: str, state: tuple[int, ...]) -> None:
        fs, path = open_filesystem(source, DEADLINE_S)
        self._archive = zipfile.ZipFile(fs.open(path))
        self._members = zip_members(self._archive)

    def read(self, name: str) -> bytes:
        """Bytes of a member by its name as `lib.images.containers.member_uri` writes it."""
        written = (unquote(name), name, unquote(name).replace("\\", "/"))  # older databases, too
        member = next((self._members[each] for each in written if each in self._members), None)
        if member is None:
            raise FileNotFoundError(f"the archive has no member {name}")
        if member.flag_bits & 1:
            raise ImageError("forbidden", f"{name} is locked by a password")
        if member.file_size > MAX_FILE_BYTES:
            raise TooLargeError(f"{member.file_size:,} bytes")
        try:
            with self._archive.open(member) as file:
                return file.read(MAX_FILE_BYTES)
        except NotImplementedError as error:
            method = f"method {member.compress_type}"
            raise ImageError("unsupported", f"{name} is packed by {method}: unpack it") from error


@lru_cache(maxsize=4)
class _ContentTable:
    """A Parquet table of image bytes in a `state`, read some megabytes of rows at a time."""

    def __init__(self, source: str, state: tuple[int, ...]) -> None:
        fs, path = open_filesystem(source, DEADLINE_S)
        # Page by page: a row group may be larger than memory.
        self._file = pq.ParquetFile(fs.open(path), pre_buffer=False, buffer_size=1 << 20)
        self._column = content_column(self._file.schema_arrow)
        self._lock = threading.Lock()
        self._group = -1
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._next = 0  # the first row that is not decoded yet
        self._kept: dict[int, pa.Array] = {}  # by the number of their first row

    def read(self, group: int, row: int) -> tuple[bytes | None, str | None]:
        """Bytes of one image, or, where a row has none (Hugging Face), the path that it has."""
        with self._lock:
            value = self._value(group, row)
        return (value["bytes"], value.get("path")) if isinstance(value, dict) else (value, None)

    def _value(self, group: int, row: int) -> Any:
        while True:
            for first, rows in self._kept.items():
                if group == self._group and first <= row < first + len(rows):
                    return rows[row - first].as_py()
            if group != self._group or row < self._next:
                self._restart(group)
            rows = next(self._batches).column(0)
            self._kept[self._next] = rows
            self._next += len(rows)
            while (
                len(self._kept) > 1
                and sum(rows.nbytes for rows in self._kept.values()) > _KEPT_BYTES
            ):
                del self._kept[next(iter(self._kept))]

    def _restart(self, group: int) -> None:
        about = self._file.metadata.row_group(group)
        rows = max(1, min(256, _BATCH_BYTES * about.num_rows // max(1, about.total_byte_size)))
        self._batches = self._file.iter_batches(rows, row_groups=[group], columns=[self._column])
        self._group, self._next, self._kept = group, 0, {}
