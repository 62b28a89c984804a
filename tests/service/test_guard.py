"""Who may ask, how much may be sent, what is said to whom: over a small application."""

import asyncio
import http.client
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lib.service import guard
from lib.service.guard import Access, Guard

LIMIT = 1_000


async def echo(request: Request) -> Response:
    body = await request.body()
    root, path = request.scope["root_path"], request.scope["path"]
    return JSONResponse(
        {"bytes": len(body), "root": root, "path": path, "known": request.scope["known"]}
    )


async def wait(request: Request) -> Response:
    await request.body()
    await asyncio.sleep(0.3)
    return JSONResponse({})


async def status(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": {"message": error.detail}}, error.status_code)


def application(
    access: Access | None = None, overloaded: Callable[[], float] = lambda: 0.0
) -> Starlette:
    methods = ["GET", "POST"]
    routes = [Route(p, echo, methods=methods) for p in ("/", "/health", "/info", "/search")]
    app = Starlette(
        routes=[*routes, Route("/wait", wait, methods=methods)],
        exception_handlers={HTTPException: status},
    )
    app.add_middleware(
        Guard,
        access=access or Access(),
        max_bytes={},
        default_max_bytes=LIMIT,
        max_bytes_held=3 * LIMIT,
        search_paths=("/search",),
        overloaded=overloaded,
        observe=lambda *_: None,
    )
    return app


def client(
    access: Access | None = None,
    address: str = "http://127.0.0.1:8000",
    overloaded: Callable[[], float] = lambda: 0.0,
) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(application(access, overloaded))
    return httpx.AsyncClient(transport=transport, base_url=address)


def ask(method: str, path: str, access: Access | None = None, **options: Any) -> httpx.Response:
    async def run() -> httpx.Response:
        address = options.pop("address", "http://127.0.0.1:8000")
        async with client(access, address, options.pop("overloaded", lambda: 0.0)) as http:
            return await http.request(method, path, **options)

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("bound", "host", "answered"),
    [
        ("127.0.0.1", "127.0.0.1:8000", True),
        ("127.0.0.1", "localhost:8000", True),
        ("127.0.0.1", "LocalHost", True),
        ("127.0.0.1", "[::1]:8000", True),
        ("127.0.0.1", "evil.example:8000", False),  # its name now means 127.0.0.1
        ("127.0.0.1", "localhost.evil.example", False),
        ("127.0.0.1", "192.0.2.7", False),
        ("127.0.0.1", "", False),
        ("127.0.0.1", "[::1", False),
        ("0.0.0.0", "192.0.2.7:8000", True),
        ("::", "[2001:db8::1]:8000", True),
        ("0.0.0.0", "evil.example", False),
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.7", "192.0.2.8", False),
        ("127.0.0.1", "photos.example", True),
        ("127.0.0.1", "Photos.Example.:443", True),
    ],
)
@pytest.mark.reports
def test_without_a_token_it_answers_to_its_own_names(bound: str, host: str, answered: bool) -> None:
    access = Access(bound=bound, hosts=["photos.example"])
    response = ask("GET", "/info", access, headers={"Host": host})
    assert response.status_code == (200 if answered else 403)
    with_token = Access("t", bound=bound)
    known = {"Host": host, "Authorization": "Bearer t"}
    assert ask("GET", "/info", with_token, headers=known).status_code == 200


@pytest.mark.parametrize(
    ("headers", "answered"),
    [
        ({}, True),  # no browser
        ({"Origin": "http://127.0.0.1:8000"}, True),
        ({"Origin": "https://photos.example"}, True),
        ({"Origin": "http://127.0.0.1:9000"}, False),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": ""}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1:8000"}, True),
    ],
)
@pytest.mark.reports
def test_pages_of_other_sites_may_not_post(headers: dict[str, str], answered: bool) -> None:
    access = Access(hosts=["photos.example"])
    assert (ask("POST", "/search", access, headers=headers).status_code == 200) is answered
    by_cookie = {**headers, "Cookie": "image_search_token=t"}
    protected = Access("t", hosts=["photos.example"])
    assert (ask("POST", "/search", protected, headers=by_cookie).status_code == 200) is answered
    by_header = {**headers, "Authorization": "Bearer t"}  # which no other site's page can send
    assert ask("POST", "/search", protected, headers=by_header).status_code == 200


