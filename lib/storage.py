"""Files under a database, local or on any store that fsspec reaches; a write is whole or absent."""

import errno
import fcntl
import hashlib
import json
import os
import re
import tempfile
import time
from codecs import BOM_UTF16_BE, BOM_UTF16_LE, BOM_UTF32_BE, BOM_UTF32_LE
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from operator import attrgetter
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from lib.errors import (
    BadInputError,
    ConflictError,
    FileInTheWayError,
    ImageSearchError,
    MissingError,
    StoreError,
    UnsupportedStoreError,
)

TEMPORARY_PREFIX = ".tmp-"
LEFTOVER_AGE_S = 600.0  # writing one file takes seconds
NUMBERS = re.compile(r"\{(\d+)\.\.(\d+)\}")  # in the name of several files
_P = ParamSpec("_P")
_T = TypeVar("_T")
_EXCLUSIVE = frozenset(("s3", "gs", "abfs", "memory"))
# Packages whose errors say what a store answered, or that nobody has credentials for it.
_STORES = ("aiobotocore", "aiohttp", "azure", "botocore", "gcsfs", "google", "huggingface_hub")


@dataclass(frozen=True)
class StoredFile:
    """A file as its store lists it."""

    name: str
    bytes: int
    state: str  # changes whenever the file does: size, and ETag, or time of change and inode
    changed: float  # seconds since 1970; 0 where the store does not say


@dataclass(frozen=True)
class FileDigest:
    """What a file holds, whichever its name, place and time."""

    bytes: int
    sha256: str  # hexadecimal


