"""Files under a database, local or on any store that fsspec reaches; a write is whole or absent."""

import fcntl
import io
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from lib.errors import BadInputError, MissingError

TEMPORARY_PREFIX = ".tmp-"


def filesystem(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The fsspec filesystem of a path or URL, and the path within it."""
    try:
        return fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise BadInputError(f"{url}: no storage of this kind is installed ({error})") from error


def absolute(url: str) -> str:
    """The same place from any working directory: worker processes have others than their driver."""
    return filesystem(url)[1] if is_local(url) else url


def is_local(url: str) -> bool:
    """Whether this is a place in this machine's file system."""
    return isinstance(filesystem(url)[0], LocalFileSystem)


def join(url: str, *parts: str) -> str:
    """Path or URL of something below `url`."""
    return "/".join([url.rstrip("/") or "/", *parts])


def exists(url: str) -> bool:
    """Whether a file or directory is at `url`."""
    fs, path = filesystem(url)
    return bool(fs.exists(path))


def list_files(url: str, suffix: str) -> list[str]:
    """Sorted URLs of the finished files directly in directory `url` whose names end in `suffix`.

    A directory that is not there holds none. Files still being written are left out.
    """
    fs, path = filesystem(url)
    fs.invalidate_cache(path)
    try:
        found = fs.ls(path, detail=True)
    except FileNotFoundError:
        return []
    names = [entry["name"].rstrip("/").rsplit("/", 1)[-1] for entry in found]
    return sorted(
        join(url, name)
        for name in names
        if name.endswith(suffix) and not name.startswith(TEMPORARY_PREFIX)
    )


def read_bytes(url: str) -> bytes:
    """Content of a file. Raises MissingError where there is none."""
    fs, path = filesystem(url)
    try:
        return fs.cat_file(path)
    except FileNotFoundError as error:
        raise MissingError(f"{url} is not there") from error


def write_bytes_atomic(url: str, data: bytes | memoryview) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    Locally: a temporary file in the same directory, flushed to disk, then renamed. On an object
    store a put is atomic by itself. Raises OSError when the storage refuses; nothing is left then.
    """
    fs, path = filesystem(url)
    if not isinstance(fs, LocalFileSystem):
        fs.pipe_file(path, bytes(data))  # s3fs takes no memoryview
        return
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(target)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and not error.filename:
            raise OSError(error.errno, error.strerror, str(target)) from error
        raise


@contextmanager
def locked(url: str) -> Iterator[None]:
    """Hold directory `url` against other processes and threads that lock it; they wait.

    The lock goes with the process that holds it, however that ends. An object store has no locks:
    nothing is held there.
    """
    fs, path = filesystem(url)
    if not isinstance(fs, LocalFileSystem):
        yield
        return
    Path(path).mkdir(parents=True, exist_ok=True)
    directory = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def write_table_atomic(table: pa.Table, url: str, **options: Any) -> None:
    """Write a table as one Parquet file, whole or not at all; `options` go to pyarrow's writer."""
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    write_bytes_atomic(url, sink.getbuffer())


def write_json_atomic(url: str, content: Any) -> None:
    """Write JSON, whole or not at all."""
    write_bytes_atomic(url, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def read_json(url: str) -> Any:
    """Parsed content of a JSON file.

    Raises MissingError where there is no file, BadInputError where it is not JSON.
    """
    try:
        return json.loads(read_bytes(url))
    except ValueError as error:
        raise BadInputError(f"{url} is not valid JSON: {error}") from error


def read_table(url: str, columns: list[str] | None = None) -> pa.Table:
    """One Parquet file. Raises MissingError or BadInputError, naming the file."""
    fs, path = filesystem(url)
    try:
        return pq.read_table(path, columns=columns, filesystem=fs, partitioning=None)
    except FileNotFoundError as error:
        raise MissingError(f"{url} is not there") from error
    except (pa.ArrowInvalid, KeyError) as error:
        raise BadInputError(f"{url} is not a readable Parquet file: {error}") from error


def read_schema(url: str) -> pa.Schema:
    """Schema of one Parquet file, read from its footer only."""
    fs, path = filesystem(url)
    try:
        return pq.read_schema(path, filesystem=fs)
    except FileNotFoundError as error:
        raise MissingError(f"{url} is not there") from error
    except pa.ArrowInvalid as error:
        raise BadInputError(f"{url} is not a readable Parquet file: {error}") from error


def cache_directory() -> Path:
    """Below XDG_CACHE_HOME, else ~/.cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "semantic-image-search"