def test_a_token_is_asked_for() -> None:
    access = Access("s3cret; ø")
    for headers in ({}, {"Authorization": "Bearer s3cret"}, {"Cookie": "image_search_token=x"}):
        response = ask("GET", "/info", access, headers=headers)
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
        assert response.json()["error"]["code"] == "unauthorized"
        assert ask("GET", "/health", access, headers=headers).json()["known"] is False
    for value in ("Bearer s3cret; ø", "bearer s3cret; ø \n".strip(), "Bearer   s3cret; ø"):
        headers = {"Authorization": value.encode()}  # type: ignore[dict-item]
        assert ask("GET", "/health", access, headers=headers).json()["known"] is True
    cookie = {"Cookie": "image_search_token=s3cret%3B%20%C3%B8"}
    assert ask("GET", "/info", access, headers=cookie).json()["known"] is True


@pytest.mark.parametrize(
    ("root_path", "header", "path", "root"),
    [
        ("", "", "/info", ""),
        ("/photos", "", "/info", "/photos"),  # a proxy that takes the prefix away
        ("/photos", "", "/photos/info", "/photos"),  # and one that leaves it
        ("", "/a/b", "/info", "/a/b"),
        ("", "/a/b/", "/a/b/info", "/a/b"),
        ("/photos", "/a", "/info", "/a"),
        ("", "//evil.example", "/info", ""),
        ("", "/a?b", "/info", ""),
    ],
)
@pytest.mark.reports
def test_a_prefix_before_the_service(root_path: str, header: str, path: str, root: str) -> None:
    headers = {"X-Forwarded-Prefix": header} if header else {}
    answer = ask("GET", path, Access(root_path=root_path), headers=headers).json()
    assert (answer["root"], answer["path"]) == (root, f"{root}/info")


@pytest.mark.reports
def test_head_is_get_without_a_body() -> None:
    full, head = ask("GET", "/info"), ask("HEAD", "/info")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(full.content))
    assert ask("HEAD", "/nowhere").status_code == 404


@pytest.mark.reports
def test_what_follows_a_head_on_its_connection_is_answered() -> None:
    server = uvicorn.Server(uvicorn.Config(application(), port=0, log_level="critical"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    host, port = server.servers[0].sockets[0].getsockname()
    connection = http.client.HTTPConnection(host, port, timeout=10)
    bodies = []
    for method in ("HEAD", "GET", "HEAD", "GET"):  # a proxy's, of several clients
        connection.request(method, "/health")
        bodies.append(connection.getresponse().read())
    connection.close()
    server.should_exit = True
    thread.join()
    assert bodies[0] == bodies[2] == b""
    assert bodies[1] == bodies[3] != b""


def test_bodies_are_bounded_one_by_one_and_together() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(LIMIT // 100 + 1):
            yield b"x" * 100

    async def run() -> None:
        async with client() as http:
            assert (await http.post("/info", content=b"x" * LIMIT)).json()["bytes"] == LIMIT
            assert (await http.post("/info", content=b"x" * (LIMIT + 1))).status_code == 413
            assert (await http.post("/info", content=chunks())).status_code == 413
            held = [http.post("/wait", content=b"x" * LIMIT) for _ in range(5)]
            statuses = sorted(r.status_code for r in await asyncio.gather(*held))
            assert statuses == [200, 200, 200, 503, 503]
            again = [http.post("/wait", content=b"x" * LIMIT) for _ in range(3)]
            assert {r.status_code for r in await asyncio.gather(*again)} == {200}

    asyncio.run(run())


def test_a_body_that_does_not_arrive_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODY_WITHIN_S", 0.2)

    async def trickle() -> AsyncIterator[bytes]:
        while True:
            yield b"x"
            await asyncio.sleep(0.05)

    assert ask("POST", "/info", content=trickle()).status_code == 408


def test_searches_are_refused_while_too_many_wait() -> None:
    refused = ask("GET", "/search", overloaded=lambda: 2.3)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "3")
    assert refused.json()["error"]["code"] == "overloaded"
    assert ask("GET", "/health", overloaded=lambda: 2.3).status_code == 200