def filesystem(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The fsspec filesystem of a path or URL, and the path within it.

    It keeps no listings: a file that another process wrote after one would be said to be gone.
    """
    try:
        return fsspec.core.url_to_fs(url, use_listings_cache=False)
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


def is_of_store(error: Exception) -> bool:
    """Whether an error comes from a package that asks stores; see `_STORES`."""
    return type(error).__module__.partition(".")[0] in _STORES


def is_of_page(error: Exception) -> bool:
    """Whether an error is what Arrow says of a damaged page: an OSError of no number or kind."""
    return type(error) is OSError and not error.errno


@contextmanager
def asking(url: str) -> Iterator[None]:
    """Raise as StoreError, which names the file, what a store answers but that it is there or not.

    Stores raise errors of their packages, or OSError without the file's name. FileInTheWayError
    where a part of the path is a file.
    """
    try:
        yield
    except (ImageSearchError, FileNotFoundError, FileExistsError):
        raise
    except NotADirectoryError as error:
        name = Path(error.filename or url)  # what a package raises may not name the file
        file = next((above for above in name.parents if above.is_file()), url)
        raise FileInTheWayError(f"{file} is a file, where a directory was expected") from error
    except OSError as error:
        if error.filename or is_of_page(error):
            raise
        reason = error.strerror or str(error) or type(error).__name__
        raise StoreError(f"{url}: {reason}") from error
    except Exception as error:
        if not is_of_store(error):
            raise
        raise StoreError(f"{url}: {error}") from error


@contextmanager
def asking_for(url: str) -> Iterator[None]:
    """`asking`, of what must be there: raises MissingError where it is not."""
    try:
        with asking(url):
            yield
    except FileNotFoundError as error:
        raise MissingError(f"{url} is not there") from error


def _named(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """A function whose first argument is a file, within `asking`."""

    @wraps(function)
    def call(*arguments: _P.args, **named: _P.kwargs) -> _T:
        with asking(str(arguments[0])):
            return function(*arguments, **named)

    return call


@_named
def exists(url: str) -> bool:
    """Whether a file or directory is at `url`."""
    fs, path = filesystem(url)
    return bool(fs.exists(path))


@_named
def is_file_there(url: str) -> bool:
    """The same of a file that is not empty, in one request: a store may need three for `exists`."""
    fs, path = filesystem(url)
    try:
        return bool(fs.cat_file(path, start=0, end=1))
    except FileNotFoundError:
        return False


@_named
def list_stored(url: str, suffix: str) -> list[StoredFile]:
    """What the store says of the finished files directly in a directory, those of a suffix, sorted.

    A directory that is not there holds none. Files still being written are left out.
    """
    fs, path = filesystem(url)
    fs.invalidate_cache(path)
    try:
        entries = fs.ls(path, detail=True)
    except FileNotFoundError:
        return []
    files = (_stored(entry) for entry in entries if entry["type"] == "file")
    finished = (file for file in files if not file.name.startswith(TEMPORARY_PREFIX))
    return sorted((f for f in finished if f.name.endswith(suffix)), key=attrgetter("name"))


def stored(url: str) -> StoredFile:
    """What the store says of one file. Raises MissingError where there is none."""
    with asking_for(url):
        fs, path = filesystem(url)
        return _stored(fs.info(path))


def _stored(entry: dict[str, Any]) -> StoredFile:
    name = entry["name"].rstrip("/").rsplit("/", 1)[-1]
    size = int(entry["size"] or 0)
    keys = ("mtime", "LastModified", "last_modified", "created")
    changed = next((entry[key] for key in keys if entry.get(key)), 0.0)
    version = entry.get("ETag") or entry.get("etag") or changed
    seconds = changed.timestamp() if isinstance(changed, datetime) else float(changed)
    # Two writes within one tick of the clock have one time, but never one inode.
    return StoredFile(name, size, f"{size} {version} {entry.get('ino', '')}".rstrip(), seconds)


def sweep_temporary(url: str, age_s: float | None = None) -> None:
    """Delete the unfinished files of writers that were killed, where `url` is a local directory.

    `age_s`: in seconds, LEFTOVER_AGE_S unless given; a younger file may be another writer's, who is
    at work.
    """
    age_s = LEFTOVER_AGE_S if age_s is None else age_s
    fs, path = filesystem(url)
    if isinstance(fs, LocalFileSystem):
        for leftover in Path(path).glob(f"{TEMPORARY_PREFIX}*"):
            with suppress(FileNotFoundError):
                if leftover.is_file() and time.time() - leftover.stat().st_mtime >= age_s:
                    leftover.unlink()


def numbered(name: str) -> Iterator[str]:
    """The names that one with ranges of numbers stands for, as WebDataset writes shards.

    `a-{008..010}.tar` is a-008.tar, a-009.tar and a-010.tar; a name without a range is itself.
    """
    numbers = NUMBERS.search(name)
    if numbers is None:
        yield name
        return
    first, last = numbers.groups()
    for number in range(int(first), int(last) + 1):
        yield from numbered(name.replace(numbers[0], str(number).zfill(len(first)), 1))


def read_bytes(url: str) -> bytes:
    """Content of a file. Raises MissingError where there is none."""
    with asking_for(url):
        fs, path = filesystem(url)
        return fs.cat_file(path)


def encoding_of(start: bytes) -> str:
    """The encoding of a text that begins so: UTF-16 by its mark, as Windows writes, or UTF-32, else
    UTF-8. Four bytes tell."""
    if start.startswith((BOM_UTF32_LE, BOM_UTF32_BE)):  # the first begins as UTF-16's
        return "utf-32"
    return "utf-16" if start.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8-sig"


def is_text(text: str) -> bool:
    """Whether a file can hold this text: it may have been made of bytes that are no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_lines(url: str) -> list[str]:
    """The lines of a text file, without white space about them and without empty ones.

    Raises MissingError where there is no file, BadInputError where it is not text in UTF-8, nor in
    UTF-16 with its mark.
    """
    try:
        content = read_bytes(url)
        lines = content.decode(encoding_of(content)).split("\n")
    except UnicodeError as error:
        raise BadInputError(f"{url} is not text in UTF-8 ({error}); save it as such") from error
    return [stripped for line in lines if (stripped := line.strip())]


@_named
def write_bytes_atomic(url: str, data: bytes | memoryview) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    Locally: a temporary file in the same directory, flushed to disk, then renamed, and the
    directory flushed. On an object store a put is atomic by itself. What is no file, such as
    /dev/null or a pipe, is written to and stays what it is, and so does a link. Raises OSError when
    the storage refuses; nothing is left then.
    """
    fs, path = filesystem(url)
    if not isinstance(fs, LocalFileSystem):
        fs.pipe_file(path, bytes(data))  # s3fs takes no memoryview
        return
    target = Path(path)
    if target.exists() and not target.is_file():
        target.write_bytes(data)
        return
    if target.is_symlink():
        target = target.resolve()
    with _temporary_file(target, data) as temporary:
        temporary.replace(target)
    sync_directory(target.parent)


@_named
def create_bytes(url: str, data: bytes) -> None:
    """Write a file that is not there yet, whole or not at all; of several who try, one succeeds.

    Raises ConflictError where the file is there, UnsupportedStoreError where the store cannot tell.
    """
    fs, path = filesystem(url)
    try:
        if isinstance(fs, LocalFileSystem):
            _create_local(Path(path), data)
        else:
            require_exclusive_creation(url)
            fs.pipe_file(path, data, mode="create")
    except FileExistsError as error:
        raise ConflictError(f"{url} is there already") from error


def require_exclusive_creation(url: str) -> None:
    """Raise UnsupportedStoreError unless a file of this store can be created by one writer alone.

    The stores named create on a condition (`If-None-Match`, `ifGenerationMatch`); everywhere else
    fsspec looks first and writes then, between which another may write.
    """
    fs, _ = filesystem(url)
    protocols = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
    if not isinstance(fs, LocalFileSystem) and not protocols & _EXCLUSIVE:
        raise UnsupportedStoreError(
            f"{url}: a {sorted(protocols)[0]} store cannot create a file on the condition that it "
            "is not there, so two jobs could overwrite one another. Keep the database on a local "
            f"or shared disk, or on one of {', '.join(sorted(_EXCLUSIVE - {'memory'}))}"
        )


def _create_local(target: Path, data: bytes) -> None:
    with _temporary_file(target, data) as temporary:
        try:
            os.link(temporary, target)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            with locked(str(target.parent)):
                if target.exists():
                    raise FileExistsError(str(target)) from None
                temporary.replace(target)
    sync_directory(target.parent)


@contextmanager
def _temporary_file(target: Path, data: bytes | memoryview) -> Iterator[Path]:
    """A file beside `target` that holds `data` on disk; gone at the end unless it was renamed."""
    make_directory(target.parent)
    handle, name = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        yield temporary
    except OSError as error:
        if error.errno and not error.filename:
            raise OSError(error.errno, error.strerror, str(target)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def make_directory(directory: Path) -> None:
    """Make a directory and those above it, so that a power loss leaves it there.

    Raises FileInTheWayError.
    """
    if not directory.is_dir():
        make_directory(directory.parent)
        try:
            directory.mkdir(exist_ok=True)
        except FileExistsError as error:
            raise FileInTheWayError(
                f"{directory} is a file, where a directory was expected"
            ) from error
        sync_directory(directory.parent)


def sync_directory(directory: Path) -> None:
    """Put names that were made, changed or taken away in a directory on disk."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that has nothing to flush says so
            raise
    finally:
        os.close(handle)


@_named
def replace_bytes(url: str, data: bytes | memoryview | None, state: str) -> None:
    """Write a file again, or take it away (None), on the condition that its state is still this.

    Raises ConflictError, changing nothing, where another has written it or taken it away since.
    Local writers exclude one another, S3 compares itself as it writes (`If-Match`); elsewhere, and
    for taking away, two within the same instant may both pass.
    """
    fs, path = filesystem(url)
    conflict = ConflictError(f"another run has changed {url} meanwhile; run this one again")
    with locked(url.rsplit("/", 1)[0]):
        fs.invalidate_cache(path)
        try:
            entry = fs.info(path)
        except FileNotFoundError as error:
            raise conflict from error
        if _stored(entry).state != state:
            raise conflict
        if data is None:
            delete_all([url])
        elif "s3" in fs.protocol:
            try:
                fs.pipe_file(path, bytes(data), IfMatch=entry["ETag"])
            except OSError as error:
                if "pre-condition" in str(error):
                    raise conflict from error
                raise
        else:
            write_bytes_atomic(url, data)


@_named
def delete(url: str) -> None:
    """Take a file away; one that is not there is no error."""
    fs, path = filesystem(url)
    with suppress(FileNotFoundError):
        fs.rm_file(path)


def delete_all(urls: Sequence[str]) -> None:
    """Take files of one directory away, for good also where power is lost after this."""
    for url in urls:
        delete(url)
    if urls:
        fs, path = filesystem(urls[0])
        if isinstance(fs, LocalFileSystem):
            sync_directory(Path(path).parent)


@contextmanager
def locked(url: str, wait: bool = True) -> Iterator[None]:
    """Hold directory `url` against other processes and threads that lock it; they wait.

    The lock goes with the process that holds it, however that ends. An object store has no locks:
    nothing is held there. Raises BlockingIOError where another holds it and `wait` is False.
    """
    fs, path = filesystem(url)
    if not isinstance(fs, LocalFileSystem):
        yield
        return
    make_directory(Path(path))
    directory = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(directory)


def digest_of(url: str) -> FileDigest:
    """The digest of a file, read through. Raises MissingError where there is none."""
    with asking_for(url):
        fs, path = filesystem(url)
        with fs.open(path, "rb") as file:
            return FileDigest(file.size, hashlib.file_digest(file, "sha256").hexdigest())


def write_json_atomic(url: str, content: Any) -> None:
    """Write JSON, whole or not at all."""
    write_bytes_atomic(url, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def read_json(url: str) -> Any:
    """Parsed content of a JSON file.

    Raises MissingError where there is no file, BadInputError where it is not JSON.
    """
    try:
        return json.loads(read_bytes(url))
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"{url} is not valid JSON: {error}") from error


def cache_directory() -> Path:
    """Below XDG_CACHE_HOME, else ~/.cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "semantic-image-search"


def keep_in_cache(file: Path, data: bytes | memoryview) -> None:
    """Write a file below `cache_directory`; a home that cannot be written costs time, no more."""
    with suppress(OSError):
        write_bytes_atomic(str(file), data)
