"""A real HTTP server on this machine that serves files, and misbehaves as it is told."""

import hashlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any


@contextmanager
def serving(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    """The address at which a handler answers meanwhile."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    with _answering(server):
        yield f"http://127.0.0.1:{server.server_port}"


@contextmanager
def _answering(server: ThreadingHTTPServer) -> Iterator[None]:
    # Asked twenty times a second whether it shall stop: by default each test waits half a second.
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class Misbehaviour:
    """What goes wrong; by default nothing."""

    ranges: bool = True  # whether range requests are answered with ranges
    versions: bool = True  # whether ETags are sent
    cut_after: list[int] = field(default_factory=list)  # bytes per answer, for the next answers
    cut_randomly: bool = False
    statuses: list[int] = field(default_factory=list)  # for the next answers
    retry_after: str = "0"
    redirect: bool = False  # every path is moved to /moved/<path>
    pause_s: float = 0.0  # between blocks of 4 KiB
    nonsense_ranges: bool = False  # a 206 that starts elsewhere
    length: bool = True  # whether Content-Length is sent


class FileServer:
    """Serves `files` (path → content) while it is entered; counts requests and bytes."""

    def __init__(self, files: dict[str, bytes], behaviour: Misbehaviour | None = None) -> None:
        self.files = files
        self.behaviour = behaviour or Misbehaviour()
        self.held: dict[str, threading.Event] = {}  # path → when it is answered
        self.requests: Counter[str] = Counter()
        self.ranges: list[str] = []
        self.bytes_sent = 0
        self.lock = threading.Lock()
        self.random = random.Random(0)
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.owner = self
        self._running = _answering(self._server)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "FileServer":
        self._running.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._running.__exit__(kind, error, at)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    owner: FileServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        owner, behaviour = self.server.owner, self.server.owner.behaviour
        path = self.path.lstrip("/")
        with owner.lock:
            owner.requests[path] += 1
            status = behaviour.statuses.pop(0) if behaviour.statuses else 0
        if path in owner.held:
            owner.held[path].wait(60)
        if status:
            return self.refuse(status, {"Retry-After": behaviour.retry_after})
        if behaviour.redirect and not path.startswith("moved/"):
            return self.refuse(302, {"Location": f"/moved/{path}"})
        content = owner.files.get(path.removeprefix("moved/"))
        if content is None:
            return self.refuse(404, {})
        return self.send_content(content, body)

    def refuse(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send_content(self, content: bytes, body: bool) -> None:
        behaviour = self.server.owner.behaviour
        etag = f'"{hashlib.md5(content).hexdigest()}"'
        start, stop = self.asked(len(content), etag)
        if start > len(content) or (start == len(content) and start):
            return self.refuse(416, {"Content-Range": f"bytes */{len(content)}"})
        partial = (start, stop) != (0, len(content)) or "Range" in self.headers
        partial = partial and behaviour.ranges
        self.send_response(206 if partial else 200)
        if partial:
            shift = 7 if behaviour.nonsense_ranges else 0
            self.send_header("Content-Range", f"bytes {start + shift}-{stop - 1}/{len(content)}")
        if behaviour.ranges:
            self.send_header("Accept-Ranges", "bytes")
        if behaviour.versions:
            self.send_header("ETag", etag)
        if behaviour.length:
            self.send_header("Content-Length", str(stop - start))
        else:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        if body:
            self.send_blocks(content[start:stop])
        return None

    def asked(self, size: int, etag: str) -> tuple[int, int]:
        """First byte and the byte after the last that the request asks for."""
        asked = self.headers.get("Range")
        if not asked or not self.server.owner.behaviour.ranges:
            return 0, size
        self.server.owner.ranges.append(asked)
        if self.headers.get("If-Range", etag) != etag:
            return 0, size
        first, _, last = asked.removeprefix("bytes=").partition("-")
        if not first:
            return max(0, size - int(last)), size
        return int(first), min(size, int(last) + 1) if last else size

    def send_blocks(self, content: bytes) -> None:
        owner, behaviour = self.server.owner, self.server.owner.behaviour
        end = len(content)
        with owner.lock:
            if behaviour.cut_after:
                end = min(end, behaviour.cut_after.pop(0))
            elif behaviour.cut_randomly and len(content) > 1:
                end = owner.random.randrange(1, len(content))
                behaviour.cut_randomly = owner.random.random() < 0.8
        for at in range(0, end, 4096):
            self.wfile.write(content[at : min(end, at + 4096)])
            with owner.lock:
                owner.bytes_sent += min(end, at + 4096) - at
            if behaviour.pause_s:
                self.wfile.flush()
                time.sleep(behaviour.pause_s)
        if end < len(content):
            self.wfile.flush()
            self.close_connection = True
