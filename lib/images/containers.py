"""Files that list images: archives, tables of images, lists of addresses, COCO's JSON."""

import codecs
import csv
import gzip
import io
import itertools
import json
import os
import posixpath
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from lib.errors import BadInputError, ImageSearchError, MissingError
from lib.images.archives import tar_members, zip_members
from lib.images.file_names import ENDINGS, LeftOut, ending, is_image
from lib.images.listed import (
    BATCH_ROWS,
    LISTED,
    TABLE_ROWS,
    ListedImage,
    listed_image,
    uri_of,
    valid_text,
    version,
)
from lib.storage import encoding_of, is_of_page

# Columns as `plain_name` writes them, the first that a table has is taken.
URI_COLUMNS = ("uri", "url", "cocourl", "imageurl", "imgurl", "imagelink", "imageuri")
NAME_COLUMNS = (
    *("filename", "filepath", "file", "imagepath", "imgpath", "imagefile", "imagefilename"),
    *("imgfilename", "imagename", "imgname", "image", "img", "path", "photo", "picture", "jpg"),
    "sourcefile",  # exiftool's
)
FOLDER_COLUMNS = ("directory", "folder", "dir", "subfolder", "foldername")  # beside a file's name
_PATH_COLUMNS = ("path", "sourcefile", *NAME_COLUMNS)  # beside a file's name it tells more
_CONTENT_COLUMNS = ("bytes", "image", "content", "jpg", "jpeg", "png", "webp", "img", "imagebytes")
_SOME = 20  # rows of a batch by which it is told where relative paths begin
_HEAD_BYTES = 1 << 16  # in which the first line of a list ends
_DELIMITERS = (",", "\t", ";", "|")
# A mark, blank lines, and Excel's line that says which delimiter follows.
_BEFORE_HEADER = re.compile(rb'(?:\xef\xbb\xbf)?(?:(?:"?sep=."?)?[ \t]*[\r\n])*')
_LINE = re.compile(rb"[^\r\n]*[\r\n]*")
_LONGEST_LINE = 10_000_000  # characters
_NOT_IN_PLACE = "links and sparse files in archives"
_OF_OTHER_LENGTH = "rows of another length than the header"
_NO_OBJECTS = "lines or entries that are no JSON object"
_IN_A_CELL = "rows inside of a quoted cell"
_WITHOUT_ADDRESS = "rows without an address"
_WINDOWS_PATHS = "paths on a Windows machine"
_IN_BASE64 = "images written as text (base64)"
# By how JPEG, PNG, GIF and WebP begin.
_OF_BASE64 = r"^(?:data:image/|(?:/9j/|iVBORw0KGgo|R0lGOD|UklGR)[\w+/=\s]{200})"
_OF_WINDOWS = r"^(?:file:/*)?[A-Za-z]:[\\/]|^\\\\"
_CLASSES = rf"(?i)({'|'.join(map(re.escape, sorted(ENDINGS)))})(?:\s+-?\d+)+$"
_MOST_SHOWN = 80  # letters of a column's name; the first row may hold a whole picture
_MOST_REPEATS = 100  # in a pattern; RE2 refuses more than 1,000


class NoImageColumnError(BadInputError):
    """A table that neither holds nor names images."""


class ContainerFile(NamedTuple):
    """An archive or a table that lists images."""

    fs: Any
    path: str  # in it
    uri: str
    below: str | None  # with which paths of images begin; None for a whole source
    groups: Sequence[int] | None = None  # row groups of a list of URIs; None: all

    @property
    def kind(self) -> str:
        """Its ending; of a compressed list that before `.gz`."""
        return container_kind(self._name)

    @property
    def is_compressed(self) -> bool:
        """Whether it is a list that gzip made smaller."""
        return self.kind != ending(self._name)

    @property
    def _name(self) -> str:
        http = self.path.startswith(("http://", "https://"))
        return urlsplit(self.path).path if http else self.path

    @property
    def prefix(self) -> str:
        """What the paths of its images begin with."""
        return "" if self.below is None else f"{self.below}/"


