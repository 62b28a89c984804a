"""Where images come from: what a directory, glob, archive, table or COCO file lists."""

import json
import os
import posixpath
import re
import stat
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from lib.errors import BadInputError, MissingError
from lib.images.addresses import open_filesystem
from lib.images.archives import tar_members, zip_members
from lib.images.file_names import UNREAD, UNREADABLE, ending, is_hidden, is_image

# Names of columns in small letters, the first that a table has is taken.
URI_COLUMNS = ("uri", "url", "coco_url", "image_url", "img_url", "image_link")
PATH_COLUMNS = ("path", "file_name", "image_path", "filename")
CONTENT_COLUMNS = ("bytes", "image", "content", "jpg", "jpeg", "png", "webp", "img", "image_bytes")
_TABLE_ROWS = 16_384
_NUMBERS = re.compile(r"\{(\d+)\.\.(\d+)\}")  # as WebDataset writes shards
_Files = list[tuple[str, dict[str, Any]]]


class ListedImage(NamedTuple):
    """One listed image."""

    path: str  # relative to the source; what identifies the image in it
    uri: str  # what opens it
    bytes: int  # -1 where the source does not tell
    etag: str  # the version that the source tells, empty where it tells none
    image_id: str


def list_images(
    source: str, skipped: Counter[str] | None = None, include_hidden: bool = False
) -> Iterator[ListedImage]:
    """The images of a source, in no particular order, one at a time.

    `source` is a directory, a single image, a glob, a `.zip` or `.tar` archive, a COCO `.json`
    with `coco_url`, a `.csv` or `.parquet` list of URIs, or a `.parquet` table of image bytes;
    each on this machine or behind a URL. In a directory or glob, archives and tables are
    opened, too. A path that exists is taken as it is, whatever signs it has.

    `skipped` counts what is left out, by kind, while the images are taken: pictures and films that
    are not read, folders and archives that cannot be, and, without `include_hidden`, what
    `lib.images.file_names.is_hidden` says.

    Raises MissingError where nothing is there and BadInputError where it cannot be listed.
    """
    return _Listing(Counter() if skipped is None else skipped, include_hidden).source(source)


