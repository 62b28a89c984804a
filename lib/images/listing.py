"""Where images come from: what a directory, glob, archive, table or COCO file lists."""

import codecs
import csv
import io
import itertools
import json
import math
import os
import posixpath
import re
import stat
import tarfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from lib.errors import BadInputError, ImageSearchError, MissingError
from lib.images.addresses import open_filesystem
from lib.images.archives import tar_members, zip_members
from lib.images.file_names import ending, is_hidden, is_image, left_out_as, unreadable
from lib.schemas import PROVENANCE_KEY
from lib.storage import is_of_page

# Names of columns in small letters, the first that a table has is taken.
URI_COLUMNS = ("uri", "url", "coco_url", "image_url", "img_url", "image_link")
PATH_COLUMNS = ("path", "file_name", "image_path", "filename", "image_name", "img_name", "img_path")
CONTENT_COLUMNS = ("bytes", "image", "content", "jpg", "jpeg", "png", "webp", "img", "image_bytes")
TABLE_ROWS = 250_000  # of a listing, at a time
_BATCH_ROWS = 65_536
_HEAD_BYTES = 1 << 16  # in which the first line of a list ends
_DELIMITERS = (",", "\t", ";")
_NOT_IN_PLACE = "links and sparse files in archives"
_TABLES_BESIDE = "tables beside the images that they tell of"
_OF_DATABASE = "folders of a database"
_OF_OTHER_LENGTH = "rows of another length than the header"
_WITHOUT_ADDRESS = "rows without an address"
# What a database has in it; images beside these are images.
_DATABASE_FOLDERS = {
    *("descriptors", "failures", "embeddings", "embedder", "versions", "captions", "evaluation")
}
_NUMBERS = re.compile(r"\{(\d+)\.\.(\d+)\}")  # as WebDataset writes shards
_Files = list[tuple[str, dict[str, Any]]]


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


def list_images(
    source: str, skipped: Counter[str] | None = None, include_hidden: bool = False
) -> Iterator[ListedImage]:
    """The images of a source, in no particular order, one at a time.

    `source` is a directory, a single image, a glob, a `.zip` or `.tar` archive, a COCO `.json`
    with `coco_url`, a list of URIs (`.parquet`, `.csv`, `.tsv`, or `.txt` with one a line), or a
    `.parquet` table of image bytes; each on this machine or behind a URL. In a directory or glob,
    archives and `.parquet` tables are opened, too. A path that exists is taken as it is, whatever
    signs it has.

    `skipped` counts what is left out, by kind, while the images are taken: pictures and films that
    are not read, folders and archives that cannot be, and, without `include_hidden`, what
    `lib.images.file_names.is_hidden` says.

    Raises MissingError where nothing is there and BadInputError where it cannot be listed.
    """
    return rows_of(Listing([whole(source)], include_hidden, skipped).items())


def tabulate(items: Iterable["ListedImage | pa.Table"]) -> Iterator[pa.Table]:
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


def rows_of(items: Iterable["ListedImage | pa.Table"]) -> Iterator[ListedImage]:
    """The images among items, and those of the tables among them."""
    for item in items:
        if isinstance(item, ListedImage):
            yield item
        else:
            for batch in item.to_batches(_BATCH_ROWS):
                yield from map(ListedImage, *(column.to_pylist() for column in batch.columns))


class Part(NamedTuple):
    """What of a source can be listed apart from the rest, by another process, too."""

    name: str
    step: Callable[..., "_Items"]  # a method of Listing
    arguments: tuple[Any, ...]


def whole(source: str) -> Part:
    """A source as a part; see `list_images`."""
    return Part(source, Listing._source, (source,))


class _File(NamedTuple):
    """An archive or a table that lists images."""

    fs: Any
    path: str  # in it
    uri: str
    below: str | None  # with which paths of images begin; None for a whole source
    groups: Sequence[int] | None = None  # row groups of a list of URIs; None: all

    @property
    def kind(self) -> str:
        """Its ending."""
        http = self.path.startswith(("http://", "https://"))
        return ending(urlsplit(self.path).path if http else self.path)

    @property
    def prefix(self) -> str:
        """What the paths of its images begin with."""
        return "" if self.below is None else f"{self.below}/"

    @property
    def part(self) -> Part:
        """The file as a part of a source."""
        return Part(self.uri, Listing._file, (self,))


