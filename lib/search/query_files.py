"""Files of text queries, read piece by piece: .txt, .csv and .tsv, and .parquet."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from lib.errors import BadInputError, MissingError, left_out
from lib.storage import encoding_of, filesystem, is_text

ENDINGS = (".txt", ".csv", ".tsv", ".parquet")
_COLUMNS = ("query", "queries", "text", "caption")


def iterate_queries(source: str, notes: list[str] | None = None) -> Iterator[str]:
    """Queries of a file: .txt (one a line), .csv or .parquet (column `query`, `text` or `caption`).

    Text is UTF-8, or UTF-16 with its mark; a CSV's delimiter is a comma, a semicolon, a tab or a
    bar. Never holds the whole file. Blank lines are left out, and so are broken ones, up to a tenth
    of all, of which `notes` are told at the end. Raises MissingError where there is no file, and
    BadInputError where it cannot be read, too much of it is broken, or it holds no query.
    """
    fs, path = filesystem(source)
    if not path.lower().endswith(ENDINGS):
        raise BadInputError(
            f"{source} is no file of queries: it ends in none of {' '.join(ENDINGS)}"
        )
    count, problems = 0, list[str]()  # of broken records, with their place
    try:
        for place, line in _lines(fs, path, source, problems):
            if not is_text(query := line.strip()):
                problems.append(f"{place} is no UTF-8: save the file as UTF-8")
            elif query:
                count += 1
                yield query
    except FileNotFoundError as error:
        raise MissingError(f"{source} is not there") from error
    except (UnicodeError, csv.Error) as error:
        raise BadInputError(f"{source} cannot be read as text: {error}") from error
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise BadInputError(f"{source} cannot be read as Parquet: {error}") from error
    said = left_out([f"{source}, {problem}" for problem in problems], count)
    if not count:
        raise BadInputError(f"{source} holds no queries{''.join(f'; {each}' for each in said)}")
    if notes is not None:
        notes += said


def _lines(
    fs: fsspec.AbstractFileSystem, path: str, source: str, problems: list[str]
) -> Iterator[tuple[str, str]]:
    """Each query with its place; bytes that are no UTF-8 are surrogates in it."""
    with fs.open(path, "rb") as file:
        if path.lower().endswith(".parquet"):
            yield from _parquet(pq.ParquetFile(file), source)
            return
        encoding = encoding_of(file.read(4))
    with fs.open(path, "r", encoding=encoding, newline="", errors="surrogateescape") as file:
        if not path.lower().endswith(".txt"):
            yield from _cells(file, source, problems)
            return
        for number, line in enumerate(file, 1):
            yield f"line {number}", line


def _cells(file: TextIO, source: str, problems: list[str]) -> Iterator[tuple[str, str]]:
    """The queries of a CSV. Its cells are texts: a 007 is no number."""
    header = file.readline()
    splits = {sign: _plain(next(csv.reader([header], delimiter=sign), [])) for sign in ",;\t|"}
    delimiter = max(
        splits, key=lambda sign: (*(n in splits[sign] for n in _COLUMNS), len(splits[sign]))
    )
    column, count = _query_column(splits[delimiter], source), len(splits[delimiter])
    reader = csv.reader(file, delimiter=delimiter, strict=True)
    remedy = (
        f"put quotes around a query that holds a {delimiter!r} or a quote, and write each quote in "
        'it twice: """black cat"" -dog"'
    )
    while True:
        first, says = reader.line_num + 2, ""  # after the header
        try:
            if (cells := next(reader, None)) is None:
                return
            if cells and len(cells) != count:
                says = f"has {len(cells)} fields where {count} are expected"
        except csv.Error as error:  # the reader goes on with the next line
            says = f"is no CSV: {error}"
        if says:  # of all lines that an open quote took
            problems += [f"line {first} {says}; {remedy}"] * (reader.line_num + 2 - first)
        elif cells:
            yield f"line {first}", cells[column]


def _parquet(file: pq.ParquetFile, source: str) -> Iterator[tuple[str, str]]:
    schema = file.schema_arrow
    column = _query_column(schema.names, source) if len(schema.names) > 1 else 0
    kind = schema.types[column]
    text = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(text) or pa.types.is_large_string(text)):
        raise BadInputError(f"{source}: the column {schema.names[column]} holds {kind}, no text")
    row = 0
    for batch in file.iter_batches(columns=[schema.names[column]]):
        for value in batch.column(0).cast(text).cast(pa.large_binary()).to_pylist():
            row += 1
            yield f"row {row}", (value or b"").decode(errors="surrogateescape")


def _plain(names: Iterable[str]) -> list[str]:
    return [name.strip().casefold() for name in names]


def _query_column(names: Sequence[str], source: str) -> int:
    plain = _plain(names)
    for name in _COLUMNS:
        if name in plain:
            return plain.index(name)
    # Not even a CSV's only column, whose first line may be a query.
    raise BadInputError(f"{source} needs a column named query; it has {', '.join(names[:5])}")