class _Listing:
    def __init__(self, skipped: Counter[str], include_hidden: bool) -> None:
        self.skipped = skipped
        self.include_hidden = include_hidden

    def source(self, source: str) -> Iterator[ListedImage]:
        fs, path = open_filesystem(source)
        local = isinstance(fs, LocalFileSystem)
        http = source.startswith(("http://", "https://"))
        name = urlsplit(source).path if http else path
        if not local:
            fs.invalidate_cache()
        if not (local and os.path.lexists(path)):
            if numbers := _NUMBERS.search(name):
                return self._numbered(source, numbers)
            if re.search(r"\*" if http else r"[*?[]", name) and not _exists(fs, path):
                return self._glob(fs, path, source)
            if local:
                raise MissingError(f"no images at {source}: there is no such file or directory")
        # To know whether an address of the web is a directory takes reading all of it.
        if ending(name) in _LISTERS and (http or not fs.isdir(path)):
            return self._file(fs, path, source, ending(name))
        if re.search(r"\.(tar\.\w+|tgz|tbz2?|txz)$", name, re.I) and not fs.isdir(path):
            raise BadInputError(
                f"{source} is a compressed tar, which only reads from its start: unpack it or tar "
                "it without compression (JPEGs do not shrink)"
            )
        if local and Path(path).is_dir():
            return self._walk_local(path, "", ())
        if is_image(name):
            return iter([_entry(fs, fs.info(path), posixpath.dirname(path))])
        return self._walk_remote(fs, path, source)

    def _numbered(self, source: str, numbers: re.Match[str]) -> Iterator[ListedImage]:
        """The shards 000 to 123 of `name-{000..123}.tar`."""
        first, last = numbers.groups()
        for number in range(int(first), int(last) + 1):
            shard = source.replace(numbers[0], str(number).zfill(len(first)), 1)
            fs, path = open_filesystem(shard)
            yield from self._nested(fs, path, shard, PurePosixPath(urlsplit(shard).path).name)

    def _file(self, fs: Any, path: str, source: str, kind: str) -> Iterator[ListedImage]:
        """The images that an archive or table lists, which is the whole source."""
        try:
            with fs.open(path) as file:
                yield from _LISTERS[kind](self, file, source, version(fs.info(path)), "")
        except FileNotFoundError as error:
            raise MissingError(f"no images at {source}: {error.__cause__ or error}") from error
        except (zipfile.BadZipFile, tarfile.TarError) as error:
            raise BadInputError(f"{source} is no whole {kind[1:]} archive: {error}") from error
        except (pa.ArrowInvalid, UnicodeDecodeError) as error:
            raise BadInputError(f"{source} cannot be read as {kind[1:]}: {error}") from error
        except ValueError as error:
            if not re.search("seek|range", str(error)):
                raise
            raise BadInputError(
                f"{source}: its server does not send parts of files; fetch it, and give the file"
            ) from error

    def _nested(self, fs: Any, path: str, uri: str, below: str) -> Iterator[ListedImage]:
        """The images in one of several archives or tables; their paths begin with its name."""
        try:
            with fs.open(path) as file:
                lister = _LISTERS[ending(urlsplit(uri).path if "://" in uri else uri)]
                yield from lister(self, file, uri, version(fs.info(path)), f"{below}/")
        except (zipfile.BadZipFile, tarfile.TarError, pa.ArrowException, ValueError, OSError):
            self.skipped[UNREADABLE] += 1

    def _walk_local(
        self, root: str, below: str, above: tuple[tuple[int, int], ...]
    ) -> Iterator[ListedImage]:
        """Images in a folder and those below it; a link to a folder above leads no further."""
        try:
            with os.scandir(f"{root}/{below}") as scan:
                entries = list(scan)
            status = Path(f"{root}/{below}").stat()
        except OSError as error:
            if not below:
                raise BadInputError(f"{root} cannot be listed: {error}") from error
            self.skipped[UNREADABLE] += 1
            return
        if (status.st_dev, status.st_ino) in above:
            self.skipped["links to a folder above"] += 1
            return
        above = (*above, (status.st_dev, status.st_ino))
        folders: set[str] = set()
        files: _Files = []
        for entry in entries:
            if self._hidden(below + entry.name):
                continue
            try:
                if entry.is_dir():
                    folders.add(entry.name)
                    continue
                status = entry.stat()
            except OSError:  # a link to nothing, or to itself: reading says so
                files.append((f"{root}/{below}{entry.name}", {"size": -1}))
                continue
            if not stat.S_ISREG(status.st_mode):
                self.skipped["pipes, sockets and devices"] += 1
                continue
            info = {"size": status.st_size, "etag": f"{status.st_mtime_ns:x}"}
            files.append((f"{root}/{below}{entry.name}", info))
        yield from self._directory(LocalFileSystem(), root, files, folders)
        for folder in folders:
            yield from self._walk_local(root, f"{below}{folder}/", above)

    def _walk_remote(self, fs: Any, root: str, source: str) -> Iterator[ListedImage]:
        try:
            for _, folders, files in fs.walk(root, detail=True, on_error="raise"):
                for name in list(folders):
                    if self._hidden(_below(root, folders[name]["name"])):
                        del folders[name]  # which the walk then leaves out
                seen = [(info["name"], info) for info in files.values()]
                seen = [(name, info) for name, info in seen if not self._hidden(_below(root, name))]
                yield from self._directory(fs, root, seen, set(folders))
        except FileNotFoundError as error:
            raise MissingError(f"no images at {source}: {error}") from error

    def _glob(self, fs: Any, pattern: str, source: str) -> Iterator[ListedImage]:
        matches = fs.glob(pattern, detail=True)
        if not matches:
            raise MissingError(f"no file matches {source}")
        root = posixpath.dirname(pattern[: re.search(r"[*?[]", pattern).start()])  # type: ignore[union-attr]
        groups: dict[str, _Files] = {}
        for name, info in matches.items():
            if self._hidden(_below(root, name)):
                continue
            if info["type"] != "directory":
                groups.setdefault(posixpath.dirname(name), []).append((name, info))
            elif "**" not in pattern and isinstance(fs, LocalFileSystem):
                yield from self._walk_local(root, f"{_below(root, name)}/", ())
        for files in groups.values():
            yield from self._directory(fs, root, files, set())

    def _hidden(self, path: str) -> bool:
        if self.include_hidden or not is_hidden(path):
            return False
        self.skipped["hidden"] += 1
        return True

    def _directory(
        self, fs: Any, root: str, files: _Files, folders: set[str]
    ) -> Iterator[ListedImage]:
        """Images in one folder, and in the archives and tables there.

        An archive beside a folder of its name is that folder, packed. A table beside a folder or
        an archive of its name tells of the images in it (img2dataset), and a list of URIs beside
        images of theirs.
        """
        stems = folders | {_stem(name) for name, _ in files if ending(name) == ".tar"}
        tables, plain = [], True
        for name, info in files:
            kind = ending(name)
            if is_image(name):
                plain = False
                yield _entry(fs, info | {"name": name}, root)
            elif kind in (".zip", ".tar"):
                if _stem(name) in folders:
                    self.skipped["archives beside a folder of their name"] += 1
                else:
                    plain = False
                    yield from self._nested(fs, name, _uri(fs, name), _below(root, name))
            elif kind == ".parquet":
                if _stem(name) not in stems:
                    tables.append(name)
            elif kind in UNREAD:
                self.skipped[kind] += 1
        for name in tables:
            if plain or _holds_images(fs, name):
                yield from self._nested(fs, name, _uri(fs, name), _below(root, name))

    def zip(self, file: Any, source: str, version: str, prefix: str) -> Iterator[ListedImage]:
        with zipfile.ZipFile(file) as archive:
            for name, member in zip_members(archive).items():
                if self._is_member(name):
                    uri = member_uri("zip", name, source)
                    yield _row(prefix + name, uri, member.file_size, f"{member.CRC:08x}")

    def tar(self, file: Any, source: str, version: str, prefix: str) -> Iterator[ListedImage]:
        newest: dict[str, ListedImage] = {}
        for member in tar_members(file):
            if self._is_member(member.name):
                # The offset lets the member be read without the archive before it.
                offset, name = member.offset_data, member.name.removeprefix("./")
                etag = f"{offset:x}-{int(member.mtime):x}"
                uri = member_uri("tar", f"{offset}+{member.size}/{name}", source)
                newest[name] = _row(prefix + name, uri, member.size, etag)
        yield from newest.values()

    def _is_member(self, name: str) -> bool:
        if self._hidden(name):
            return False
        if ending(name) in UNREAD:
            self.skipped[ending(name)] += 1
        return is_image(name)

    def coco(self, file: Any, source: str, version: str, prefix: str) -> Iterator[ListedImage]:
        try:
            images = json.load(file)["images"]
            rows = [(image["file_name"], image["coco_url"], str(image["id"])) for image in images]
        except (ValueError, KeyError, TypeError) as error:
            raise BadInputError(
                f"{source} is no COCO file whose images have file_name, coco_url and id: {error!r}"
            ) from error
        for name, url, image_id in rows:
            yield _row(str(name), str(url), -1, "", image_id)

    def csv(self, file: Any, source: str, version: str, prefix: str) -> Iterator[ListedImage]:
        with pyarrow.csv.open_csv(file) as reader:
            uri, name = _columns(reader.schema, source)
            for batch in reader:
                yield from _rows(batch, uri, name)

    def parquet(self, file: Any, source: str, version: str, prefix: str) -> Iterator[ListedImage]:
        table = pq.ParquetFile(file)
        schema = table.schema_arrow
        content = content_column(schema)
        if content is not None:
            yield from _content_rows(table, content, source, version, prefix)
            return
        uri, name = _columns(schema, source)
        columns = [column for column in (uri, name) if column]
        for batch in table.iter_batches(_TABLE_ROWS, columns=columns):
            yield from _rows(batch, uri, name)


