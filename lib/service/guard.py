"""ASGI middleware around the service: who may ask, how much may be sent, what is measured."""

import hmac
import json
import logging
import time
from collections.abc import Awaitable, Callable, Container, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import unquote

from starlette.exceptions import HTTPException

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Observer = Callable[[str, int, float], None]  # route, status, seconds

RETRY_AFTER_S = 1
TOKEN_COOKIE = "image_search_token"

# What the page needs before anybody has given a token; none of it tells about the database.
_OPEN_PATHS = ("/", "/health")
_OPEN_PREFIX = "/page/"

_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]
_log = logging.getLogger("ray.serve")


class Guard:
    """Checks the token and the size of a body, counts every request, and hides what went wrong.

    `token`: what `Authorization: Bearer …` (or the page's cookie) must hold; None lets all in.
    `max_bytes`: of a body, by path; others may send `default_max_bytes`. `overloaded`: whether
    `search_paths` cannot be answered now; they are refused before anything of them is read, since
    each refusal takes time from the searches that were accepted.
    """

    def __init__(
        self,
        app: Application,
        token: str | None,
        max_bytes: dict[str, int],
        default_max_bytes: int,
        search_paths: Container[str],
        overloaded: Callable[[], bool],
        observe: Observer,
    ) -> None:
        self.app = app
        self.token = None if token is None else token.encode()
        self.max_bytes = max_bytes
        self.default_max_bytes = default_max_bytes
        self.search_paths = search_paths
        self.overloaded = overloaded
        self.observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start = time.perf_counter()
        status = 0

        async def send_counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), *_HEADERS]
            await send(message)

        limit = self.max_bytes.get(scope["path"], self.default_max_bytes)
        try:
            if not self._may_enter(scope):
                await _refuse(
                    send_counted, 401, "unauthorized", "this service asks for a bearer token"
                )
            elif scope["path"] in self.search_paths and self.overloaded():
                await _refuse(
                    send_counted, 503, "overloaded", "too many searches wait; try again in a moment"
                )
            elif _announced_bytes(scope) > limit:
                await _refuse(send_counted, 413, "too_large", _too_large(limit))
            else:
                await self.app(scope, _limited(receive, limit), send_counted)
        except Exception:
            _log.exception("%s %s failed", scope["method"], scope["path"])
            if status:
                raise
            await _refuse(send_counted, 500, "internal", "the service failed on this request")
        finally:
            known: str = scope["path"] if scope["path"] in self.search_paths else "other"
            route: str = getattr(
                scope.get("route"), "path", known
            )  # none where it was refused here
            self.observe(route, status, time.perf_counter() - start)

    def _may_enter(self, scope: Scope) -> bool:
        path = scope["path"]
        if self.token is None or path in _OPEN_PATHS or path.startswith(_OPEN_PREFIX):
            return True
        return any(hmac.compare_digest(given, self.token) for given in _given_tokens(scope))


def _given_tokens(scope: Scope) -> list[bytes]:
    tokens = []
    for name, value in scope["headers"]:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            tokens.append(value[7:].strip())
        elif name == b"cookie":
            try:
                morsel = SimpleCookie(value.decode("latin-1")).get(TOKEN_COOKIE)
            except CookieError:
                continue
            if morsel is not None:
                tokens.append(unquote(morsel.value).encode())
    return tokens


def _announced_bytes(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


def _too_large(limit: int) -> str:
    return f"the body is larger than {limit:,} bytes"


def _limited(receive: Receive, limit: int) -> Receive:
    received = 0

    async def receive_counted() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise HTTPException(413, _too_large(limit))
        return message

    return receive_counted


async def _refuse(send: Send, status: int, code: str, message: str) -> None:
    body = json.dumps({"error": {"code": code, "message": message, "position": None}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if status == 503:
        headers.append((b"retry-after", b"%d" % RETRY_AFTER_S))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
