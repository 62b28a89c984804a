"""Files of text queries, read piece by piece: .txt, .csv and .parquet."""

from collections.abc import Iterator

import fsspec
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from lib.errors import BadInputError, MissingError
from lib.storage import filesystem

ENDINGS = (".txt", ".csv", ".parquet")


def iterate_queries(source: str) -> Iterator[str]:
    """Queries of a file: .txt (one a line), .csv or .parquet (column `query`, else the only one).

    Never holds the whole file. Blank lines are left out. Raises MissingError where there is no
    file, and BadInputError where it cannot be read or holds no query.
    """
    fs, path = filesystem(source)
    if not path.endswith(ENDINGS):
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
    except UnicodeDecodeError as error:
        raise BadInputError(f"{source} is no text in UTF-8: {error}") from error
    except pa.ArrowInvalid as error:
        kind = "Parquet" if path.endswith(".parquet") else "CSV"
        raise BadInputError(f"{source} cannot be read as {kind}: {error}") from error
    if empty:
        raise BadInputError(f"{source} holds no queries")


def _lines(fs: fsspec.AbstractFileSystem, path: str, source: str) -> Iterator[str]:
    if path.endswith(".txt"):
        with fs.open(path, "r", encoding="utf-8-sig") as file:
            yield from file
        return
    with fs.open(path, "rb") as file:
        if path.endswith(".parquet"):
            parquet = pq.ParquetFile(file)
            column = _query_column(parquet.schema_arrow, source)
            batches = parquet.iter_batches(columns=[column])
        else:
            batches = pa_csv.open_csv(file)
            column = _query_column(batches.schema, source)
        for batch in batches:
            yield from (str(text) for text in batch[column].to_pylist() if text is not None)


def _query_column(schema: pa.Schema, source: str) -> str:
    if "query" in schema.names:
        return "query"
    if len(schema.names) > 1:
        raise BadInputError(f"{source} needs a column named query; has {schema.names}")
    return str(schema.names[0])