def member_uri(kind: str, member: str, source: str) -> str:
    """What opens a member of an archive; its name never decides where the source begins."""
    return f"{kind}://{member.replace('%', '%25').replace('::', '%3A%3A')}::{source}"


def version(info: dict[str, Any]) -> str:
    """ETag, else the time of the last change, of fsspec's description of a file; else empty."""
    for key in ("ETag", "etag", "mtime", "LastModified", "last_modified"):
        value = info.get(key)
        if value:
            return f"{int(value * 1e9):x}" if isinstance(value, float) else str(value).strip('"')
    return ""


def content_column(schema: pa.Schema) -> str | None:
    """The column that holds image bytes: binary, or a struct with the binary field `bytes`."""
    for field in schema:
        binary = pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type)
        if binary and field.name.lower() in CONTENT_COLUMNS:
            return str(field.name)
        if pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0:
            return str(field.name)
    return None


def _row(path: str, uri: str, size: int, etag: str, image_id: str | None = None) -> ListedImage:
    """A row whose text is valid, as names of files need not be."""
    path, uri = _text(path), _text(uri)
    return ListedImage(path, uri, size, etag, _text(image_id or path))


def _text(text: str) -> str:
    """The text, with bytes of a file's name that are no UTF-8 as `\\xe9`, half letters as `?`."""
    try:
        text.encode()
    except UnicodeEncodeError:
        try:
            return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        except UnicodeEncodeError:
            return text.encode("utf-8", "replace").decode()
    return text


