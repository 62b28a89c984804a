"""Captions in tables: CSV of any delimiter, Flickr8k's tokens, Parquet and Arrow."""

import csv
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from lib.datasets.caption_rows import (
    CaptionRow,
    CaptionRows,
    Columns,
    choose_columns,
    note_choice,
    require_columns,
    row_of,
)
from lib.datasets.matching import clean, has_image_ending
from lib.errors import BadInputError
from lib.images.containers import content_column, name_column, plain_name

LONGEST_CAPTION = 2_000  # characters; longer ones are named: files that run together have them
_MOST_LINES = 100  # of one quoted caption
_MOST_TITLES = 5  # lines among which the header is
_COUNTED = re.compile(r"(\.\w+)#\d$")  # NAME.jpg#0, as in tokens
TOKEN = re.compile(r"([^\t]+)#[^\t#]*\t(.*)", re.DOTALL)


def parquet_rows(
    opened: Any, source: str, shard: bool, result: CaptionRows
) -> Iterator[CaptionRow]:
    """The rows of a Parquet file, also of one that holds the images; `shard`: one of several."""
    table = pq.ParquetFile(opened)
    schema = table.schema_arrow
    columns = _text_columns(schema, source)
    leaves = [*columns.captions, *columns.spare, *columns.rejections]
    for name in filter(None, (*columns[:3], columns.folder)):
        for number in range(table.metadata.num_columns):
            leaf = table.schema.column(number)
            bare = "BYTE_ARRAY" in leaf.physical_type and leaf.logical_type.type == "NONE"
            # Of images in bytes, or lists of them, all but the bytes is read: their paths.
            if not bare and (leaf.path == name or leaf.path.startswith(f"{name}.")):
                leaves.append(leaf.path)
    return arrow_rows(table.iter_batches(16_384, columns=leaves), schema, source, shard, result)


def arrow_rows(
    batches: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    source: str,
    shard: bool,
    result: CaptionRows,
) -> Iterator[CaptionRow]:
    """Rows of a table. One that holds the images, too, names them as `lib.images.listing` does:
    without a name by file and row; a name that comes again, of another id, by its row, too. In a
    `shard`, one of several files, a name is told from the same in others by the file's."""
    columns = _text_columns(schema, source)
    note_choice(schema.names, columns, source, result)
    holds_images = content_column(schema) is not None
    names: set[str] = set()
    by_id: dict[str, str] = {}
    for row, record in enumerate(record for batch in batches for record in batch.to_pylist()):
        try:
            caption_row = row_of(record, columns, source, f"row {row}")
        except BadInputError as error:
            result.problems.append(str(error))
            continue
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


def _text_columns(schema: pa.Schema, source: str) -> Columns:
    """The columns of a table. Raises BadInputError also where captions are no text."""
    columns = require_columns(schema.names, source)
    for name in columns.captions:
        if not _may_hold_text(schema.field(name).type):
            raise BadInputError(
                f"{source}: the column {name} holds {schema.field(name).type}, no text"
            )
    spare = [name for name in columns.spare if _may_hold_text(schema.field(name).type)]
    if content := content_column(schema):  # named as a listing does
        named = name_column(schema, content)
        own = content if named == f"{content}.path" else named
        columns = columns._replace(name=own, folder=None)
    return columns._replace(spare=spare)


def _may_hold_text(kind: pa.DataType) -> bool:
    while re.match("[a-z_]*list", str(kind)):
        kind = kind.field(0).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(re.match(r"(large_)?(string|binary)(_view)?$|struct<|null$", str(kind)))


def token_rows(lines: Sequence[str], source: str, result: CaptionRows) -> Iterator[CaptionRow]:
    """Flickr8k's and Flickr30k's `NAME.jpg#0<tab>caption`."""
    for number, line in enumerate(lines, 1):
        token = TOKEN.fullmatch(line)
        if token:
            yield CaptionRow(
                f"line {number}", clean(token[1]).strip(), "", "", [clean(token[2]).strip()]
            )
        elif line.strip():
            expected = "NAME.jpg#0<tab>caption is expected"
            result.problems.append(f"{source}, line {number}: {expected}")


class _Line(NamedTuple):
    number: int
    cells: list[str]
    kind: str  # "", "break" (a quoted field of several lines), "stray" (a lone quote), "prose"


