"""Parquet files under a database, local or on any store; a write is whole or absent.

Each file tells by its end what its rows are, and each page has a checksum.
"""

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from lib.errors import BadInputError, StoreError
from lib.storage import (
    FileDigest,
    asking_for,
    digest_of,
    filesystem,
    read_bytes,
    write_bytes_atomic,
)

_CONTENT_KEY = b"content_sha256"  # of a file: the digest of all that stands before its end


def write_table_atomic(table: pa.Table, url: str, **options: Any) -> FileDigest:
    """Write a table as one Parquet file, whole or not at all; `options` go to pyarrow's writer.

    See `parquet_bytes`. Returns the digest of the file.
    """
    content = parquet_bytes(table, **options)
    write_bytes_atomic(url, content)
    return FileDigest(len(content), hashlib.sha256(content).hexdigest())


def parquet_bytes(table: pa.Table, **options: Any) -> memoryview:
    """A table as a Parquet file: each page has a checksum, its end says what `content_of` reads."""
    sink = io.BytesIO()
    row_group_size = options.pop("row_group_size", None)
    with pq.ParquetWriter(sink, table.schema, write_page_checksum=True, **options) as writer:
        writer.write_table(table, row_group_size)
        body = sink.tell()
        digest = hashlib.sha256(sink.getbuffer()[:body])
        writer.add_key_value_metadata({_CONTENT_KEY: digest.hexdigest()})
    return sink.getbuffer()


def content_of(url: str) -> str:
    """The digest of a Parquet file's rows, from its end alone; of all of it where that has none.

    Raises MissingError or BadInputError, naming the file.
    """
    with opened_parquet(url) as file:
        metadata = pq.read_metadata(file).metadata or {}
    content = metadata.get(_CONTENT_KEY)
    return digest_of(url).sha256 if content is None else content.decode()


def whole_digest(url: str) -> FileDigest:
    """The digest of a Parquet file of `write_table_atomic`, whose rows are those written there.

    Raises MissingError or BadInputError, naming the file.
    """
    content = read_bytes(url)
    with _reading(url):
        metadata = pq.read_metadata(pa.BufferReader(content)).metadata or {}
    end = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    digest = hashlib.sha256(content[:end])
    if metadata.get(_CONTENT_KEY) != digest.hexdigest().encode():
        raise BadInputError(f"{url} is damaged: it does not hold what was written there")
    digest.update(content[end:])
    return FileDigest(len(content), digest.hexdigest())


def read_table(
    url: str, columns: list[str] | None = None, expected: FileDigest | None = None
) -> pa.Table:
    """One Parquet file, its checksums verified; all of it compared with a digest that is expected.

    Raises MissingError or BadInputError, naming the file.
    """
    content = None
    if expected is not None:
        content = read_bytes(url)
        if hashlib.sha256(content).hexdigest() != expected.sha256:
            raise BadInputError(f"{url} is damaged: it does not hold what was written there")
    with opened_parquet(url, content) as file:
        return pq.read_table(
            file, columns=columns, partitioning=None, page_checksum_verification=True
        )


def read_schema(url: str) -> pa.Schema:
    """Schema of one Parquet file, read from its footer only."""
    with opened_parquet(url) as file:
        return pq.read_schema(file)


@contextmanager
def opened_parquet(url: str, content: bytes | None = None) -> Iterator[Any]:
    """A Parquet file for Arrow: opening a path itself, it asks a store six times what is there.

    content: what it holds, where that has been read already.
    """
    fs, path = filesystem(url)
    with _reading(url):
        if content is not None:
            yield pa.BufferReader(content)
            return
        # With a cache, fsspec would read 50 MB on behind each part that Arrow asks for.
        local = isinstance(fs, LocalFileSystem)
        with pa.OSFile(path) if local else fs.open(path, cache_type="none") as file:
            yield file


@contextmanager
def _reading(url: str) -> Iterator[None]:
    """Name the Parquet file that cannot be read."""
    try:
        with asking_for(url):
            yield
    except (OSError, pa.ArrowException, KeyError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and (error.errno or isinstance(error, StoreError)):
            raise
        raise BadInputError(f"{url} is not a readable Parquet file: {error}") from error
