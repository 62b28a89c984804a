"""A listed image, as a row and in tables of such rows."""

import os
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem

from lib.storage import is_text

TABLE_ROWS = 250_000  # of a listing, at a time
BATCH_ROWS = 65_536  # of a table, as Python objects or at one read


class ListedImage(NamedTuple):
    """One listed image."""

    path: str  # relative to the source; what identifies the image in it
    uri: str  # what opens it
    bytes: int  # -1 where the source does not tell
    etag: str  # the version that the source tells, empty where it tells none
    image_id: str


LISTED = pa.schema(
    [(name, pa.int64() if name == "bytes" else pa.string()) for name in ListedImage._fields]
)


def tabulate(items: Iterable[ListedImage | pa.Table]) -> Iterator[pa.Table]:
    """Images and tables of them as tables of LISTED, of TABLE_ROWS or little more."""
    images: list[ListedImage] = []
    tables: list[pa.Table] = []
    count = 0

    def take() -> None:
        if images:
            columns = zip(zip(*images, strict=True), LISTED, strict=True)
            tables.append(pa.table([pa.array(c, f.type) for c, f in columns], LISTED))
            images.clear()

    for item in items:
        if isinstance(item, ListedImage):
            images.append(item)
            count += 1
        else:
            take()
            tables.append(item)
            count += len(item)
        if count >= TABLE_ROWS:
            take()
            yield pa.concat_tables(tables)
            tables, count = [], 0
    if count:
        take()
        yield pa.concat_tables(tables)


def rows_of(items: Iterable[ListedImage | pa.Table]) -> Iterator[ListedImage]:
    """The images among items, and those of the tables among them."""
    for item in items:
        if isinstance(item, ListedImage):
            yield item
        else:
            for batch in item.to_batches(BATCH_ROWS):
                yield from map(ListedImage, *(column.to_pylist() for column in batch.columns))


def listed_image(
    path: str, uri: str, size: int, etag: str, image_id: str | None = None
) -> ListedImage:
    """A row whose text is valid, as names of files need not be."""
    path, uri = valid_text(path), valid_text(uri)
    return ListedImage(path, uri, size, etag, valid_text(image_id or path))


def valid_text(text: str) -> str:
    """The text, with bytes of a file's name that are no UTF-8 as `\\xe9`, half letters as `?`."""
    try:
        text.encode()
    except UnicodeEncodeError:
        try:
            return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        except UnicodeEncodeError:
            return text.encode("utf-8", "replace").decode()
    return text


def uri_of(fs: Any, name: str) -> str:
    """What opens a file: its local path, or, where that is no UTF-8, that path as a file:// URL."""
    if not isinstance(fs, LocalFileSystem):
        return str(fs.unstrip_protocol(name))
    return name if is_text(name) else f"file://{quote(os.fsencode(name))}"


def version(info: dict[str, Any]) -> str:
    """ETag, else the time of the last change, of fsspec's description of a file; else empty."""
    for key in ("ETag", "etag", "mtime", "LastModified", "last_modified"):
        value = info.get(key)
        if value:
            return f"{int(value * 1e9):x}" if isinstance(value, float) else str(value).strip('"')
    return ""
