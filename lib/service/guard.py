"""ASGI middleware around the service: who may ask, how much may be sent, what is measured."""

import asyncio
import hmac
import ipaddress
import logging
import re
import socket
import time
from collections.abc import Awaitable, Callable, Container, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from lib.service.errors import error_response

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Observer = Callable[[str, int, float], None]  # route, status, seconds

TOKEN_COOKIE = "image_search_token"
BODY_WITHIN_S = 60.0

# What the page needs before anybody has given a token; none of it tells about the database.
_OPEN_PATHS = ("/", "/health", "/session")
_OPEN_PREFIX = "/page/"
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_PREFIX = re.compile(rb"(/[A-Za-z0-9._~-]+)+")

_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]
_log = logging.getLogger("ray.serve")


@dataclass(frozen=True)
class Access:
    """Who may ask.

    `token`: what `Authorization: Bearer …` (or the page's cookie) must hold; None lets all in, and
    then a page elsewhere must not reach the service through its visitor's browser: `Host` must be
    the address `bound`, a name of this machine or one of `hosts`, and a request that is more than
    reading must come from a page of the service itself. `root_path`: where a reverse proxy shows
    the service; it may also say so in `X-Forwarded-Prefix`.
    """

    token: str | None = None
    bound: str = "127.0.0.1"
    hosts: Sequence[str] = ()
    root_path: str = ""

    def knows(self, host: str) -> bool:
        """Whether this service may be called so; `host` is a name or an address, without port."""
        host = host.lower().rstrip(".")
        if host in ("localhost", self.bound.lower(), *(name.lower() for name in self.hosts)):
            return True
        anywhere = self.bound in ("0.0.0.0", "::", "")
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return anywhere and host in (socket.gethostname().lower(), socket.getfqdn().lower())
        return anywhere or address.is_loopback


@dataclass
class Guard:
    """Checks who asks and how much is sent, counts every request, and hides what went wrong.

    `max_bytes`: of a body, by path; others may send `default_max_bytes`, and all together
    `max_bytes_held`. `overloaded`: in how many seconds `search_paths` can be answered again, 0
    where they can be now; else they are refused before anything of them is read, since each
    refusal takes time from the searches that were accepted.
    """

    app: Application
    access: Access
    max_bytes: dict[str, int]
    default_max_bytes: int
    max_bytes_held: int
    search_paths: Container[str]
    overloaded: Callable[[], float]
    observe: Observer
    _held: int = 0  # bytes of bodies of requests that are not answered yet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start = time.perf_counter()
        status = 0
        # In a copy: the server must know a HEAD, whose body it leaves out. Of a GET it would miss
        # the body, and close the connection with whatever request of the proxy comes next on it.
        scope = {**scope, "method": "GET" if scope["method"] == "HEAD" else scope["method"]}
        path = self._place(scope)

        async def send_counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), *_HEADERS]
            await send(message)

        body = _Body(self, receive, self.max_bytes.get(path, self.default_max_bytes))
        try:
            http = HTTPConnection(scope)
            tokens = _tokens(http)
            secret = self.access.token
            known = secret is not None and any(
                hmac.compare_digest(token, secret.encode()) for token, _ in tokens
            )
            scope["known"] = known or secret is None
            announced = http.headers.get("content-length", "")
            answer: Application = self.app
            if problem := self._stranger(http, path, known, any(c for _, c in tokens)):
                answer = error_response(*problem)
            elif path in self.search_paths and (wait_s := self.overloaded()):
                answer = error_response(
                    503, "too many searches wait; try again in a moment", wait_s
                )
            elif announced.isdecimal() and int(announced) > body.limit:
                answer = error_response(413, _too_large(body.limit))
            await answer(scope, body.receive, send_counted)
        except Exception:
            _log.exception("%s %s failed", scope["method"], scope["path"])
            if status:
                raise
            refusal = error_response(500, "the service failed on this request")
            await refusal(scope, receive, send_counted)
        finally:
            self._held -= body.received
            named: str = path if path in self.search_paths else "other"
            route: str = getattr(scope.get("route"), "path", named)  # none where it was refused
            self.observe(route, status, time.perf_counter() - start)

    def _place(self, scope: Scope) -> str:
        """Set the prefix under which the client sees the service; returns the path within."""
        root = self.access.root_path.rstrip("/")
        for name, value in scope["headers"]:
            if name == b"x-forwarded-prefix" and _PREFIX.fullmatch(value.rstrip(b"/")):
                root = value.rstrip(b"/").decode()
        path: str = scope["path"]
        within = path.removeprefix(root) if path == root or path.startswith(f"{root}/") else path
        scope["root_path"], scope["path"] = root, f"{root}{within}"
        return within or "/"

    def _stranger(
        self, http: HTTPConnection, path: str, known: bool, by_cookie: bool
    ) -> tuple[int, str] | None:
        """Status and message where this request must not be answered."""
        if self.access.token is not None and not known:
            if path in _OPEN_PATHS or path.startswith(_OPEN_PREFIX):
                return None
            return 401, "this service asks for a bearer token"
        host = _authority(f"//{http.headers.get('host', '')}")
        if self.access.token is None and not self.access.knows(host[0]):
            return 403, "this service is not called so: start it with --allowed-host for this name"
        if http.scope["method"] in _SAFE_METHODS or not (self.access.token is None or by_cookie):
            return None
        origin = http.headers.get("origin")
        elsewhere = origin is not None and not self._is_own(origin, host)
        if elsewhere or http.headers.get("sec-fetch-site") == "cross-site":
            return 403, "a page of another site may not ask this"
        return None

    def _is_own(self, origin: str, host: tuple[str, int | None]) -> bool:
        name, port = _authority(origin)
        default = {"http": 80, "https": 443}.get(urlsplit(origin).scheme)
        if name and name in (each.lower() for each in self.access.hosts):
            return True
        return bool(name) and (name, port or default) == (host[0], host[1] or default)


@dataclass
class _Body:
    """A request's body on its way in: not too large, not too slow, not too much with others'."""

    guard: Guard
    message: Receive
    limit: int  # bytes
    received: int = 0
    deadline: float = 0.0

    async def receive(self) -> Message:
        now = time.monotonic()
        self.deadline = self.deadline or now + BODY_WITHIN_S
        try:
            message = await asyncio.wait_for(self.message(), self.deadline - now)
        except TimeoutError as error:
            raise HTTPException(408, "the body took too long to arrive") from error
        if message["type"] == "http.request" and not message.get("more_body"):
            self.deadline = now + 24 * 3600  # what comes next is at most that the client left
        size = len(message.get("body", b""))
        self.received += size
        self.guard._held += size
        if self.received > self.limit:
            raise HTTPException(413, _too_large(self.limit))
        if self.guard._held > self.guard.max_bytes_held:
            raise HTTPException(503, "too much is being sent at a time; try again in a moment")
        return message


def _authority(address: str) -> tuple[str, int | None]:
    """Lower-case name and port of an address; empty where it has none."""
    try:
        parts = urlsplit(address)
        return (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        return "", None


def _tokens(http: HTTPConnection) -> list[tuple[bytes, bool]]:
    """Tokens of a request, and whether a cookie brought them."""
    headers = (value.partition(" ") for value in http.headers.getlist("authorization"))
    tokens = [(v.strip().encode("latin-1"), False) for k, _, v in headers if k.lower() == "bearer"]
    if cookie := http.cookies.get(TOKEN_COOKIE):
        tokens.append((unquote(cookie).strip().encode(), True))
    return tokens


def _too_large(limit: int) -> str:
    return f"the body is larger than {limit:,} bytes"
