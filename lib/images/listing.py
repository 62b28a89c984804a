"""Where images come from: what a directory, glob, archive, table or COCO file lists."""

import json
import os
import posixpath
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from lib.errors import BadInputError, MissingError
from lib.storage import filesystem

ENDINGS = frozenset(
    ".jpg .jpeg .jpe .jfif .png .gif .bmp .webp .tif .tiff .ppm .pgm .avif .jp2 .ico".split()  # noqa: SIM905
)
# Names of columns, the first that a table has is taken.
URI_COLUMNS = ("uri", "url", "coco_url", "image_url")
PATH_COLUMNS = ("path", "file_name", "image_path")
CONTENT_COLUMNS = ("bytes", "image", "content", "jpg")
_TABLE_ROWS = 16_384


class ListedImage(NamedTuple):
    """One listed image."""

    path: str  # relative to the source; what identifies the image in it
    uri: str  # what opens it
    bytes: int  # -1 where the source does not tell
    etag: str  # the version that the source tells, empty where it tells none
    image_id: str


def list_images(source: str) -> Iterator[ListedImage]:
    """The images of a source, in no particular order, one at a time.

    `source` is a directory, a single image, a glob, a `.zip` or `.tar` archive, a COCO `.json`
    with `coco_url`, a `.csv` or `.parquet` list of URIs, or a `.parquet` table of image bytes;
    each on this machine or behind any URL that fsspec opens.

    Raises MissingError where nothing is there and BadInputError where it cannot be listed.
    """
    fs, path = filesystem(source)
    if any(mark in posixpath.basename(path) + posixpath.dirname(path) for mark in "*?["):
        return _glob(fs, path, source)
    if not isinstance(fs, LocalFileSystem):
        fs.invalidate_cache()
    elif not Path(path).exists():
        raise MissingError(f"no images at {source}: there is no such file or directory")
    ending = PurePosixPath(path).suffix.lower()
    if ending in _LISTERS and not fs.isdir(path):
        return _LISTERS[ending](fs, path, source)
    if path.lower().endswith((".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")):
        raise BadInputError(
            f"{source} is a compressed tar, which only reads from its start: unpack it or tar it "
            "without compression (JPEGs do not shrink)"
        )
    if isinstance(fs, LocalFileSystem) and Path(path).is_dir():
        return _walk_local(path, "")
    if ending in ENDINGS:
        return iter([_entry(fs, fs.info(path), posixpath.dirname(path))])
    return _walk_remote(fs, path, source)


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in ENDINGS


def _walk_local(root: str, below: str) -> Iterator[ListedImage]:
    with os.scandir(f"{root}/{below}") as entries:
        for entry in entries:
            path = below + entry.name
            if entry.is_dir():
                yield from _walk_local(root, f"{path}/")
            elif _is_image(entry.name):
                status = entry.stat()
                yield ListedImage(
                    path, f"{root}/{path}", status.st_size, f"{status.st_mtime_ns:x}", path
                )


def _walk_remote(fs: Any, root: str, source: str) -> Iterator[ListedImage]:
    try:
        for _, _, files in fs.walk(root, detail=True, on_error="raise"):
            for info in files.values():
                if _is_image(info["name"]):
                    yield _entry(fs, info, root)
    except FileNotFoundError as error:
        raise MissingError(f"no images at {source}: {error}") from error


def _glob(fs: Any, pattern: str, source: str) -> Iterator[ListedImage]:
    found = fs.glob(pattern, detail=True)
    if not found:
        raise MissingError(f"no file matches {source}")
    fixed = pattern[: min(pattern.index(mark) for mark in "*?[" if mark in pattern)]
    root = posixpath.dirname(fixed)
    for name, info in found.items():
        if name.endswith(".parquet"):
            yield from _parquet(fs, name, fs.unstrip_protocol(name), PurePosixPath(name).name)
        elif info["type"] == "file" and _is_image(name):
            yield _entry(fs, info, root)


def _entry(fs: Any, info: dict[str, Any], root: str) -> ListedImage:
    name = str(info["name"])
    path = name.removeprefix(root.rstrip("/") + "/")
    uri = name if isinstance(fs, LocalFileSystem) else fs.unstrip_protocol(name)
    size = info.get("size")
    return ListedImage(path, uri, -1 if size is None else int(size), version(info), path)


def version(info: dict[str, Any]) -> str:
    """ETag, else the time of the last change, of fsspec's description of a file; else empty."""
    for key in ("ETag", "etag", "mtime", "LastModified", "last_modified"):
        value = info.get(key)
        if value:
            return f"{int(value * 1e9):x}" if isinstance(value, float) else str(value).strip('"')
    return ""


