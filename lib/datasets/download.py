"""Download files so that an interruption costs nothing: resumed, retried, verified, then named."""

import fcntl
import hashlib
import json
import os
import random
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import requests
from tqdm import tqdm

from lib.errors import BadInputError, ImageSearchError, MissingError
from lib.storage import filesystem

PART_SUFFIX = ".part"
BLOCK_BYTES = 1 << 14  # at most this is lost when a connection breaks off
ATTEMPTS = 5  # in a row that bring nothing new, before a URL is given up
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 10.0, 30.0
PARALLEL = 16
_PASSING_STATUS = {408, 425, 429, 500, 502, 503, 504}


class DownloadError(MissingError):
    """A file could not be fetched; the message says why and where to put it by hand."""


class _PassingError(Exception):
    """A failure that another attempt may not meet."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class _UnusableRangeError(_PassingError):
    """The answer to a range request cannot be used; the next asks for everything."""


class _LastingError(Exception):
    """A failure that every attempt at this URL would meet."""


class _Stopped(Exception):
    """Another thread asked to stop."""


@dataclass(frozen=True)
class RemoteFile:
    """A file to fetch: from where (URLs tried in order), to where, and what is published of it."""

    urls: tuple[str, ...]
    path: Path
    size: int | None = None  # bytes
    digest: str = ""  # "sha256:…" or "md5:…", hexadecimal; the first digits suffice
    # A mirror may serve a smaller stand-in: size and digest then bind a file of that size only.
    is_mirror: bool = False


@dataclass
class Downloads:
    """What a call of `download_all` did."""

    fetched: int = 0
    already_there: int = 0
    bytes: int = 0
    seconds: float = 0.0
    failures: dict[str, str] = field(default_factory=dict)  # path → reason


@dataclass
class _Opened:
    """An answer to a request: bytes of a file of `total` bytes, from `start` on."""

    start: int
    total: int | None
    version: str  # ETag or date by which the next request asks for the same content
    blocks: Iterator[bytes]


def published(
    url: str, path: Path, base_url: str | None = None, size: int | None = None, digest: str = ""
) -> RemoteFile:
    """A file of an official location, or of a mirror of it.

    `base_url` is a URL or a directory that holds the file at the path that it has on the official
    host, or directly.
    """
    if base_url is None:
        return RemoteFile((url,), path, size, digest)
    official = urlsplit(url).path.lstrip("/")
    base = base_url.rstrip("/")
    urls = dict.fromkeys([f"{base}/{official}", f"{base}/{official.rpartition('/')[2]}"])
    return RemoteFile(tuple(urls), path, size, digest, is_mirror=True)


def download(file: RemoteFile, progress: bool = True) -> bool:
    """Fetch one file; False where it was there already, and no request was made.

    What came is kept in `NAME.part` and goes on from there, in this call and in the next. The
    file gets its name only when its size and digest are right. Raises DownloadError where it cannot
    be had, BadInputError where a file of that name is there and is not what is published.
    """
    done = download_all([file], progress=progress)
    if done.failures:
        raise DownloadError(next(iter(done.failures.values())))
    return done.fetched == 1


def download_all(
    files: Sequence[RemoteFile], *, parallel: int = PARALLEL, progress: bool = True
) -> Downloads:
    """Fetch many files at once; a file that fails does not stop the others.

    Raises DownloadError when the first `2 * parallel` all fail: then the others would, too.
    """
    started, result, stop = time.monotonic(), Downloads(), threading.Event()
    with _Progress(len(files), progress) as shown, ThreadPoolExecutor(parallel) as pool:
        futures = {pool.submit(_fetch, file, stop, shown): file for file in files}
        try:
            for future in as_completed(futures):
                _note(future, futures[future], result)
                shown.file_done(len(result.failures))
                if len(result.failures) == 2 * parallel and result.fetched == 0:
                    raise DownloadError(next(iter(result.failures.values())))
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        result.bytes = shown.bytes
    result.seconds = time.monotonic() - started
    return result


def _note(future: "Future[bool]", file: RemoteFile, result: Downloads) -> None:
    try:
        if future.result():
            result.fetched += 1
        else:
            result.already_there += 1
    except DownloadError as error:
        result.failures[str(file.path)] = str(error)


def _fetch(file: RemoteFile, stop: threading.Event, shown: "_Progress") -> bool:
    if file.path.exists():
        problem = _mismatch(file.path, file)
        if problem:
            raise BadInputError(f"{file.path} {problem}; remove it to have it fetched anew")
        return False
    part = file.path.with_name(file.path.name + PART_SUFFIX)
    reasons: list[str] = []
    with _claim(part) as target:
        for url in file.urls:
            try:
                _fetch_from(url, file, target, stop, shown)
                break
            except _LastingError as error:
                reasons.append(f"{url}: {error}")
        else:
            if target.seek(0, os.SEEK_END) == 0:
                part.unlink()
                _version_file(part).unlink(missing_ok=True)
            raise DownloadError(
                f"{file.path.name} cannot be downloaded ({'; '.join(reasons)}). "
                f"You can put the file at {file.path} by hand"
            )
        target.flush()
        os.fsync(target.fileno())
        part.replace(file.path)
    _version_file(part).unlink(missing_ok=True)
    return True


@contextmanager
def _claim(part: Path) -> Iterator[IO[bytes]]:
    """The .part file, made where it is absent, open for reading and writing, by this process alone.

    Raises DownloadError where it cannot be made, or another process has it.
    """
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        part.open("ab").close()
    except OSError as error:
        target_name = str(part).removesuffix(PART_SUFFIX)
        raise DownloadError(f"{target_name} cannot be written ({error})") from error
    with part.open("r+b") as target:
        try:
            fcntl.flock(target, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DownloadError(f"another process is downloading {part}; wait for it") from error
        yield target


def _fetch_from(
    url: str, file: RemoteFile, target: IO[bytes], stop: threading.Event, shown: "_Progress"
) -> None:
    """Bring `target` to the whole content of a URL, over as many requests as it takes."""
    failures, corrupt, most = 0, 0, target.seek(0, os.SEEK_END)
    while True:
        try:
            _attempt(url, file, target, stop, shown)
            problem = _mismatch_of_part(target, file)
            if problem is None:
                return
            # Once may be a damaged part of an earlier run; twice is what the server has.
            target.truncate(0)
            corrupt += 1
            if corrupt == 2:
                raise _LastingError(f"what it serves {problem}")
        except _PassingError as error:
            if isinstance(error, _UnusableRangeError):
                target.truncate(0)
            size = target.seek(0, os.SEEK_END)
            failures = 0 if size > most else failures + 1
            most = max(most, size)
            if failures == ATTEMPTS:
                raise _LastingError(f"{error}, {ATTEMPTS} times in a row") from error
            wait = min(FIRST_WAIT_S * 2**failures, LONGEST_WAIT_S) * random.uniform(0.5, 1)
            if stop.wait(wait if error.wait_s is None else min(error.wait_s, LONGEST_WAIT_S)):
                raise _Stopped from error


def _attempt(
    url: str, file: RemoteFile, target: IO[bytes], stop: threading.Event, shown: "_Progress"
) -> None:
    part = Path(target.name)
    offset, known = target.seek(0, os.SEEK_END), _read_version(part)
    if offset and known is None:
        offset = 0  # nobody can tell what these bytes are the start of
    version, total = known or ("", None)
    opened = _open(url, offset, version)
    if opened.start and total is not None and opened.total not in (None, total):
        target.truncate(0)
        raise _PassingError(f"the file changed from {total} to {opened.total} bytes meanwhile", 0)
    _require_offer(opened, file)
    if opened.start == 0:
        _version_file(part).write_text(
            json.dumps({"version": opened.version, "total": opened.total})
        )
    target.seek(opened.start)
    target.truncate()
    shown.expect(part, opened.total, opened.start)
    for block in opened.blocks:
        if stop.is_set():
            raise _Stopped
        target.write(block)
        shown.came(part, len(block))
    target.flush()
    size = target.tell()
    if opened.total is not None and size != opened.total:
        raise _PassingError(f"{size} of {opened.total} bytes came")


def _require_offer(opened: _Opened, file: RemoteFile) -> None:
    """Refuse what is not the published size, or does not fit on the disk, before it is fetched."""
    if opened.total is None:
        return
    if file.size is not None and not file.is_mirror and opened.total != file.size:
        raise _LastingError(f"it offers {opened.total} bytes where {file.size} are published")
    free = shutil.disk_usage(file.path.parent).free
    if opened.total - opened.start > free:
        raise ImageSearchError(
            f"{file.path.name} needs {_amount(opened.total - opened.start)} more on the disk of "
            f"{file.path.parent}, and {_amount(free)} are free"
        )


def _open(url: str, offset: int, version: str) -> _Opened:
    if urlsplit(url).scheme in ("http", "https"):
        return _open_http(url, offset, version)
    return _open_stored(url, offset, version)


def _open_http(url: str, offset: int, version: str) -> _Opened:
    """Ask for a URL from `offset` on (RFC 9110, section 14: a server may send all of it)."""
    headers = {"Accept-Encoding": "identity", "User-Agent": "semantic-image-search"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if version:
            headers["If-Range"] = version
    try:
        response = _session().get(
            url, headers=headers, stream=True, timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
        )
    except requests.ConnectionError as error:
        if "NameResolution" in str(error) and not offset:
            raise _LastingError(
                f"the host {urlsplit(url).hostname} is not found; is there internet?"
            ) from error
        raise _PassingError(f"no connection ({_cause(error)})") from error
    except requests.Timeout as error:
        raise _PassingError("no answer in time") from error
    except requests.RequestException as error:
        raise _LastingError(str(error)) from error
    return _read_answer(response, offset)


def _read_answer(response: requests.Response, offset: int) -> _Opened:
    status, headers = response.status_code, response.headers
    if status == 200:
        length = headers.get("Content-Length", "")
        total = int(length) if length.isdigit() else None
        return _Opened(0, total, _version(headers), _blocks(response))
    if status == 206:
        covered, _, whole = headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        if covered.partition("-")[0] == str(offset):
            total = int(whole) if whole.isdigit() else None
            return _Opened(offset, total, _version(headers), _blocks(response))
    response.close()
    if status == 416:
        whole = headers.get("Content-Range", "").rpartition("/")[2]
        if whole == str(offset):  # the part is whole already
            return _Opened(offset, offset, _version(headers), iter(()))
    if status in (206, 416):
        raise _UnusableRangeError(f"its answer to a request from byte {offset} on makes no sense")
    reason = f"HTTP {status} {response.reason}"
    if status in _PASSING_STATUS:
        raise _PassingError(reason, _retry_after(headers.get("Retry-After", "")))
    raise _LastingError(reason)


def _blocks(response: requests.Response) -> Iterator[bytes]:
    try:
        with response:
            yield from response.iter_content(BLOCK_BYTES)
    except (requests.RequestException, OSError) as error:
        raise _PassingError(f"the connection broke off ({_cause(error)})") from error


def _version(headers: Any) -> str:
    """What If-Range may hold: a strong ETag, else the date (RFC 9110, section 13.1.5)."""
    etag = str(headers.get("ETag", ""))
    return etag if etag.startswith('"') else str(headers.get("Last-Modified", ""))


def _retry_after(value: str) -> float | None:
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _open_stored(url: str, offset: int, version: str) -> _Opened:
    """Open a file by path, or on any store that fsspec reaches, from `offset` on."""
    try:
        fs, path = filesystem(url)
        entry = fs.info(path)
        if entry["type"] != "file":
            raise _LastingError("it is no file")
        found = str(entry.get("ETag") or entry.get("mtime") or entry.get("LastModified") or "")
        start = offset if found == version and offset <= entry["size"] else 0
        opened = fs.open(path, "rb")
        opened.seek(start)
    except FileNotFoundError as error:
        raise _LastingError("no such file") from error
    except (TimeoutError, ConnectionError) as error:
        raise _PassingError(str(error)) from error
    except (_LastingError, _PassingError):
        raise
    except Exception as error:  # each store has its own: no credentials, no permission, …
        raise _LastingError(str(error)) from error
    return _Opened(start, entry["size"], found, _stored_blocks(opened))


def _stored_blocks(opened: Any) -> Iterator[bytes]:
    with opened:
        while block := opened.read(BLOCK_BYTES):
            yield block


def _version_file(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_version(part: Path) -> tuple[str, int | None] | None:
    try:
        saved = json.loads(_version_file(part).read_text())
        return saved["version"], saved["total"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _mismatch_of_part(target: IO[bytes], file: RemoteFile) -> str | None:
    target.flush()
    return _mismatch(Path(target.name), file)


def _mismatch(path: Path, file: RemoteFile) -> str | None:
    """In words how a file differs from what is published of it; None where it does not."""
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return None if file.is_mirror else f"has {size} bytes where {file.size} are published"
    if not file.digest:
        return None
    algorithm, _, expected = file.digest.partition(":")
    with path.open("rb") as content:
        found = hashlib.file_digest(content, algorithm).hexdigest()
    if found.startswith(expected):
        return None
    return f"has the {algorithm.upper()} {found} where {expected} is published"


_local = threading.local()


def _session() -> requests.Session:
    """One session a thread, so that the connection to a host is used again."""
    if not hasattr(_local, "session"):
        _local.session = requests.Session()
    return _local.session


def _cause(error: BaseException) -> str:
    """The innermost reason, without urllib3's wrapping."""
    while error.args and isinstance(error.args[-1], BaseException):
        error = error.args[-1]
    reason = getattr(error, "reason", None)
    return str(reason) if isinstance(reason, BaseException) else str(error)


