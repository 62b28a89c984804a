"""Caption files in the shapes in which people have them, as one kind of row.

COCO's JSON, Karpathy's, lists and tables in JSON or JSON Lines, CSV of any delimiter, Parquet and
Arrow, Flickr8k's tokens, WebDataset's tars, and folders with a text beside each image or a
metadata file. The shape is told by the content, not by the name. What cannot be understood is
refused with its place in the file; what is left out is counted and named.
"""

import ast
import bz2
import csv
import gzip
import itertools
import json
import lzma
import posixpath
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from lib.datasets.matching import clean, has_image_ending
from lib.errors import BadInputError, ImageSearchError, MissingError
from lib.images.code_pages import code_page
from lib.images.listing import content_column
from lib.storage import filesystem

LONGEST_CAPTION = 2_000  # characters; longer ones are named: files that run together have them
_MOST_BYTES = 4 << 30  # of a file, and of what a compressed one becomes
_MOST_SIDECAR_BYTES = 1 << 20
_MOST_LINES = 100  # of one quoted caption
_FEW = 0.01  # this share of a table's lines may be left out, with a word; more is another format

# Columns as people name them, without case, spaces and signs; the first that a table has is taken.
NAME_COLUMNS = re.findall(
    r"\w+",
    """filename filepath file imagepath imgpath imagefile imagefilename imgfilename imagename
    imgname image img path photo picture jpg key imagekey name""",
)
URL_COLUMNS = ("url", "imageurl", "cocourl", "uri", "imageuri", "link", "urls", "imageurls")
ID_COLUMNS = ("cocoid", "imageid")  # beside a name, too; `id` may be that of a caption
LONE_ID_COLUMNS = ("imgid", "photoid", "id")
CAPTION_COLUMNS = re.findall(
    r"\w+",
    """caption captions captiontext text texts sentence sentences sentencesraw raw rawcaption
    captionstr referencestrs comment comments description descriptions alttext alt txt value""",
)
_NO_NAMES = {"images", "annotations", "info", "licenses", "type", "version", "dataset", "data"}
_NUMBERED = re.compile(r"((?:caption|text|sentence|comment|description)s?)[0-9]+")
# Names of what is inside, where no others stand beside them.
_WRAPPERS = {"train", "training", "val", "valid", "validation", "test", "testing", "dev", "restval"}
_WRAPPERS |= {"caption", "captions", "data"}
_WINDOWS = ("cp1252", "cp1251", "cp932", "gbk", "euc_kr", "big5", "cp1250")
_MISSING = {"", "null", "none", "nan", "<na>", "n/a", "#n/a"}
_STRING = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_ITEM = f"(?:{_STRING}|None|nan)"
_LIST = re.compile(rf"[\[({{]\s*{_ITEM}(?:[\s,]+{_ITEM})*,?\s*[\])}}]", re.DOTALL)
_NESTED = re.compile(r"""[\[{]\s*(\{\s*)?['"]|\[\s*\]$""")
_TOKEN = re.compile(r"([^\t]+)#[^\t#]*\t(.*)", re.DOTALL)


class CaptionRow(NamedTuple):
    """What one place of a file says: an image, by whatever names it, and its captions."""

    place: str  # such as "line 7"
    name: str  # path or file name
    url: str
    image_id: str
    texts: Sequence[str]  # empty: the file only lists the image