def _zip(fs: Any, path: str, source: str) -> Iterator[ListedImage]:
    try:
        with fs.open(path) as file, zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                if not member.is_dir() and _is_image(member.filename):
                    uri = f"zip://{member.filename}::{source}"
                    yield ListedImage(
                        member.filename,
                        uri,
                        member.file_size,
                        f"{member.CRC:08x}",
                        member.filename,
                    )
    except zipfile.BadZipFile as error:
        raise BadInputError(f"{source} is no whole zip archive: {error}") from error


def _tar(fs: Any, path: str, source: str) -> Iterator[ListedImage]:
    try:
        with fs.open(path) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                if member.isfile() and _is_image(member.name):
                    # The offset lets a worker read the member without reading the archive.
                    etag = f"{member.offset_data:x}-{int(member.mtime):x}"
                    uri = f"tar://{member.name}::{source}"
                    yield ListedImage(member.name, uri, member.size, etag, member.name)
                archive.members = []  # type: ignore[attr-defined]
    except tarfile.TarError as error:
        raise BadInputError(f"{source} is no whole tar archive: {error}") from error


def _coco(fs: Any, path: str, source: str) -> Iterator[ListedImage]:
    try:
        images = json.loads(fs.cat_file(path))["images"]
        rows = [(image["file_name"], image["coco_url"], str(image["id"])) for image in images]
    except (ValueError, KeyError, TypeError) as error:
        raise BadInputError(
            f"{source} is no COCO file whose images have file_name, coco_url and id: {error!r}"
        ) from error
    for name, url, image_id in rows:
        yield ListedImage(name, url, -1, "", image_id)


def _csv(fs: Any, path: str, source: str) -> Iterator[ListedImage]:
    try:
        with fs.open(path) as file, pyarrow.csv.open_csv(file) as reader:
            uri, name = _columns(reader.schema, source)
            for batch in reader:
                yield from _rows(batch, uri, name)
    except pa.ArrowInvalid as error:
        raise BadInputError(f"{source} cannot be read as CSV: {error}") from error


def _parquet(fs: Any, path: str, source: str, prefix: str = "") -> Iterator[ListedImage]:
    try:
        with fs.open(path) as file:
            table = pq.ParquetFile(file)
            schema = table.schema_arrow
            content = content_column(schema)
            if content is not None:
                name = _first(schema, PATH_COLUMNS)
                tag = version(fs.info(path))
                yield from _content_rows(table, name, source, tag, prefix or Path(path).name)
                return
            uri, name = _columns(schema, source)
            columns = [column for column in (uri, name) if column]
            for batch in table.iter_batches(_TABLE_ROWS, columns=columns):
                yield from _rows(batch, uri, name)
    except pa.ArrowInvalid as error:
        raise BadInputError(f"{source} cannot be read as Parquet: {error}") from error


def _content_rows(
    table: pq.ParquetFile, name: str | None, source: str, tag: str, prefix: str
) -> Iterator[ListedImage]:
    """Rows of a table that holds the images themselves; a changed file is changed throughout."""
    first = 0
    for group in range(table.num_row_groups):
        count = table.metadata.row_group(group).num_rows
        names: Iterable[Any] = (f"{prefix}/{first + row}" for row in range(count))
        if name is not None:
            names = table.read_row_group(group, columns=[name]).column(0).to_pylist()
        for row, path in enumerate(names):
            uri = f"parquet://{group}/{row}::{source}"
            yield ListedImage(str(path), uri, -1, tag, str(path))
        first += count


def content_column(schema: pa.Schema) -> str | None:
    """The column that holds image bytes: binary, or a struct with the binary field `bytes`."""
    for field in schema:
        if field.name not in CONTENT_COLUMNS:
            continue
        binary = pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type)
        if binary or (pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0):
            return str(field.name)
    return None


def _rows(batch: pa.RecordBatch, uri: str, name: str | None) -> Iterator[ListedImage]:
    uris = batch.column(uri).to_pylist()
    names = uris if name is None else batch.column(name).to_pylist()
    for path, address in zip(names, uris, strict=True):
        if address:
            yield ListedImage(str(path), str(address), -1, "", str(path))


def _columns(schema: pa.Schema, source: str) -> tuple[str, str | None]:
    uri = _first(schema, URI_COLUMNS)
    if uri is None:
        raise BadInputError(
            f"{source} has no column {', '.join(URI_COLUMNS)} of URIs"
            f" nor {', '.join(CONTENT_COLUMNS)} of image bytes; it has {', '.join(schema.names)}"
        )
    return uri, _first(schema, PATH_COLUMNS)


def _first(schema: pa.Schema, names: Iterable[str]) -> str | None:
    return next((name for name in names if name in schema.names), None)


_Lister = Callable[[Any, str, str], Iterator[ListedImage]]
_LISTERS: dict[str, _Lister] = {
    ".zip": _zip,
    ".tar": _tar,
    ".json": _coco,
    ".csv": _csv,
    ".parquet": _parquet,
}