Rows = Iterator[ListedImage | pa.Table | ContainerFile]


def _zip(file: Any, where: ContainerFile, left_out: LeftOut) -> Rows:
    with zipfile.ZipFile(file) as archive:
        for name, member in zip_members(archive).items():
            if left_out.takes_member(name):
                uri = member_uri("zip", name, where.uri)
                yield listed_image(where.prefix + name, uri, member.file_size, f"{member.CRC:08x}")


def _tar(file: Any, where: ContainerFile, left_out: LeftOut) -> Rows:
    """The members of a tar; of a damaged one those that lie whole before the damage come first."""
    newest: dict[str, ListedImage] = {}
    ends: dict[str, int] = {}
    links: dict[str, str] = {}
    damage = None
    try:
        for member in tar_members(file):
            if not left_out.takes_member(member.name):
                continue
            name = member.name.removeprefix("./")
            if member.issym():
                links[name] = posixpath.normpath(f"{posixpath.dirname(name)}/{member.linkname}")
            elif member.islnk():
                links[name] = member.linkname
            elif member.issparse():
                left_out.skipped[_NOT_IN_PLACE] += 1
            else:
                # The offset lets the member be read without the archive before it.
                offset = member.offset_data
                etag = f"{offset:x}-{int(member.mtime):x}"
                uri = member_uri("tar", f"{offset}+{member.size}/{name}", where.uri)
                newest[name] = listed_image(where.prefix + name, uri, member.size, etag)
                ends[name] = offset + member.size
    except tarfile.TarError as error:
        damage, there = error, file.seek(0, io.SEEK_END)
        newest = {name: row for name, row in newest.items() if ends[name] <= there}
    for name, target in links.items():
        if row := newest.get(target.removeprefix("./").removeprefix("/")):
            newest[name] = listed_image(where.prefix + name, row.uri, row.bytes, row.etag)
        else:
            left_out.skipped[_NOT_IN_PLACE] += 1
    yield from newest.values()
    if damage is not None:
        raise damage


