"""Download files so that an interruption costs nothing: resumed, retried, verified, then named."""

import fcntl
import hashlib
import os
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import BaseHTTPResponse, Retry
from urllib3.exceptions import NameResolutionError

from lib.errors import BadInputError, ImageSearchError, MissingError
from lib.progress import Progress
from lib.storage import filesystem

PART_SUFFIX = ".part"
BLOCK_BYTES = 1 << 14  # at most this is lost when a connection breaks off
ATTEMPTS = 5  # in a row that bring nothing new, before a URL is given up
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 10.0, 30.0
PARALLEL = 16


class DownloadError(MissingError):
    """A file could not be fetched; the message says why and where to put it by hand."""


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


@dataclass(frozen=True)
class _Answer:
    """Bytes of a file of `total` bytes, from `start` on; `version` is its ETag or date."""

    start: int
    total: int | None
    version: str
    blocks: Iterator[bytes]


class _Retry(Retry):
    """Waits no longer than LONGEST_WAIT_S, and not at all for a host that nobody knows."""

    def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
        wait = super().get_retry_after(response)
        return None if wait is None else min(wait, LONGEST_WAIT_S)

    def increment(self, *arguments: Any, **named: Any) -> "_Retry":
        if isinstance(named.get("error"), NameResolutionError):
            raise named["error"]
        return super().increment(*arguments, **named)


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


def download(file: RemoteFile) -> bool:
    """Fetch one file; False where it was there already, and no request was made.

    What came is kept in `NAME.part` and goes on from there, in this call and in the next. The
    file gets its name only when its size and digest are right. Raises DownloadError where it cannot
    be had, BadInputError where a file of that name is there and is not what is published.
    """
    done = download_all([file])
    if done.failures:
        raise DownloadError(next(iter(done.failures.values())))
    return done.fetched == 1


def download_all(files: Sequence[RemoteFile], *, parallel: int = PARALLEL) -> Downloads:
    """Fetch many files at once; a file that fails does not stop the others.

    Raises DownloadError when the first `2 * parallel` all fail: then the others would, too.
    """
    started, result = time.monotonic(), Downloads()
    with _Run(len(files)) as run, ThreadPoolExecutor(parallel) as pool:
        futures = {pool.submit(_fetch, file, run): file for file in files}
        try:
            for future in as_completed(futures):
                try:
                    fetched = future.result()
                    result.fetched += fetched
                    result.already_there += not fetched
                except DownloadError as error:
                    result.failures[str(futures[future].path)] = str(error)
                run.end_file(len(result.failures))
                if len(result.failures) == 2 * parallel and result.fetched == 0:
                    raise DownloadError(next(iter(result.failures.values())))
        except BaseException:
            run.stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    result.bytes, result.seconds = run.bytes, time.monotonic() - started
    return result


class _Run(Progress):
    """What the threads of a call share: whether to stop, and a line of files, of few of bytes."""

    def __init__(self, files: int) -> None:
        self._many = files > 8
        unit = "files" if self._many else "MB"
        super().__init__(files if self._many else None, unit)
        self.stop = threading.Event()
        self.bytes = 0
        self._expected: dict[Path, int] = {}
        self._lock = threading.Lock()

    def expect(self, path: Path, count: int) -> None:
        """So many bytes of a file will come; what its first answer says counts."""
        with self._lock:
            self._expected.setdefault(path, count)
            if not self._many:
                self.total = round(sum(self._expected.values()) / 1e6)

    def receive(self, count: int) -> None:
        """So many bytes came. Raises _Stopped where the others have stopped."""
        if self.stop.is_set():
            raise _Stopped
        with self._lock:
            self.bytes += count
            self.note = _amount(self.bytes) if self._many else ""
            self.advance(0 if self._many else count / 1e6)

    def end_file(self, failed: int) -> None:
        """A file is done; `failed` so far."""
        with self._lock:
            self.advance(self._many, failed - self.failed)


def _fetch(file: RemoteFile, run: _Run) -> bool:
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
                _fetch_from(url, file, target, run)
                break
            except _LastingError as error:
                reasons.append(f"{url}: {error}")
        else:
            if target.seek(0, os.SEEK_END) == 0:
                part.unlink()
            raise DownloadError(
                f"{file.path.name} cannot be downloaded ({'; '.join(reasons)}). "
                f"You can put the file at {file.path} by hand"
            )
        os.fsync(target.fileno())
        part.replace(file.path)
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