def _amount(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


class _Progress:
    """A line on stderr: bytes for a few files, files for many; with rate and time left."""

    def __init__(self, file_count: int, shown: bool) -> None:
        self.bytes = 0
        self._many = file_count > 8
        self._lock = threading.Lock()
        self._totals: dict[Path, int] = {}
        self._sizes: dict[Path, int] = {}
        options: dict[str, Any] = {"unit": "file", "total": file_count}
        if not self._many:
            options = {"unit": "B", "unit_scale": True, "total": 0}
        interval = 0.5 if sys.stderr.isatty() else 10.0
        # Quiet until there is something to wait for.
        self._bar = tqdm(
            disable=not shown or file_count == 0, mininterval=interval, delay=0.5, **options
        )

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def expect(self, part: Path, total: int | None, start: int) -> None:
        """A file of `total` bytes goes on from `start`."""
        if self._many or self._bar.disable:
            return
        with self._lock:
            if part not in self._totals:
                self._bar.initial += start  # came earlier: no part of the rate
            self._totals[part], self._sizes[part] = total or 0, start
            self._bar.total = sum(self._totals.values())
            self._bar.n = sum(self._sizes.values())

    def came(self, part: Path, count: int) -> None:
        """So many more bytes of a file came."""
        with self._lock:
            self.bytes += count
            if not self._many and not self._bar.disable:
                self._sizes[part] += count
                self._bar.update(count)

    def file_done(self, failed: int) -> None:
        """A file is done; `failed` so far."""
        with self._lock:
            if self._many:
                self._bar.update(1)
                self._bar.set_postfix_str(f"{_amount(self.bytes)}, {failed} failed", refresh=False)
