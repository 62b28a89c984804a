"""Files of text queries, read piece by piece: .txt, .csv and .tsv, and .parquet."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from lib.errors import BadInputError, MissingError
from lib.storage import encoding_of, filesystem

ENDINGS = (".txt", ".csv", ".tsv", ".parquet")
_COLUMNS = ("query", "queries", "text", "caption")


def iterate_queries(source: str) -> Iterator[str]:
    """Queries of a file: .txt (one a line), .csv or .parquet (column `query`, `text` or `caption`).

    Text is UTF-8, or UTF-16 with its mark; a CSV's delimiter is a comma, a semicolon, a tab or a
    bar. Never holds the whole file. Blank lines are left out. Raises MissingError where there is no
    file, and BadInputError where it cannot be read or holds no query.
    """
    fs, path = filesystem(source)
    if not path.lower().endswith(ENDINGS):
        raise BadInputError(
            f"{source} is no file of queries: it ends in none of {' '.join(ENDINGS)}"
        )
    empty = True
    try:
        for line in _lines(fs, path, source):
            if query := line.strip():
                empty = False
                yield query
    except FileNotFoundError as error:
        raise MissingError(f"{source} is not there") from error
    except UnicodeError as error:
        raise BadInputError(f"{source} is no text in UTF-8: {error}") from error
    except (pa.ArrowException, csv.Error, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        kind = "CSV" if isinstance(error, csv.Error) else "Parquet"
        raise BadInputError(f"{source} cannot be read as {kind}: {error}") from error
    if empty:
        raise BadInputError(f"{source} holds no queries")


def _lines(fs: fsspec.AbstractFileSystem, path: str, source: str) -> Iterator[str]:
    with fs.open(path, "rb") as file:
        if path.lower().endswith(".parquet"):
            yield from _parquet(pq.ParquetFile(file), source)
            return
        encoding = encoding_of(file.read(2))
    with fs.open(path, "r", encoding=encoding, newline="") as file:
        yield from file if path.lower().endswith(".txt") else _cells(file, source)


def _cells(file: TextIO, source: str) -> Iterator[str]:
    """The queries of a CSV. Its cells are texts: a 007 is no number."""
    header = file.readline()
    splits = {sign: _plain(next(csv.reader([header], delimiter=sign), [])) for sign in ",;\t|"}
    delimiter = max(
        splits, key=lambda sign: (*(n in splits[sign] for n in _COLUMNS), len(splits[sign]))
    )
    column, count = _query_column(splits[delimiter], source), len(splits[delimiter])
    reader = csv.reader(file, delimiter=delimiter, strict=True)
    problem = None
    try:
        for cells in reader:
            if cells and len(cells) != count:
                problem = f"has {len(cells)} fields where {count} are expected"
                break
            yield from cells[column : column + 1]
    except csv.Error as error:
        problem = f"is no CSV: {error}"
    if problem:
        raise BadInputError(
            f"{source}, line {reader.line_num + 1} {problem}; put quotes around a query that holds "
            f'a {delimiter!r} or a quote, and write each quote in it twice: """black cat"" -dog"'
        )


def _parquet(file: pq.ParquetFile, source: str) -> Iterator[str]:
    schema = file.schema_arrow
    column = _query_column(schema.names, source) if len(schema.names) > 1 else 0
    kind = schema.types[column]
    text = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(text) or pa.types.is_large_string(text)):
        raise BadInputError(f"{source}: the column {schema.names[column]} holds {kind}, no text")
    for batch in file.iter_batches(columns=[schema.names[column]]):
        yield from filter(None, batch.column(0).to_pylist())


def _plain(names: Iterable[str]) -> list[str]:
    return [name.strip().casefold() for name in names]


def _query_column(names: Sequence[str], source: str) -> int:
    plain = _plain(names)
    for name in _COLUMNS:
        if name in plain:
            return plain.index(name)
    # Not even a CSV's only column, whose first line may be a query.
    raise BadInputError(f"{source} needs a column named query; it has {', '.join(names[:5])}")