def delimited_rows(lines: list[str], source: str, result: CaptionRows) -> Iterator[CaptionRow]:
    """A table of any delimiter, with a header, or with images and captions alone."""
    start, delimiters = next((n for n, line in enumerate(lines) if line.strip()), 0), "\t,;|"
    if separator := re.fullmatch("sep=(.)", lines[start]):  # Excel's
        start, delimiters = start + 1, separator[1]
    if not any(map(str.strip, lines[start : start + 1])):
        raise BadInputError(f"{source} is empty: it holds no captions")
    names, delimiter, before = _header(lines[start : start + _MOST_TITLES], delimiters)
    if before > 1:
        result.notes.append(f"{source} is a table from line {start + before} on")
    start += before
    while names and not names[-1]:  # columns that have neither a name nor, then, a text
        names.pop()
    plain = [*map(plain_name, names)]
    names = [f"{n}.{i}" if n and plain[i] in plain[:i] else n for i, n in enumerate(names)]
    columns = require_columns(names, source)
    note_choice(names, columns, source, result)
    image = names.index(columns.name or columns.url or columns.image_id or "")
    table = list(_split_lines(lines, start, delimiter, len(names), image))
    firsts = [line.cells[0].strip() for line in table if len(line.cells) == len(names) + 1]
    if firsts and firsts[0].isdecimal():  # R's row names have no header
        counted = itertools.count(int(firsts[0]))
        if len(firsts) == len(table) and all(first == str(next(counted)) for first in firsts):
            table = [line._replace(cells=line.cells[1:]) for line in table]
    _note_lines(table, len(names), delimiter, source, result)
    for line in table:
        if len(line.cells) == len(names):
            record = dict(zip(names, line.cells, strict=True))
            try:
                row = row_of(record, columns, source, f"line {line.number}")
                yield row._replace(name=_COUNTED.sub(r"\1", row.name)) if "#" in row.name else row
            except BadInputError as error:
                result.problems.append(str(error))


def _header(lines: Sequence[str], delimiters: str) -> tuple[list[str], str, int]:
    """Names of the columns, their delimiter, and how many lines stand before the first record.

    Titles may precede the header. It may be missing of two columns, one of which names images.
    """
    for before, line in enumerate(lines, 1):
        for delimiter in delimiters:
            names = _cells(line, delimiter)
            if choose_columns(names) and not any(map(_names_an_image, names)):
                return names, delimiter, before
    for delimiter in delimiters:
        cells = _cells(lines[0], delimiter)
        if '"' not in lines[0]:
            cells = _whole(lines[0].split(delimiter), 2, delimiter)
        images = [*map(_names_an_image, cells)]
        if len(cells) == 2 and sum(images) == 1:
            return (["image", "caption"] if images[0] else ["caption", "image"]), delimiter, 0
    delimiter = max(delimiters, key=lambda each: len(_cells(lines[0], each)))
    return _cells(lines[0], delimiter), delimiter, 1


def _whole(cells: list[str], count: int, delimiter: str) -> list[str]:
    """Cells that begin with a space put to the ones before, as prose has commas: "a dog, running".

    As they are where that does not make `count` of them.
    """
    whole: list[str] = []
    for cell in cells:
        if whole and cell.startswith(" "):
            whole[-1] += delimiter + cell
        else:
            whole.append(cell)
    return whole if len(whole) == count else cells


def _cells(line: str, delimiter: str) -> list[str]:
    return [cell.strip() for cell in _parse(line, delimiter) or line.split(delimiter)]


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
        if len(cells) > count and len(whole := _whole(cells, count, delimiter)) == count:
            cells, kind = whole, kind or "prose"
        name = cells[image].strip() if image < len(cells) else ""
        if name != name.strip('"'):  # quotes inside of it are its own
            cells[image], kind = name.strip('" '), kind or "stray"
        yield _Line(number, cells, kind)


def _note_lines(
    table: Sequence[_Line], count: int, delimiter: str, source: str, result: CaptionRows
) -> None:
    """Account for lines that are not one plain record each."""
    for line in table:
        if len(line.cells) != count:
            says = f"has {len(line.cells)} fields where {count} are expected"
            if len(line.cells) > count:
                says += f": put quotes around a caption that holds a {delimiter!r}"
            result.problems.append(f"{source}, line {line.number} {says}")
    kinds = {
        "break": "captions go over several lines",
        "prose": f"captions hold a {delimiter!r} without quotes, and were taken whole",
        "stray": "lines hold a lone quote, which was taken as it is",
    }
    for kind, says in kinds.items():
        numbers = [line.number for line in table if line.kind == kind]
        if numbers:
            result.notes.append(f"{source}: {len(numbers)} {says}, first line {numbers[0]}")