@dataclass
class CaptionRows:
    """The rows of a caption file, and remarks on what was left out or taken otherwise."""

    rows: list[CaptionRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class _Columns(NamedTuple):
    name: str | None
    url: str | None
    image_id: str | None
    captions: list[str]
    folder: str | None = None  # Karpathy's `filepath`, beside `filename`


def read_caption_rows(source: str) -> CaptionRows:
    """Read a caption file, a folder, a glob of files, or WebDataset shards; here or at a URL.

    Raises MissingError where nothing is there, BadInputError where it cannot be understood.
    """
    fs, path = filesystem(source)
    result = CaptionRows()
    try:
        if fs.isdir(path):
            _read_folder(fs, path, source, result)
        elif any(mark in path for mark in "*?[") and not fs.exists(path):
            files = sorted(fs.glob(path))
            if not files:
                raise MissingError(f"no file matches {source}")
            for file in files:
                _read_file(fs, file, file, result, shard=len(files) > 1)
        else:
            _read_file(fs, path, source, result)
    except ImageSearchError:
        raise
    except FileNotFoundError as error:
        raise MissingError(f"{source} is not there") from error
    except OSError as error:
        if error.errno:
            raise
        raise BadInputError(f"{source} cannot be read: {error}") from error
    except Exception as error:  # Arrow, JSON, tar and compression have dozens of their own
        raise BadInputError(f"{source} cannot be read as captions: {error!r:.300}") from error
    return result


def _read_file(
    fs: Any, path: str, source: str, result: CaptionRows, folder: str = "", shard: bool = False
) -> None:
    size = fs.info(path)["size"] or 0
    if size > _MOST_BYTES:
        raise BadInputError(f"{source} has {size / 1e9:.1f} GB; split it into files below 4 GB")
    with fs.open(path, "rb") as opened:
        start = opened.read(512)
        opened.seek(0)
        if start[:4] == b"PAR1":
            rows: Iterable[CaptionRow] = _parquet(opened, source, shard)
        elif start and path.lower().endswith((".parquet", ".feather")) and start[:6] != b"ARROW1":
            raise BadInputError(f"{source} cannot be read: it is no Parquet or Feather file")
        elif start[:6] == b"ARROW1":
            table = pa.ipc.open_file(opened).read_all()
            rows = _arrow(table.to_batches(), table.schema, source, shard)
        elif start[:4] == b"\xff\xff\xff\xff":  # a stream, as Hugging Face's save_to_disk writes
            stream = pa.ipc.open_stream(opened)
            rows = _arrow(stream, stream.schema, source, shard)
        elif start[257:262] == b"ustar" or path.lower().endswith((".tar", ".tar.gz", ".tgz")):
            rows = _tar(opened, source)
        else:
            rows = _text(_decode(_decompress(opened), source, result), source, result)
        for row in rows:
            if folder and row.name and "://" not in row.name:
                row = row._replace(name=f"{folder}/{row.name}")
            result.rows.append(row)


def _decompress(opened: Any) -> bytes:
    content: bytes = opened.read()
    openers: dict[bytes, Callable[[Any], Any]] = {
        b"\x1f\x8b": gzip.open,
        b"BZh": bz2.open,
        b"\xfd7zXZ": lzma.open,
    }
    for magic, opener in openers.items():
        if content.startswith(magic):
            file = opener(BytesIO(content))
            content = file.read(min(_MOST_BYTES, max(200 * len(content), 64 << 20)))
            if file.read(1):
                raise ValueError("unpacked it has more than 200 times its size")
    return content


def _decode(content: bytes, source: str, result: CaptionRows) -> str:
    """UTF-8, UTF-16 (with a byte order mark, or the zeros of Latin letters), else of _WINDOWS.

    Where most of what is not ASCII is UTF-8, the rest is damage, not another encoding.
    """
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16")
    sample = content[:1000]
    if sample.count(0) > len(sample) // 3:
        odd = sample[1::2].count(0) > sample[::2].count(0)
        text = content.decode("utf-16-le" if odd else "utf-16-be", "replace")
        if "\0" not in text[:1000]:
            return text
    kinds = {
        b"PK\x03\x04": "a zip archive (or .xlsx): unpack it, or save the table as CSV",
        b"\x80": "a pickle",
        b"\x93NUMPY": "an array",
        b"%PDF": "a PDF",
        b"\xff\xd8": "a JPEG",
    }
    for magic, kind in kinds.items():
        if content.startswith(magic):
            raise BadInputError(f"{source} holds no captions: it is {kind}")
    if any(byte < 9 or 13 < byte < 27 for byte in sample):
        raise BadInputError(f"{source} holds no captions: it is no text, and no Parquet file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        text = content.decode("utf-8-sig", "replace")
        replaced = text.count("\ufffd")
        if len(text) - len(text.encode("ascii", "ignore")) > 2 * replaced:
            says = f"{replaced} characters that are not UTF-8 (line {line}) and show as \ufffd"
            result.notes.append(f"{source} has {says}")
            return text
        lines = [part for part in content.splitlines() if not part.isascii()]
        page = code_page(lines, _WINDOWS, margin=0.5)
        spoken = page.replace("cp", "Windows-")
        result.notes.append(
            f"{source} is not UTF-8 (line {line}); it was read as {spoken}, as Excel writes"
        )
        return content.decode(page, "replace")


def _text(text: str, source: str, result: CaptionRows) -> Iterable[CaptionRow]:
    start = text.lstrip()[:1]
    if start in ("{", "["):
        try:
            return _json(json.loads(text), source)
        except json.JSONDecodeError as error:
            records = _json_lines(text, source)
            if records is None:
                raise BadInputError(f"{source} is not valid JSON: {error}") from error
            return _records(records, source, "line")
    if start and source.lower().endswith((".json", ".jsonl")):
        raise BadInputError(f"{source} is no JSON and so not {_COCO}")
    lines = re.split("\r\n|\r|\n", text)
    sample = [line for line in lines[:20] if line.strip()]
    if sample and sum(bool(_TOKEN.fullmatch(line)) for line in sample) * 2 >= len(sample):
        return _tokens(lines, source, result)
    return _delimited(lines, source, result)


# JSON


def _json_lines(text: str, source: str) -> list[Any] | None:
    """The values of JSON Lines; None where the first line is not one."""
    records: list[Any] = []
    for number, line in enumerate(text.split("\n"), 1):
        try:
            records.append(json.loads(line) if line.strip() else None)
        except json.JSONDecodeError as error:
            if not any(records):
                return None
            raise BadInputError(f"{source}, line {number} is not valid JSON: {error}") from error
    return records


def _json(document: Any, source: str) -> Iterable[CaptionRow]:
    if isinstance(document, Mapping):
        images, annotations = document.get("images"), document.get("annotations")
        if isinstance(images, list) and isinstance(annotations, list):
            return _coco(images, annotations, source)
        names = [str(key) for key in document]
        if _choose_columns(names):
            # pandas writes a column as an object by row; a list each is a table, too.
            columns = [[*v.values()] if isinstance(v, Mapping) else v for v in document.values()]
            if all(isinstance(v, list) for v in columns) and len({*map(len, columns)}) == 1:
                table = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
                return _records(table, source, "row")
            return _records([document], source, "entry")
        if document and {re.sub("[0-9]", "", _plain(name)) for name in names} <= _WRAPPERS:
            parts = (_json(part, source) for part in document.values() if part)
            return itertools.chain.from_iterable(parts)
        lists = [value for value in document.values() if isinstance(value, list) and value]
        records = [value for value in lists if all(isinstance(entry, Mapping) for entry in value)]
        if len(records) == 1:
            return _records(records[0], source, "entry")
        if not document or _NO_NAMES & {_plain(name) for name in names}:
            raise BadInputError(
                f"{source} is not {_COCO}: it has {', '.join(names[:5]) or 'nothing'}"
            )
        entries = [*document.values()]
        if isinstance(entries[0], Mapping) and not has_image_ending(names[0]):
            chosen = _choose_columns(map(str, entries[0]))
            if chosen and _plain(chosen.name or "") in NAME_COLUMNS:  # the keys count rows
                return _records(entries, source, "entry")
        return [
            CaptionRow(f"entry {name}", clean(name), "", "", _texts(value, source, f"entry {name}"))
            for name, value in zip(names, document.values(), strict=True)
        ]
    if isinstance(document, list):
        return _records(document, source, "entry")
    raise BadInputError(f"{source} holds one {type(document).__name__}, no captions")


def _coco(images: list[Any], annotations: list[Any], source: str) -> Iterator[CaptionRow]:
    """COCO: the images first, then a row for each annotation."""
    known: dict[str, tuple[str, str]] = {}
    for number, image in enumerate(images):
        place = f"images[{number}]"
        if not isinstance(image, Mapping) or "id" not in image:
            raise BadInputError(f"{source}, {place} has no id: it is not {_COCO}")
        image_id = _identifier(image["id"], source, f"{place}.id")
        names = [image.get(name) or "" for name in ("file_name", "coco_url", "flickr_url")]
        if not names[0]:
            names[0] = next((image[k] for k in image if _plain(k) in NAME_COLUMNS), "") or ""
        if not all(isinstance(name, str) for name in names):
            raise BadInputError(f"{source}, {place}: file_name and coco_url must be texts")
        names = [clean(name) for name in names]
        known[image_id] = names[0], names[1] or names[2]
        yield CaptionRow(place, *known[image_id], image_id, [])
        if any(key in image for key in ("caption", "captions", "sentences")):
            texts = image.get("captions", image.get("sentences", image.get("caption")))
            yield CaptionRow(place, *known[image_id], image_id, _texts(texts, source, place))
    orphans: list[str] = []
    for number, annotation in enumerate(annotations):
        place = f"annotations[{number}]"
        if not isinstance(annotation, Mapping) or not {"image_id", "caption"} <= annotation.keys():
            raise BadInputError(f"{source}, {place} has no image_id and caption: it is not {_COCO}")
        image_id = _identifier(annotation["image_id"], source, f"{place}.image_id")
        if image_id not in known:
            orphans.append(image_id)
            continue
        texts = _texts(annotation["caption"], source, place)
        yield CaptionRow(place, *known[image_id], image_id, texts or [""])
    if orphans:
        raise BadInputError(
            f"{source}: {len(orphans)} annotations name images that its 'images' list lacks, "
            f"such as {min(orphans)}"
        )


_COCO = (
    "COCO's caption format (an object with 'images' [id, file_name] and 'annotations' "
    "[image_id, caption])"
)


def _records(records: Sequence[Any], source: str, unit: str) -> Iterator[CaptionRow]:
    keys: dict[str, None] = {}
    for record in records:
        if isinstance(record, Mapping):
            keys.update(dict.fromkeys(map(str, record)))
        elif record is not None:
            raise BadInputError(f"{source} holds {_kind(record)} where an object is expected")
    columns = _require_columns(list(keys), source)
    shapes: dict[tuple[str, ...], _Columns] = {}
    for number, record in enumerate(records, 1):
        if record is None:
            continue
        shape = tuple(map(str, record))
        if shape not in shapes:
            shapes[shape] = _choose_columns(shape) or columns
        yield _row(record, shapes[shape], source, f"{unit} {number}")


# Tables


def _plain(column: str) -> str:
    return re.sub("[^0-9a-z]", "", column.casefold())


def _choose_columns(names: Iterable[str]) -> _Columns | None:
    """Which columns say what; None where images or captions are not named."""
    plain: dict[str, str] = {}
    for name in names:
        plain.setdefault(_plain(name), name)

    def first(among: Iterable[str]) -> str | None:
        return next((plain[name] for name in among if name in plain), None)

    numbered = {key: match[1] for key in plain if (match := _NUMBERED.fullmatch(key))}
    captions = [plain[key] for key in plain if key in numbered or key in numbered.values()]
    caption = first(CAPTION_COLUMNS) or next(
        (name for key, name in plain.items() if key.endswith(("caption", "captions"))), None
    )
    if caption and len(captions) < 2:
        captions = [caption]
    chosen = _Columns(first(NAME_COLUMNS), first(URL_COLUMNS), first(ID_COLUMNS), captions)
    if chosen[:3] == (None, None, None):
        chosen = chosen._replace(image_id=first(LONE_ID_COLUMNS))
    if "filename" in plain and "filepath" in plain:
        chosen = chosen._replace(name=plain["filename"], folder=plain["filepath"])
    rest = [name for key, name in plain.items() if key and name not in captions]
    if captions and chosen[:3] == (None, None, None) and len(rest) == 1:
        chosen = chosen._replace(name=rest[0])
    return chosen if captions and any(chosen[:3]) else None


def _require_columns(names: Sequence[str], source: str) -> _Columns:
    columns = _choose_columns(names)
    if columns is None:
        short = [name if len(name) <= 30 else f"{name[:29]}…" for name in names]
        rest = f" and {len(names) - 5} more" if len(names) > 5 else ""
        raise BadInputError(
            f"{source} needs the columns image and caption (or file_name, path, url; text, "
            f"sentence); it has {', '.join(short[:5]) or 'none'}{rest}"
        )
    return columns


def _row(record: Mapping[str, Any], columns: _Columns, source: str, place: str) -> CaptionRow:
    def named(column: str | None) -> str:
        value = record.get(column) if column else None
        if isinstance(value, bytes):
            return ""
        if isinstance(value, Mapping):  # Hugging Face's image: {bytes, path}
            value = next((value[k] for k in ("path", "file_name", "url") if value.get(k)), None)
        return _identifier(value, source, f"{place}, {column}") if value is not None else ""

    name, folder = named(columns.name), named(columns.folder)
    if folder and not has_image_ending(folder):
        name = f"{folder}/{name}"
    texts = [
        text
        for column in columns.captions
        for text in _texts(record.get(column), source, f"{place}, {column}")
    ]
    return CaptionRow(place, name, named(columns.url), named(columns.image_id), texts or [""])


def _identifier(value: Any, source: str, place: str) -> str:
    """A name or a number as text: 139, 139.0 and "139" are the same."""
    if isinstance(value, float) and value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise BadInputError(f"{source}, {place} names no image: it is {_kind(value)}")
    return clean(str(value)).strip()


def _texts(value: Any, source: str, place: str) -> list[str]:
    """The captions in a value: a text, a list of what holds captions, or an object with one."""
    if value is None or (isinstance(value, float) and value != value):
        return []
    if isinstance(value, bytes):
        value = value.decode()
    if isinstance(value, str):
        text = clean(value).strip()
        literal = _literal(text)
        return [text] if literal is text else _texts(literal, source, place)
    if isinstance(value, list | tuple):
        return [text for entry in value for text in _texts(entry, source, place) if text]
    if isinstance(value, Mapping):
        fields = {_plain(str(key)): entry for key, entry in value.items()}
        for name in ("raw", *CAPTION_COLUMNS):
            if name in fields:
                return _texts(fields[name], source, place)
        if len(fields) == 1:
            return _texts(next(iter(value.values())), source, place)
        kind = f"an object of {', '.join(map(str, list(value)[:5]))}"
        raise BadInputError(f"{source}, {place}: the caption is {kind}; none of them is its text")
    raise BadInputError(f"{source}, {place}: the caption is no text but {_kind(value)}")


def _kind(value: Any) -> str:
    return f"{type(value).__name__} ({value!r:.40})"


def _parquet(opened: Any, source: str, shard: bool) -> Iterator[CaptionRow]:
    table = pq.ParquetFile(opened)
    schema = table.schema_arrow
    columns = _text_columns(schema, source)
    leaves = [*columns.captions]
    for name in filter(None, (*columns[:3], columns.folder)):
        kind = schema.field(name).type
        if not _holds_bytes(kind):
            leaves.append(name)
        elif pa.types.is_struct(kind) and kind.get_field_index("path") >= 0:
            leaves.append(f"{name}.path")  # of an image in bytes only its path is read
    return _arrow(table.iter_batches(16_384, columns=leaves), schema, source, shard)


def _holds_bytes(kind: pa.DataType) -> bool:
    return bool(re.match("struct<|(large_)?binary$", str(kind)))


def _arrow(
    batches: Iterable[pa.RecordBatch], schema: pa.Schema, source: str, shard: bool
) -> Iterator[CaptionRow]:
    """Rows of a table. One that holds the images, too, names them as `lib.images.listing` does:
    without a name by file and row; a name that comes again, of another id, by its row, too. In a
    `shard`, one of several files, a name is told from the same in others by the file's."""
    columns = _text_columns(schema, source)
    holds_images = content_column(schema) is not None
    names: set[str] = set()
    by_id: dict[str, str] = {}
    for row, record in enumerate(record for batch in batches for record in batch.to_pylist()):
        caption_row = _row(record, columns, source, f"row {row}")
        if holds_images:
            name, file = caption_row.name or str(row), PurePosixPath(source).name
            if not caption_row.name or (shard and "://" not in name):
                name = f"{file}/{name}"
            name = f"{name}#{row}" if name in names else name
            names.add(name)
            if caption_row.image_id:
                name = by_id.setdefault(caption_row.image_id, name)
            caption_row = caption_row._replace(name=name)
        yield caption_row


def _text_columns(schema: pa.Schema, source: str) -> _Columns:
    """The columns of a table. Raises BadInputError also where captions are no text."""
    columns = _require_columns(schema.names, source)
    for name in columns.captions:
        kind = schema.field(name).type
        while re.match("[a-z_]*list", str(kind)):
            kind = kind.field(0).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if not re.match(r"(large_)?(string|binary)(_view)?$|struct<|null$", str(kind)):
            raise BadInputError(
                f"{source}: the column {name} holds {schema.field(name).type}, no text"
            )
    return columns


def _tokens(lines: Sequence[str], source: str, result: CaptionRows) -> Iterator[CaptionRow]:
    """Flickr8k's and Flickr30k's `NAME.jpg#0<tab>caption`."""
    unusable: list[int] = []
    for number, line in enumerate(lines, 1):
        token = _TOKEN.fullmatch(line)
        if token:
            yield CaptionRow(
                f"line {number}", clean(token[1]).strip(), "", "", [clean(token[2]).strip()]
            )
        elif line.strip():
            unusable.append(number)
    _note_unusable(unusable, len(lines), "NAME.jpg#0<tab>caption is expected", source, result)


def _note_unusable(
    unusable: Sequence[int], count: int, expected: str, source: str, result: CaptionRows
) -> None:
    """Say which lines are left out; refuse the file where they are more than a few."""
    if not unusable:
        return
    message = f"{source}, line {unusable[0]}: {expected}"
    if len(unusable) > _FEW * count:
        raise BadInputError(f"{message} ({len(unusable)} such lines)")
    result.notes.append(f"{message}; {len(unusable)} such lines are left out")


class _Line(NamedTuple):
    number: int
    cells: list[str]
    kind: str  # "", "break" (a quoted field goes over several lines), or "stray" (a lone quote)


def _delimited(lines: list[str], source: str, result: CaptionRows) -> Iterator[CaptionRow]:
    """A table of any delimiter, with a header, or with images and captions alone."""
    start, delimiters = next((n for n, line in enumerate(lines) if line.strip()), 0), "\t,;|"
    if separator := re.fullmatch("sep=(.)", lines[start]):  # Excel's
        start, delimiters = start + 1, separator[1]
    if not any(map(str.strip, lines[start : start + 1])):
        raise BadInputError(f"{source} is empty: it holds no captions")
    names, delimiter, has_header = _header(lines[start], delimiters)
    while names and not names[-1]:  # columns that have neither a name nor, then, a text
        names.pop()
    plain = [*map(_plain, names)]
    names = [f"{n}.{i}" if n and plain[i] in plain[:i] else n for i, n in enumerate(names)]
    columns = _require_columns(names, source)
    image = names.index(columns.name or columns.url or columns.image_id or "")
    table = list(_split_lines(lines, start + has_header, delimiter, len(names), image))
    firsts = [line.cells[0].strip() for line in table if len(line.cells) == len(names) + 1]
    if firsts and firsts[0].isdecimal():  # R's row names have no header
        counted = itertools.count(int(firsts[0]))
        if len(firsts) == len(table) and all(first == str(next(counted)) for first in firsts):
            table = [line._replace(cells=line.cells[1:]) for line in table]
    _note_lines(table, len(names), delimiter, source, result)
    for line in table:
        if len(line.cells) == len(names):
            record = dict(zip(names, line.cells, strict=True))
            yield _row(record, columns, source, f"line {line.number}")


def _header(line: str, delimiters: str) -> tuple[list[str], str, bool]:
    """Names of the columns, their delimiter, and whether this line holds them."""
    split = {
        delimiter: [cell.strip() for cell in _parse(line, delimiter) or line.split(delimiter)]
        for delimiter in delimiters
    }
    for delimiter, names in split.items():
        if _choose_columns(names):
            return names, delimiter, True
    for delimiter, cells in split.items():
        images = [_names_an_image(cell) for cell in cells]
        if len(cells) == 2 and sum(images) == 1:
            return (["image", "caption"] if images[0] else ["caption", "image"]), delimiter, False
    delimiter = max(split, key=lambda each: len(split[each]))
    return split[delimiter], delimiter, True


def _names_an_image(cell: str) -> bool:
    return has_image_ending(cell) or cell.strip().startswith(("http://", "https://", "s3://"))


def _parse(text: str, delimiter: str) -> list[str] | None:
    """The fields of one record with quotes as RFC 4180 has them; None where a quote stays open."""
    usual: dict[str, Any] = {"delimiter": delimiter, "strict": True, "skipinitialspace": True}
    escaped = {**usual, "escapechar": "\\", "doublequote": False}
    for options in (usual, escaped) if '\\"' in text else (usual,):
        with suppress(csv.Error, ValueError):
            (cells,) = csv.reader([text], **options)
            return cells
    return None


def _split_lines(
    lines: Sequence[str], start: int, delimiter: str, count: int, image: int
) -> Iterator[_Line]:
    """Records of `count` fields. A quote opens a field of several lines only where they are not
    records themselves; else it is a sign like any other, so that it swallows nothing."""
    at = start
    while at < len(lines):
        line, number = lines[at], at + 1
        at += 1
        if not line.strip():
            continue
        cells, kind = (line.split(delimiter) if '"' not in line else _parse(line, delimiter)), ""
        if cells is None:
            cells, kind = line.split(delimiter), "stray"
            for end in range(at + 1, min(at + _MOST_LINES, len(lines) + 1)):
                inner = lines[end - 1].split(delimiter)
                name = inner[image].strip() if len(inner) >= count else ""
                if _names_an_image(name) or name.isdecimal():
                    break
                if '"' not in lines[end - 1]:
                    continue
                joined = _parse("\n".join(lines[number - 1 : end]), delimiter)
                if joined and len(joined) == count and "\n" not in joined[image]:
                    cells, kind, at = joined, "break", end
                    break
        while len(cells) > count and not cells[-1].strip():
            cells.pop()
        if image < len(cells) and '"' in cells[image]:
            cells[image], kind = cells[image].strip('" '), kind or "stray"
        yield _Line(number, cells, kind)


def _note_lines(
    table: Sequence[_Line], count: int, delimiter: str, source: str, result: CaptionRows
) -> None:
    """Account for lines that are not one plain record each."""
    long = [line for line in table if len(line.cells) > count]
    if long:
        raise BadInputError(
            f"{source}, line {long[0].number} has {len(long[0].cells)} fields where {count} are "
            f"expected ({len(long)} such lines): put quotes around a caption that holds a "
            f"{delimiter!r}"
        )
    short = [line.number for line in table if len(line.cells) < count]
    _note_unusable(short, len(table), f"fewer than {count} fields", source, result)
    kinds = {
        "break": "captions go over several lines",
        "stray": "lines hold a lone quote, which was taken as it is",
    }
    for kind, says in kinds.items():
        numbers = [line.number for line in table if line.kind == kind]
        if numbers:
            result.notes.append(f"{source}: {len(numbers)} {says}, first line {numbers[0]}")


def _literal(text: str) -> Any:
    """A text as its value: nothing, a list or an object as Python, numpy or JSON writes it."""
    if text.casefold() in _MISSING:
        return None
    if text.startswith(("[", "(", "{")) and (_LIST.fullmatch(text) or _NESTED.match(text)):
        for parse in (json.loads, _strings, ast.literal_eval):
            try:
                value = parse(text)
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
            if isinstance(value, list | dict):
                return value
    return text


def _strings(text: str) -> list[str]:
    """A list of texts as Python or numpy writes it: numpy has no commas between them."""
    if not _LIST.fullmatch(text):
        raise ValueError
    return [ast.literal_eval(part) for part in re.findall(_STRING, text)]


# Texts beside images


def _tar(opened: Any, source: str) -> Iterator[CaptionRow]:
    """A WebDataset shard: a text belongs to the image of its stem, else of its key, the path up to
    the first dot of the file name (`1.0.txt`, `1.1.txt` and `1.jpg` are one sample)."""
    images: dict[str, str] = {}
    texts: dict[str, dict[str, None]] = {}
    urls: dict[str, str] = {}
    with tarfile.open(fileobj=opened) as archive:
        for member in archive:
            stem = posixpath.splitext(member.name)[0]
            if has_image_ending(member.name):
                images[stem] = member.name
                images.setdefault(_FIRST_DOT.sub("", stem), member.name)
            elif member.isreg() and _is_sidecar(member.name, member.size):
                content = archive.extractfile(member)
                assert content is not None
                said, url = _sidecar(content.read(), f"{source}: {member.name}")
                texts.setdefault(stem, {}).update(dict.fromkeys(said))
                urls[stem] = url or urls.get(stem, "")
            archive.members = []  # type: ignore[attr-defined]
    for stem, captions in texts.items():
        name = images.get(stem) or images.get(_FIRST_DOT.sub("", stem), stem)
        if captions:
            path = f"{PurePosixPath(source).name}/{name}"
            yield CaptionRow(name, path, urls[stem], "", [*captions])


_FIRST_DOT = re.compile(r"\.[^/]*$")
# Google Takeout's IMG_1.jpg(2).json and IMG_1.jpg.supplemental-metadata(2).json: IMG_1(2).jpg
_TAKEOUT = re.compile(r"^(.+?)(\.\w+)(?:\.[a-z-]*)?(\(\d+\))?$", re.DOTALL)


def _is_sidecar(name: str, size: int) -> bool:
    named = name.lower().endswith((".txt", ".caption", ".json"))
    return named and not posixpath.basename(name).startswith(".") and size <= _MOST_SIDECAR_BYTES


def _sidecar(content: bytes, source: str) -> tuple[list[str], str]:
    """The captions and the URL in a file that belongs to one image."""
    text = _decode(content, source, CaptionRows())
    if not source.lower().endswith(".json"):
        return [clean(line).strip() for line in text.splitlines() if line.strip()], ""
    try:
        record = json.loads(text)
    except json.JSONDecodeError as error:
        raise BadInputError(f"{source} is not valid JSON: {error}") from error
    if isinstance(record, list) and all(isinstance(entry, str) for entry in record):
        return _texts(record, source, "the list"), ""
    if not isinstance(record, Mapping):
        return [], ""
    columns = _choose_columns(map(str, record)) or _choose_columns([*map(str, record), "key"])
    if columns is None:
        return [], ""
    row = _row(record, columns, source, "the object")
    return [text for text in row.texts if text], row.url


def _read_folder(fs: Any, root: str, source: str, result: CaptionRows) -> None:
    """A folder: a metadata file, captions under a known name, shards, else a text an image."""
    names = sorted(
        posixpath.join(posixpath.relpath(folder, root), name) if folder != root else name
        for folder, _, files in fs.walk(root)
        for name in files
        if not name.startswith(".")
    )
    for pattern in _FOLDER_FILES:
        files = [name for name in names if re.search(pattern, name, re.IGNORECASE)]
        for name in files:
            place, shard = f"{source}/{name}", len(files) > 1
            _read_file(fs, f"{root}/{name}", place, result, posixpath.dirname(name), shard)
        if files:
            return
    images = {posixpath.splitext(name)[0]: name for name in names if has_image_ending(name)}
    texts: dict[str, dict[str, None]] = {}
    for name in names:
        stem = posixpath.splitext(name)[0]
        path = f"{root}/{name}"
        if _is_sidecar(name, fs.info(path)["size"]):
            image = _TAKEOUT.sub(r"\1\3\2", stem)
            image = image if has_image_ending(image) else images.get(stem, stem)
            said, _ = _sidecar(fs.cat_file(path), f"{source}/{name}")
            texts.setdefault(image, {}).update(dict.fromkeys(said))
    if not texts:
        raise BadInputError(
            f"{source} is a folder without captions: it needs a metadata.csv or .jsonl, a "
            "captions file, or a .txt beside each image"
        )
    result.rows += [CaptionRow(name, clean(name), "", "", [*said]) for name, said in texts.items()]


# The first kind that a folder has is read, all files of it.
_FOLDER_FILES = (
    r"(^|/)metadata\.(csv|jsonl|parquet)$",  # Hugging Face's ImageFolder
    r"(^|/)(flickr\d+k\.token\.txt|results_20130124\.token|results\.csv|(dataset_(?!infos?\.)|captions_)\w+\.json)$",
    r"^[^/]*/?captions?\.(csv|tsv|txt|jsonl?|parquet)$",
    r"(\.parquet|-\d+-of-\d+\.arrow)$",
    r"\.tar$",
)