def _entry(fs: Any, info: dict[str, Any], root: str) -> ListedImage:
    name = str(info["name"])
    size = info.get("size")
    return _row(_below(root, name), _uri(fs, name), -1 if size is None else size, version(info))


def _uri(fs: Any, name: str) -> str:
    """What opens a file: its local path, or, where that is no UTF-8, that path as a file:// URL."""
    if not isinstance(fs, LocalFileSystem):
        return str(fs.unstrip_protocol(name))
    try:
        name.encode()
    except UnicodeEncodeError:
        return f"file://{quote(os.fsencode(name))}"
    return name


def _below(root: str, name: str) -> str:
    return name.removeprefix(root.rstrip("/") + "/")


def _stem(name: str) -> str:
    return posixpath.splitext(posixpath.basename(name))[0]


def _exists(fs: Any, path: str) -> bool:
    try:
        return bool(fs.exists(path))
    except (OSError, ValueError):  # no name that this store could have
        return False


def _holds_images(fs: Any, name: str) -> bool:
    try:
        with fs.open(name) as file:
            return content_column(pq.read_schema(file)) is not None
    except (OSError, pa.ArrowException):
        return True  # and the listing counts it as unreadable


def _content_rows(
    table: pq.ParquetFile, content: str, source: str, tag: str, prefix: str
) -> Iterator[ListedImage]:
    """Rows of a table that holds the images themselves; a changed file is changed throughout.

    Rows are named by a column of paths, else by the `path` beside the bytes (Hugging Face), else
    by their number, which is added where a name comes again.
    """
    schema = table.schema_arrow
    name = _first(schema, PATH_COLUMNS)
    kind = schema.field(content).type
    if name is None and pa.types.is_struct(kind) and kind.get_field_index("path") >= 0:
        name = f"{content}.path"
    unnamed = prefix or f"{PurePosixPath(urlsplit(source).path).name}/"
    names: set[str] = set()
    first = 0
    for group in range(table.num_row_groups):
        count = table.metadata.row_group(group).num_rows
        values: Iterable[Any] = [None] * count
        if name is not None:
            column = table.read_row_group(group, columns=[name]).column(0)
            values = column.to_pylist()
        for row, value in enumerate(values):
            path = value.get("path") if isinstance(value, dict) else value
            path = unnamed + str(first + row) if path is None else prefix + str(path)
            if path in names:
                path = f"{path}#{first + row}"
            names.add(path)
            yield _row(path, f"parquet://{group}/{row}::{source}", -1, tag)
        first += count


def _rows(batch: pa.RecordBatch, uri: str, name: str | None) -> Iterator[ListedImage]:
    uris = batch.column(uri).to_pylist()
    names = uris if name is None else batch.column(name).to_pylist()
    for path, address in zip(names, uris, strict=True):
        if address:
            yield _row(str(path), str(address), -1, "")


def _columns(schema: pa.Schema, source: str) -> tuple[str, str | None]:
    uri = _first(schema, URI_COLUMNS)
    if uri is None:
        raise BadInputError(
            f"{source} has no column {', '.join(URI_COLUMNS)} of URIs"
            f" nor {', '.join(CONTENT_COLUMNS)} of image bytes; it has {', '.join(schema.names)}"
        )
    return uri, _first(schema, PATH_COLUMNS)


def _first(schema: pa.Schema, names: Iterable[str]) -> str | None:
    columns = {name.lower(): name for name in reversed(schema.names)}
    return next((columns[name] for name in names if name in columns), None)


_Lister = Callable[[_Listing, Any, str, str, str], Iterator[ListedImage]]
_LISTERS: dict[str, _Lister] = {
    ".zip": _Listing.zip,
    ".tar": _Listing.tar,
    ".json": _Listing.coco,
    ".csv": _Listing.csv,
    ".parquet": _Listing.parquet,
}