class Listing:
    """Parts of a source, listed one after another; a part may turn out to consist of parts.

    `skipped` counts what is left out, see `list_images`.
    """

    def __init__(
        self,
        parts: Iterable[Part],
        include_hidden: bool = False,
        skipped: Counter[str] | None = None,
    ) -> None:
        self._parts = [*parts][::-1]
        self.include_hidden = include_hidden
        self.skipped = Counter[str]() if skipped is None else skipped

    @property
    def parts(self) -> list[Part]:
        """Those that are still to be listed, in order."""
        return self._parts[::-1]

    def items(
        self, rows: float = math.inf, seconds: float = math.inf
    ) -> Iterator["ListedImage | pa.Table"]:
        """Images, and tables of them; no other part is begun after so many, or so long."""
        end = time.monotonic() + seconds
        while self._parts and rows > 0 and time.monotonic() < end:
            part = self._parts.pop()
            inner = []
            try:
                for item in part.step(self, *part.arguments):
                    if isinstance(item, Part):
                        inner.append(item)
                    else:
                        rows -= len(item) if isinstance(item, pa.Table) else 1
                        yield item
            except (ImageSearchError, OSError):
                raise
            except Exception as error:  # each store has its own: no credentials, no permission, …
                reason = f"{type(error).__name__}: {error}"
                raise BadInputError(f"{part.name} cannot be listed: {reason}") from error
            self._parts += inner[::-1]

    def _source(self, source: str) -> "_Items":
        fs, path = open_filesystem(source)
        local = isinstance(fs, LocalFileSystem)
        http = source.startswith(("http://", "https://"))
        name = urlsplit(source).path if http else path
        if not (local and os.path.lexists(path)):
            if numbers := _NUMBERS.search(name):
                yield from _numbered(source, numbers)
                return
            if re.search(r"\*" if http else r"[*?[]", name) and not _exists(fs, path):
                yield from self._glob(fs, path, source)
                return
            if local:
                raise MissingError(f"no images at {source}: there is no such file or directory")
        # To know whether an address of the web is a directory takes reading all of it.
        if ending(name) in _LISTERS and (http or not fs.isdir(path)):
            yield _given(fs, path, source, None)
        elif re.search(r"\.(tar\.\w+|tgz|tbz2?|txz)$", name, re.I) and not fs.isdir(path):
            raise BadInputError(
                f"{source} is a compressed tar, which only reads from its start: unpack it or tar "
                "it without compression (JPEGs do not shrink)"
            )
        elif local and Path(path).is_dir():
            yield _local_folder(path, "", ())
        elif is_image(name):
            try:
                yield _entry(fs, fs.info(path), posixpath.dirname(path))
            except FileNotFoundError as error:
                raise MissingError(f"no images at {source}: {error.__cause__ or error}") from error
        elif local:
            raise BadInputError(
                f"{source} is neither an image nor one of {', '.join(_LISTERS)}, by its ending"
            )
        else:
            yield _remote_folder(fs, path, path)

    def _file(self, where: _File) -> "_Items":
        """The images that an archive or table lists."""
        try:
            with where.fs.open(where.path) as file:
                yield from _LISTERS[where.kind](self, file, where)
        except Exception as error:  # what reads archives raises nearly anything
            if where.below is not None:
                self._unreadable(where.uri, error)
            elif refusal := _refusal(where, error):
                raise refusal from error
            else:
                raise

    def _unreadable(self, name: str, error: Exception) -> None:
        self.skipped[_text(unreadable(name, error))] += 1

    def _table_beside_images(self, where: _File) -> "_Items":
        """The images of a table, but none where it tells of those that lie beside it."""
        if _holds_images(where.fs, where.path):
            yield where.part
        else:
            self.skipped[_TABLES_BESIDE] += 1

    def _folder(self, root: str, below: str, above: tuple[tuple[int, int], ...]) -> "_Items":
        """Images in a folder and those below it; a link to a folder above leads no further."""
        try:
            with os.scandir(f"{root}/{below}") as scan:
                entries = list(scan)
            status = Path(f"{root}/{below}").stat()
        except OSError as error:
            if not below:
                raise BadInputError(f"{root} cannot be listed: {error}") from error
            self._unreadable(f"{root}/{below}", error)
            return
        if (status.st_dev, status.st_ino) in above:
            self.skipped["links to a folder above"] += 1
            return
        above = (*above, (status.st_dev, status.st_ino))
        folders: set[str] = set()
        files: _Files = []
        for entry in entries:
            if self._hidden(below + entry.name, root):
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
        folders -= self._of_database(LocalFileSystem(), f"{root}/{below}", folders)
        yield from self._directory(LocalFileSystem(), root, files, folders)
        for folder in sorted(folders):
            yield _local_folder(root, f"{below}{folder}/", above)

    def _remote_folder(self, fs: Any, root: str, folder: str) -> "_Items":
        try:
            _, folders, files = next(fs.walk(folder, maxdepth=1, detail=True, on_error="raise"))
        except OSError as error:
            if folder != root:
                self._unreadable(_uri(fs, folder), error)
                return
            if not isinstance(error, FileNotFoundError):
                raise
            raise MissingError(f"no images at {_uri(fs, root)}: {error}") from error
        inner = {name: info["name"].rstrip("/") for name, info in folders.items()}
        inner = {
            name: path for name, path in inner.items() if not self._hidden(_below(root, path), root)
        }
        seen = [(info["name"], info) for info in files.values()]
        seen = [(name, info) for name, info in seen if not self._hidden(_below(root, name), root)]
        for name in self._of_database(fs, folder, set(inner)):
            del inner[name]
        yield from self._directory(fs, root, seen, set(inner))
        for path in inner.values():
            yield _remote_folder(fs, root, path)

    def _of_database(self, fs: Any, folder: str, folders: set[str]) -> set[str]:
        """Those of its folders that are a database's: their tables name images listed anyway."""
        if "descriptors" not in folders or not _holds_descriptors(fs, f"{folder}/descriptors"):
            return set()
        own = folders & _DATABASE_FOLDERS
        self.skipped[_OF_DATABASE] += len(own)
        return own

    def _glob(self, fs: Any, pattern: str, source: str) -> "_Items":
        local = isinstance(fs, LocalFileSystem)
        disk = _GlobbedDisk(self._unreadable, follow="**" not in pattern) if local else fs
        matches = disk.glob(pattern, detail=True)
        if not matches:
            raise MissingError(f"no file matches {source}")
        root = posixpath.dirname(pattern[: re.search(r"[*?[]", pattern).start()])  # type: ignore[union-attr]
        groups: dict[str, _Files] = {}
        for name, info in matches.items():
            if self._hidden(_below(root, name), root):
                continue
            if info["type"] != "directory":
                groups.setdefault(posixpath.dirname(name), []).append((name, info))
            elif "**" not in pattern and local:
                yield _local_folder(root, f"{_below(root, name)}/", ())
        for files in groups.values():
            yield from self._directory(fs, root, files, set())

    def _hidden(self, path: str, source: str = "") -> bool:
        if self.include_hidden or not is_hidden(path, source):
            return False
        self.skipped["hidden"] += 1
        return True

    def _directory(self, fs: Any, root: str, files: _Files, folders: set[str]) -> "_Items":
        """Images in one folder, and the archives and tables there.

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
                    yield _File(fs, name, _uri(fs, name), _below(root, name)).part
            elif kind == ".parquet":
                if _stem(name) in stems:
                    self.skipped[_TABLES_BESIDE] += 1
                else:
                    tables.append(_File(fs, name, _uri(fs, name), _below(root, name)))
            elif left_out := left_out_as(name):
                self.skipped[left_out] += 1
        for table in tables:
            yield table.part if plain else Part(table.uri, Listing._table_beside_images, (table,))

    def _zip(self, file: Any, where: _File) -> "_Items":
        with zipfile.ZipFile(file) as archive:
            for name, member in zip_members(archive).items():
                if self._is_member(name):
                    uri = member_uri("zip", name, where.uri)
                    yield _row(where.prefix + name, uri, member.file_size, f"{member.CRC:08x}")

    def _tar(self, file: Any, where: _File) -> "_Items":
        newest: dict[str, ListedImage] = {}
        links: dict[str, str] = {}
        for member in tar_members(file):
            if not self._is_member(member.name):
                continue
            name = member.name.removeprefix("./")
            if member.issym():
                links[name] = posixpath.normpath(f"{posixpath.dirname(name)}/{member.linkname}")
            elif member.islnk():
                links[name] = member.linkname
            elif member.issparse():
                self.skipped[_NOT_IN_PLACE] += 1
            else:
                # The offset lets the member be read without the archive before it.
                offset = member.offset_data
                etag = f"{offset:x}-{int(member.mtime):x}"
                uri = member_uri("tar", f"{offset}+{member.size}/{name}", where.uri)
                newest[name] = _row(where.prefix + name, uri, member.size, etag)
        for name, target in links.items():
            if row := newest.get(target.removeprefix("./").removeprefix("/")):
                newest[name] = _row(where.prefix + name, row.uri, row.bytes, row.etag)
            else:
                self.skipped[_NOT_IN_PLACE] += 1
        yield from newest.values()

    def _is_member(self, name: str) -> bool:
        if self._hidden(name):
            return False
        if is_image(name):
            return True
        if left_out := left_out_as(name):
            self.skipped[left_out] += 1
        return False

    def _coco(self, file: Any, where: _File) -> "_Items":
        try:
            rows = [_coco_row(image) for image in json.load(file)["images"]]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise BadInputError(
                f"{where.uri} is no COCO file whose images have file_name, coco_url or flickr_url, "
                f"and id: {error!r}"
            ) from error
        urls = _from_anywhere(pa.array([_text(url) for _, url, _ in rows], pa.string()))
        for (name, _, image_id), url in zip(rows, urls.to_pylist(), strict=True):
            yield _row(name, url, -1, "", image_id)

    def _list(self, file: Any, where: _File) -> "_Items":
        """Rows of a list of URIs, as texts: numbers would lose their zeros."""
        file = io.BufferedReader(file, _HEAD_BYTES)  # which looks ahead, and never goes back
        if file.peek().startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise BadInputError(f"{where.uri} is in UTF-16: save it as UTF-8")
        plain = where.kind == ".txt"
        head = "" if plain else file.peek().partition(b"\n")[0].decode("utf-8-sig")
        delimiter = "\x1f" if plain else max(_DELIMITERS, key=head.count)
        header = ["url"] if plain else next(csv.reader([head], delimiter=delimiter), [])
        uri, name = _columns(header, where.uri)
        types = {column: pa.binary() for column in (uri, name) if column}

        def skip(row: pyarrow.csv.InvalidRow) -> str:
            self.skipped[_OF_OTHER_LENGTH] += 1
            return "skip"

        with pyarrow.csv.open_csv(
            file,
            pyarrow.csv.ReadOptions(column_names=header if plain else None),
            pyarrow.csv.ParseOptions(
                delimiter=delimiter,
                quote_char=not plain and '"',
                newlines_in_values=not plain,
                invalid_row_handler=skip,
            ),
            pyarrow.csv.ConvertOptions(
                include_columns=[*types],
                column_types=types,
                null_values=[""],
                strings_can_be_null=True,
            ),
        ) as reader:
            for batch in reader:
                yield self._rows(batch, uri, name)

    def _parquet(self, file: Any, where: _File) -> "_Items":
        table = pq.ParquetFile(file)
        schema = table.schema_arrow
        content = content_column(schema)
        if content is not None:
            yield from _content_rows(table, content, where)
            return
        uri, name = _columns(schema.names, where.uri)
        ranges = _row_groups(table.metadata) if where.groups is None else [where.groups]
        if len(ranges) > 1:
            yield from (where._replace(groups=groups).part for groups in ranges)
            return
        columns = [column for column in (uri, name) if column]
        for batch in table.iter_batches(_BATCH_ROWS, ranges[0], columns):
            yield self._rows(batch, uri, name)

    def _rows(self, batch: pa.RecordBatch, uri: str, name: str | None) -> pa.Table:
        """The rows of a list that have a URI, without a Python object for each."""
        uris = _texts(batch.column(uri), _address)
        paths = _texts(batch.column(name or uri), _text)
        columns = [
            paths := pc.coalesce(paths, uris),
            _from_anywhere(uris),
            pa.repeat(pa.scalar(-1, pa.int64()), len(batch)),
            pa.repeat("", len(batch)),
            paths,
        ]
        table = pa.table(columns, LISTED).filter(pc.greater(pc.binary_length(uris), 0))
        if without := len(batch) - len(table):
            self.skipped[_WITHOUT_ADDRESS] += without
        return table


_Items = Iterator[ListedImage | pa.Table | Part]


class _GlobbedDisk(LocalFileSystem):
    """A disk whose links are what they lead to, and that tells of folders that cannot be read.

    `follow`: also those to folders, which below `**` may lead round and round.
    """

    cachable = False

    def __init__(self, unreadable: Callable[[str, Exception], None], follow: bool) -> None:
        super().__init__()
        self._unreadable, self._follow = unreadable, follow

    def ls(self, path: str, detail: bool = False, **options: Any) -> Any:
        try:
            return super().ls(path, detail, **options)
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                self._unreadable(path, error)
            raise

    def info(self, path: Any, **options: Any) -> Any:
        info = super().info(path, **options)
        if info["islink"]:
            with suppress(OSError):  # a link to nothing: reading says so
                target = super().info(info["name"], **options)
                if self._follow or target["type"] != "directory":
                    return target
        return info


def _holds_descriptors(fs: Any, folder: str) -> bool:
    """Whether the first table in a folder is one of descriptors."""
    with suppress(OSError, pa.ArrowException):
        tables = (
            name for name in sorted(fs.ls(folder, detail=False)) if ending(name) == ".parquet"
        )
        for name in itertools.islice(tables, 1):
            with fs.open(name) as file:
                return PROVENANCE_KEY in (pq.read_schema(file).metadata or {})
    return False


def _local_folder(root: str, below: str, above: tuple[tuple[int, int], ...]) -> Part:
    return Part(f"{root}/{below}", Listing._folder, (root, below, above))


def _remote_folder(fs: Any, root: str, folder: str) -> Part:
    return Part(_uri(fs, folder), Listing._remote_folder, (fs, root, folder))


def _numbered(source: str, numbers: re.Match[str]) -> Iterator[Part]:
    """The shards 000 to 123 of `name-{000..123}.tar`, or those in the folders `{000..123}`."""
    first, last = numbers.groups()
    head = source[: source.index(numbers[0])]
    above = urlsplit(head[: head.rfind("/") + 1]).path
    for number in range(int(first), int(last) + 1):
        shard = source.replace(numbers[0], str(number).zfill(len(first)), 1)
        below = urlsplit(shard).path.removeprefix(above)
        yield _given(*open_filesystem(shard), shard, below)


def _given(fs: Any, path: str, source: str, below: str | None) -> Part:
    """An archive or a table that was given; where it is a local path, from any directory."""
    return _File(
        fs, path, _uri(fs, path) if isinstance(fs, LocalFileSystem) else source, below
    ).part


def _refusal(where: _File, error: Exception) -> ImageSearchError | None:
    """What is said of a whole source that cannot be listed; None where the error says enough."""
    if isinstance(error, FileNotFoundError):
        return MissingError(f"no images at {where.uri}: {error.__cause__ or error}")
    if isinstance(error, zipfile.BadZipFile | tarfile.TarError):
        return BadInputError(f"{where.uri} is no whole {where.kind[1:]} archive: {error}")
    if is_of_page(error) or isinstance(error, pa.ArrowException | UnicodeDecodeError):
        return BadInputError(f"{where.uri} cannot be read as {where.kind[1:]}: {error}")
    no_ranges = isinstance(error, ValueError) and not isinstance(error, BadInputError)
    if no_ranges and re.search("seek|range", str(error)):
        return BadInputError(
            f"{where.uri}: its server does not send parts of files; fetch it, and give the file"
        )
    return None


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
    structs = [
        field.name
        for field in schema
        if pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0
    ]
    binary = [field.name for field in schema if _is_binary(field.type)]
    return _first(structs + binary, CONTENT_COLUMNS) or next(iter(structs), None)


def _is_binary(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return any(
        is_kind(kind)
        for is_kind in (
            *(pa.types.is_binary, pa.types.is_large_binary),
            *(pa.types.is_binary_view, pa.types.is_fixed_size_binary),
        )
    )


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


def _content_rows(table: pq.ParquetFile, content: str, where: _File) -> Iterator[ListedImage]:
    """Rows of a table that holds the images themselves; a changed file is changed throughout.

    Rows are named by a column of paths, else by the `path` beside the bytes (Hugging Face), else
    by their number, which is added where a name comes again.
    """
    schema = table.schema_arrow
    name = _first(schema.names, PATH_COLUMNS)
    kind = schema.field(content).type
    if name is None and pa.types.is_struct(kind) and kind.get_field_index("path") >= 0:
        name = f"{content}.path"
    tag = version(where.fs.info(where.path))
    unnamed = where.prefix or f"{PurePosixPath(urlsplit(where.uri).path).name}/"
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
            path = unnamed + str(first + row) if path is None else where.prefix + str(path)
            if path in names:
                path = f"{path}#{first + row}"
            names.add(path)
            yield _row(path, f"parquet://{group}/{row}::{where.uri}", -1, tag)
        first += count


def _texts(column: pa.Array, readable: Callable[[str], str]) -> pa.Array:
    """A column as texts; where one is no UTF-8, what `readable` makes of each as a file's name."""
    try:
        texts = column.cast(pa.string())
        texts.validate(full=True)
    except pa.ArrowInvalid:
        names = (value and os.fsdecode(value) for value in column.cast(pa.binary()).to_pylist())
        return pa.array([name and readable(name) for name in names], pa.string())
    return texts