def _json(file: Any, where: ContainerFile, left_out: LeftOut) -> Rows:
    """The images of a COCO file, or a list of objects or paths."""
    try:
        document = json.load(file)
        if not isinstance(document, list):
            images = [_coco_row(image) for image in document["images"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadInputError(
            f"{where.uri} is no COCO file whose images have file_name and id, nor a list: {error!r}"
        ) from error
    if isinstance(document, list):
        rows = [{"path": entry} if isinstance(entry, str) else entry for entry in document]
        yield from _object_rows([rows], where, left_out)
        return
    texts = pa.array([valid_text(url) for _, url, _ in images], pa.string())
    urls, _ = _from_anywhere(texts, where)
    for (name, _, image_id), url in zip(images, urls.to_pylist(), strict=True):
        yield listed_image(name, url, -1, "", image_id)


def _list(file: Any, where: ContainerFile, left_out: LeftOut) -> Rows:
    """Rows of a list of URIs, as texts: numbers would lose their zeros."""
    file = io.BufferedReader(file, _HEAD_BYTES)  # which looks ahead, and never goes back
    if (encoding := encoding_of(file.peek())) != "utf-8-sig":
        recoded: Any = pa.transcoding_input_stream(pa.PythonFile(file), encoding, "utf-8")
        file = io.BufferedReader(recoded, _HEAD_BYTES)
    plain = where.kind == ".txt"
    escaping = _Escaping(file)
    file = file if plain else io.BufferedReader(escaping, _HEAD_BYTES)
    file.read(_BEFORE_HEADER.match(file.peek()).end())  # type: ignore[union-attr]
    if not file.peek():
        return
    line = b"" if plain else _LINE.match(file.peek())[0]  # type: ignore[index]
    head = (_unescaped(line) or b"").decode(errors="replace").strip("\r\n")
    delimiter = "\x1f" if plain else max(_DELIMITERS, key=head.count)
    cells = csv.reader([head or "url"], delimiter=delimiter, skipinitialspace=True)
    names = [name.strip() for name in next(cells)]
    first = next((at for at, cell in enumerate(names) if is_image(cell) or "://" in cell), None)
    if first is None:
        file.read(len(line))
    else:  # a row, without a header before it
        names = ["path" if at == first else str(at) for at in range(len(names))]
    columns = [names.index(name) for name in _columns(names, where.uri)]
    if not file.peek():
        return
    cells_but_one = min(len(names) - 1, _MOST_REPEATS)
    swallowed = rf"\n(?:[^\n{delimiter}]*[{delimiter}]){{{cells_but_one}}}"

    def skip(row: pyarrow.csv.InvalidRow) -> str:
        left_out.skipped[_OF_OTHER_LENGTH] += 1
        return "skip"

    with pyarrow.csv.open_csv(
        file,
        pyarrow.csv.ReadOptions(column_names=names),
        pyarrow.csv.ParseOptions(
            delimiter=delimiter,
            quote_char=not plain and '"',
            newlines_in_values=not plain,
            invalid_row_handler=skip,
        ),
        pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.binary()),
            null_values=[""],
            strings_can_be_null=True,
        ),
    ) as reader:
        for batch in reader:
            counts = (pc.count_substring_regex(cells, pattern=swallowed) for cells in batch.columns)
            if inside := sum(pc.sum(count).as_py() or 0 for count in counts):
                left_out.skipped[_IN_A_CELL] += inside
            if escaping.needed:
                texts = (map(_unescaped, column.to_pylist()) for column in batch.columns)
                arrays = [pa.array(column, pa.binary()) for column in texts]
                batch = pa.RecordBatch.from_arrays(arrays, names)
            yield _rows(batch, columns, where, left_out)


class _Escaping(io.RawIOBase):
    """A file in UTF-8, with what is none in it as signs that nobody uses: of a row that has not the
    header's length pyarrow makes a text, which ends the list where it is no UTF-8.
    """

    def __init__(self, file: io.BufferedReader) -> None:
        self.needed = False
        self._file, self._left = file, b""
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._decoder.errors = _ESCAPE

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        more = True
        while not self._left and more:
            more = bool(read := self._file.read1(_HEAD_BYTES))
            text = self._decoder.decode(read, final=not more)
            self._left = text.encode()
            self.needed |= _ESCAPED.search(self._left) is not None
        part = self._left[: len(buffer)]
        buffer[: len(part)], self._left = part, self._left[len(part) :]
        return len(part)


_ESCAPE, _SIGNS = "as signs that nobody uses", 0x10FF00  # the last ones of Unicode's private use
_ESCAPED = re.compile(rb"\xf4\x8f[\xbe\xbf][\x80-\xbf]")