def _fetch_from(url: str, file: RemoteFile, target: IO[bytes], run: _Run) -> None:
    """Bring `target` to the whole content of a URL, over as many requests as it takes."""
    if not file.digest:  # nobody could tell what the bytes of another run are the start of
        target.truncate(0)
    version, idle, corrupt = "", 0, 0
    most = offset = target.seek(0, os.SEEK_END)
    while True:
        opened = _open_http if urlsplit(url).scheme in ("http", "https") else _open_stored
        answer = opened(url, offset, version)
        try:
            _require_offer(answer, file)
            version = answer.version
            target.seek(answer.start)
            target.truncate()
            run.expect(file.path, (answer.total or answer.start) - answer.start)
            for block in answer.blocks:
                target.write(block)
                run.receive(len(block))
            reason = f"{target.tell()} of {answer.total} bytes came"
        except requests.RequestException as error:
            reason = f"the connection broke off ({_cause(error)})"
        target.flush()
        offset = target.tell()
        if offset == answer.total or (answer.total is None and reason.endswith("came")):
            problem = _mismatch(Path(target.name), file)
            if problem is None:
                return
            # Once may be a damaged part of an earlier run; twice is what the server has.
            corrupt += 1
            if corrupt == 2:
                target.truncate(0)
                raise _LastingError(f"what it serves {problem}")
            offset = 0
            continue
        idle = 0 if offset > most else idle + 1
        most = max(most, offset)
        if idle == ATTEMPTS:
            raise _LastingError(f"{reason}, {ATTEMPTS} times in a row")
        if run.stop.wait(min(FIRST_WAIT_S * 2**idle, LONGEST_WAIT_S)):
            raise _Stopped


def _require_offer(answer: _Answer, file: RemoteFile) -> None:
    """Refuse what is not the published size, or does not fit on the disk, before it is fetched."""
    if answer.total is None:
        return
    if file.size is not None and not file.is_mirror and answer.total != file.size:
        raise _LastingError(f"it offers {answer.total} bytes where {file.size} are published")
    free = shutil.disk_usage(file.path.parent).free
    if answer.total - answer.start > free:
        raise ImageSearchError(
            f"{file.path.name} needs {_amount(answer.total - answer.start)} more on the disk of "
            f"{file.path.parent}, and {_amount(free)} are free"
        )


_local = threading.local()


def _session() -> requests.Session:
    """One session a thread, so that the connection to a host is used again."""
    if not hasattr(_local, "session"):
        _local.session = requests.Session()
        retry = _Retry(
            ATTEMPTS - 1,
            status_forcelist=(408, 425, 429, 500, 502, 503, 504),
            backoff_factor=FIRST_WAIT_S,
            backoff_max=LONGEST_WAIT_S,
            backoff_jitter=FIRST_WAIT_S,
            raise_on_status=False,
        )
        for scheme in ("http://", "https://"):
            _local.session.mount(scheme, HTTPAdapter(max_retries=retry))
    return _local.session


def _open_http(url: str, offset: int, version: str) -> _Answer:
    """Ask for a URL from `offset` on (RFC 9110, section 14: a server may send all of it)."""
    headers = {"Accept-Encoding": "identity", "User-Agent": "semantic-image-search"}
    if offset:
        headers |= {"Range": f"bytes={offset}-"} | ({"If-Range": version} if version else {})
    try:
        response = _session().get(
            url, headers=headers, stream=True, timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
        )
    except NameResolutionError as error:
        host = urlsplit(url).hostname
        raise _LastingError(f"the host {host} is not found; is there internet?") from error
    except requests.RequestException as error:
        raise _LastingError(f"no connection ({_cause(error)})") from error
    status, answered = response.status_code, response.headers
    span, _, whole = answered.get("Content-Range", "").removeprefix("bytes ").partition("/")
    if status == 416 and whole == str(offset):  # the part is whole already
        response.close()
        return _Answer(offset, offset, version, iter(()))
    start = offset if status == 206 else 0
    if status == 416 or (status == 206 and span.partition("-")[0] != str(offset)):
        response.close()
        return _open_http(url, 0, "")  # its answer makes no sense; everything, then
    if status not in (200, 206):
        raise _LastingError(f"HTTP {status} {response.reason}")
    # What If-Range may hold (section 13.1.5): a strong ETag, else the date.
    etag = answered.get("ETag", "")
    version = etag if etag.startswith('"') else answered.get("Last-Modified", "")
    length = whole if status == 206 else answered.get("Content-Length", "")
    total = int(length) if length.isdigit() else None
    return _Answer(start, total, version, response.iter_content(BLOCK_BYTES))


def _open_stored(url: str, offset: int, version: str) -> _Answer:
    """Open a file by path, or on any store that fsspec reaches, from its beginning."""
    try:
        fs, path = filesystem(url)
        size = fs.size(path)
        opened = fs.open(path, "rb")
    except Exception as error:  # each store has its own: no file, no credentials, no permission, …
        raise _LastingError(str(error)) from error
    return _Answer(0, size, "", iter(lambda: opened.read(BLOCK_BYTES), b""))


def _mismatch(path: Path, file: RemoteFile) -> str | None:
    """In words how a file differs from what is published of it; None where it does not."""
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return None if file.is_mirror else f"has {size} bytes where {file.size} are published"
    if not file.digest:
        return None
    algorithm, _, expected = file.digest.partition(":")
    with path.open("rb") as content:
        actual = hashlib.file_digest(content, algorithm).hexdigest()
    if actual.startswith(expected):
        return None
    return f"has the {algorithm.upper()} {actual} where {expected} is published"


def _cause(error: BaseException) -> str:
    """The innermost reason, without urllib3's wrapping."""
    while error.args and isinstance(error.args[-1], BaseException):
        error = error.args[-1]
    reason = getattr(error, "reason", None)
    return str(reason) if isinstance(reason, BaseException) else str(error)


def _amount(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