def _address(name: str) -> str:
    text = _text(name)
    return (
        text if text == name or "://" in name else _uri(LocalFileSystem(), f"{Path.cwd() / name}")
    )


def _from_anywhere(uris: pa.Array) -> pa.Array:
    """Addresses in a list; a path from this working directory is one from any other, too."""
    here = pa.scalar(_text(f"{Path.cwd()}/"))
    stays = pc.match_substring_regex(uris, r"^(/|~|file:)|://|^$")
    return pc.if_else(stays, uris, pc.binary_join_element_wise(here, uris, ""))


def _row_groups(metadata: pq.FileMetaData) -> list[range]:
    """The row groups of a table in ranges of TABLE_ROWS or little more."""
    counts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    starts, rows = [0], 0
    for group, count in enumerate(counts):
        if rows >= TABLE_ROWS:
            starts.append(group)
            rows = 0
        rows += count
    return [range(*bounds) for bounds in itertools.pairwise([*starts, len(counts)])]


def _columns(columns: Sequence[str], source: str) -> tuple[str, str | None]:
    uri = _first(columns, URI_COLUMNS)
    if uri is None:
        raise BadInputError(
            f"{source} has no column {', '.join(URI_COLUMNS)} of URIs"
            f" nor {', '.join(CONTENT_COLUMNS)} of image bytes; it has {', '.join(columns)}"
        )
    return uri, _first(columns, PATH_COLUMNS)


def _first(columns: Sequence[str], names: Iterable[str]) -> str | None:
    by_name = {column.lower(): column for column in reversed(columns)}
    return next((by_name[name] for name in names if name in by_name), None)


def _coco_row(image: dict[str, Any]) -> tuple[str, str, str]:
    url = image.get("coco_url") or image.get("flickr_url")
    if not url:
        raise KeyError("coco_url")
    return str(image["file_name"]), str(url), str(image["id"])


_LISTERS: dict[str, Callable[[Listing, Any, _File], _Items]] = {
    ".zip": Listing._zip,
    ".tar": Listing._tar,
    ".json": Listing._coco,
    **dict.fromkeys((".csv", ".tsv", ".txt"), Listing._list),
    ".parquet": Listing._parquet,
}