def _escape(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    wrong = error.object[error.start : error.end]
    return "".join(chr(_SIGNS + byte) for byte in wrong), error.end


codecs.register_error(_ESCAPE, _escape)


def _unescaped(cell: bytes | None) -> bytes | None:
    return cell and _ESCAPED.sub(lambda sign: bytes([ord(sign[0].decode()) - _SIGNS]), cell)


def _json_lines(file: Any, where: ContainerFile, left_out: LeftOut) -> Rows:
    """Rows of a list that are JSON objects, one a line; what they hold besides is left alone."""
    file = io.BufferedReader(file, _HEAD_BYTES)
    lines = io.TextIOWrapper(file, encoding_of(file.peek()), "surrogateescape")
    # A line without an end is read in parts, none of which is an object.
    read = iter(partial(lines.readline, _LONGEST_LINE), "")
    chunks = iter(lambda: [*itertools.islice(read, BATCH_ROWS)], [])
    values = ([_value(line) for line in chunk if not line.isspace()] for chunk in chunks)
    yield from _object_rows(values, where, left_out)


def _object_rows(batches: Iterable[list[Any]], where: ContainerFile, left_out: LeftOut) -> Rows:
    columns = None
    for rows in batches:
        objects = [row for row in rows if isinstance(row, dict)]
        if broken := len(rows) - len(objects):
            left_out.skipped[_NO_OBJECTS] += broken
        if not objects:
            continue
        columns = columns or _columns([*dict.fromkeys(itertools.chain(*objects))], where.uri)
        texts = [[_text_of(row.get(name)) for row in objects] for name in columns]
        arrays = [pa.array(column, pa.string()) for column in texts]
        batch = pa.RecordBatch.from_arrays(arrays, [*map(str, range(len(arrays)))])
        yield _rows(batch, range(len(arrays)), where, left_out)


def _value(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _text_of(value: Any) -> str | None:
    """Numbers name files, too; a list or an object names none."""
    return valid_text(str(value)) if isinstance(value, str | int) else None


def _parquet(file: Any, where: ContainerFile, left_out: LeftOut) -> Rows:
    table = pq.ParquetFile(file)
    schema = table.schema_arrow
    content = content_column(schema)
    if content is not None:
        yield from _content_rows(table, content, where)
        return
    among = [f"{field.name} ({field.type})" for field in schema]
    columns = _columns([f.name for f in _flat(schema)], where.uri, among)
    ranges = _row_groups(table.metadata) if where.groups is None else [where.groups]
    if len(ranges) > 1:
        yield from (where._replace(groups=groups) for groups in ranges)
        return
    for batch in table.iter_batches(BATCH_ROWS, ranges[0], columns):
        yield _rows(batch, columns, where, left_out)


def _rows(
    batch: pa.RecordBatch, columns: Sequence[str | int], where: ContainerFile, left_out: LeftOut
) -> pa.Table:
    """The rows of a list that have a URI, without a Python object for each; columns: `_columns`."""
    uri, name, *folder = columns
    uris = _bare(_texts(batch.column(uri), partial(_address, where)))
    paths = _bare(_texts(batch.column(name), valid_text))
    if folder:
        folders = _bare(_texts(batch.column(folder[0]), valid_text))
        folders = pc.replace_substring_regex(folders, r"[/\\]+$", "")
        within = pc.and_(pc.not_equal(folders, ""), pc.match_substring_regex(uris, r"^[^/\\]+$"))
        joined = pc.binary_join_element_wise(folders, uris, "/")
        joined = pc.if_else(pc.fill_null(within, False), joined, uris)
        # Where files were moved beside their list, the folder is that of another day.
        uris = paths = max(joined, uris, key=partial(_count_beside, where))
    opens, slash = _from_anywhere(uris, where)
    paths = _slashed(paths, slash)
    listed = [
        paths := pc.coalesce(pc.if_else(pc.equal(paths, ""), uris, paths), uris),
        opens,
        pa.repeat(pa.scalar(-1, pa.int64()), len(batch)),
        pa.repeat("", len(batch)),
        paths,
    ]
    table = pa.table(listed, LISTED)
    for what, pattern in (
        (_WITHOUT_ADDRESS, "^$"),
        (_WINDOWS_PATHS, _OF_WINDOWS),
        (_IN_BASE64, _OF_BASE64),
    ):
        wrong = pc.match_substring_regex(pc.fill_null(uris, ""), pattern)
        if count := pc.sum(wrong).as_py():
            left_out.skipped[what] += count
            table, uris = (rows.filter(pc.invert(wrong)) for rows in (table, uris))
    return table


def content_column(schema: pa.Schema) -> str | None:
    """The column that holds image bytes: binary, or a struct with the binary field `bytes`."""
    structs = [
        field.name
        for field in schema
        if pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0
    ]
    binary = [field.name for field in schema if _is_binary(field.type)]
    return _first(structs + binary, _CONTENT_COLUMNS) or next(iter(structs), None)


def name_column(schema: pa.Schema, content: str) -> str | None:
    """The column that names the images of a table beside their bytes; it may be `CONTENT.path`."""
    texts = [field.name for field in _flat(schema) if not _is_binary(field.type)]
    kind = schema.field(content).type
    has_path = pa.types.is_struct(kind) and kind.get_field_index("path") >= 0
    return _first(texts, _PATH_COLUMNS) or (f"{content}.path" if has_path else None)


def _flat(schema: pa.Schema) -> list[pa.Field]:
    return [field for field in schema if not pa.types.is_nested(field.type)]


def _is_binary(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return any(
        is_kind(kind)
        for is_kind in (
            *(pa.types.is_binary, pa.types.is_large_binary),
            *(pa.types.is_binary_view, pa.types.is_fixed_size_binary),
        )
    )


def member_uri(kind: str, member: str, source: str) -> str:
    """What opens a member of an archive; its name never decides where the source begins."""
    return f"{kind}://{member.replace('%', '%25').replace('::', '%3A%3A')}::{source}"


def holds_images(fs: Any, name: str, or_addresses: bool) -> bool:
    """Whether a Parquet table has the bytes of images, or where `or_addresses` their addresses;
    true of one that cannot be read.
    """
    try:
        with fs.open(name) as file:
            schema = pq.read_schema(file)
            addresses = or_addresses and _first(schema.names, URI_COLUMNS)
            return content_column(schema) is not None or bool(addresses)
    except (OSError, pa.ArrowException):
        return True  # and the listing counts it as unreadable


def _content_rows(
    table: pq.ParquetFile, content: str, where: ContainerFile
) -> Iterator[ListedImage]:
    """Rows of a table that holds the images themselves; a changed file is changed throughout.

    Rows are named by a column of paths, else by the `path` beside the bytes (Hugging Face), else
    by their number, which is added where a name comes again.
    """
    name = name_column(table.schema_arrow, content)
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
            yield listed_image(path, f"parquet://{group}/{row}::{where.uri}", -1, tag)
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


def _bare(texts: pa.Array) -> pa.Array:
    """Texts without spaces around them, nor quotes, which a parser leaves after a space, nor the
    numbers of classes after them (`a.jpg 0`, as Caffe's lists have)."""
    texts = pc.replace_substring_regex(pc.utf8_trim_whitespace(texts), r'^"(.*)"$', r"\1")
    return pc.replace_substring_regex(texts, _CLASSES, r"\1")


def _address(where: ContainerFile, name: str) -> str:
    text = valid_text(name)
    if text == name or "://" in name:
        return text
    here = [f"{base}/{name}" for base in (_folder(where), Path.cwd()) if name[:1] != "/"]
    return uri_of(LocalFileSystem(), next(filter(os.path.lexists, here), (*here, name)[0]))


def _from_anywhere(uris: pa.Array, where: ContainerFile) -> tuple[pa.Array, str]:
    """What opens each address of a list, from any directory, and what its backslashes stand for.

    A relative path begins at the list's folder, or at this working directory where some of the
    paths lead to files from there alone; so are backslashes slashes, as Windows writes them.
    """
    stays = pc.match_substring_regex(uris, rf"^(/|~|file:)|://|^$|{_OF_WINDOWS}")
    some = [name for name in uris.filter(pc.invert(stays)).slice(0, _SOME).to_pylist() if name]
    bases = (_folder(where), valid_text(str(Path.cwd())))

    def there(begin: tuple[str, str]) -> int:
        paths = [begin[0] + "/" + name.replace("\\", begin[1]) for name in some]
        return sum(("://" in path and "\\" not in path) or os.path.lexists(path) for path in paths)

    base, slash = max(itertools.product(bases, "\\/"), key=there)
    opens = pc.binary_join_element_wise(base, _slashed(uris, slash), "/")
    return pc.if_else(stays, uris, opens), slash


def _count_beside(where: ContainerFile, uris: pa.Array) -> int:
    some = [uri.replace("\\", "/") for uri in uris.slice(0, _SOME).to_pylist() if uri]
    return sum(os.path.lexists(f"{_folder(where)}/{uri}") for uri in some)


def _slashed(texts: pa.Array, slash: str) -> pa.Array:
    """Texts with what their backslashes stand for; as they are where that is a backslash."""
    return texts if slash == "\\" else pc.replace_substring(texts, "\\", slash)


def _folder(where: ContainerFile) -> str:
    return posixpath.dirname(where.uri.partition("?")[0] if "://" in where.uri else where.uri)


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


def _columns(columns: Sequence[str], source: str, among: Sequence[str] | None = None) -> list[str]:
    """The columns of what opens an image, of its name, and of the folder, if that is in another.

    among: all that there are.
    """
    name = _first(columns, _PATH_COLUMNS)
    uri = _first(columns, URI_COLUMNS) or name
    if uri is None:
        has = ", ".join(name[:_MOST_SHOWN] for name in among or columns)
        raise NoImageColumnError(
            f"{source} needs a column of addresses (url), of paths (path, file_name) or, in "
            f"Parquet, of image bytes; it has {has}"
        )
    folder = _first(columns, FOLDER_COLUMNS) if uri == name else None
    return [uri, name or uri, *filter(None, [folder])]


def plain_name(column: str) -> str:
    """A column's name without case, spaces and signs."""
    return re.sub("[^0-9a-z]", "", column.casefold())


def _first(columns: Sequence[str], names: Iterable[str]) -> str | None:
    by_name = {plain_name(column): column for column in reversed(columns)}
    return next((by_name[name] for name in names if name in by_name), None)


def _coco_row(image: dict[str, Any]) -> tuple[str, str, str]:
    name = str(image["file_name"])
    return name, str(image.get("coco_url") or image.get("flickr_url") or name), str(image["id"])


def refusal(where: ContainerFile, error: Exception) -> ImageSearchError | None:
    """What is said of a whole source that cannot be listed; None where the error says enough."""
    if isinstance(error, FileNotFoundError):
        return MissingError(f"no images at {where.uri}: {error.__cause__ or error}")
    if isinstance(error, zipfile.BadZipFile | tarfile.TarError):
        return BadInputError(f"{where.uri} is no whole {where.kind[1:]} archive: {error}")
    if isinstance(error, gzip.BadGzipFile | EOFError | zlib.error):
        return BadInputError(f"{where.uri} is no whole gzip file: {error}")
    if is_of_page(error) or isinstance(error, pa.ArrowException | UnicodeDecodeError):
        return BadInputError(f"{where.uri} cannot be read as {where.kind[1:]}: {error}")
    no_ranges = isinstance(error, ValueError) and not isinstance(error, BadInputError)
    if no_ranges and re.search("seek|range", str(error)):
        return BadInputError(
            f"{where.uri}: its server does not send parts of files; fetch it, and give the file"
        )
    return None


_LISTERS: dict[str, Callable[[Any, ContainerFile, LeftOut], Rows]] = {
    ".zip": _zip,
    ".tar": _tar,
    ".json": _json,
    ".csv": _list,
    ".tsv": _list,
    ".txt": _list,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".parquet": _parquet,
}
_READ_IN_ORDER = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson")  # which may be compressed
CONTAINERS = (*_LISTERS,)  # endings of such files


def container_kind(name: str) -> str:
    """The ending of a file's name; of a compressed list that before `.gz`."""
    last = ending(name)
    inner = ending(name[: -len(last)]) if last == ".gz" else ""
    return inner if inner in _READ_IN_ORDER else last


def list_container(where: ContainerFile, left_out: LeftOut) -> Rows:
    """The images that an archive or table lists; of a large list of URIs, its parts."""
    with where.fs.open(where.path) as file, ExitStack() as opened:
        content = file
        if where.is_compressed:
            content = opened.enter_context(gzip.GzipFile(fileobj=file))
        yield from _LISTERS[where.kind](content, where, left_out)
