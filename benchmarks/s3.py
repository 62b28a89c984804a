"""moto's S3 server, in a process of its own, that counts what it is asked."""

import json
import logging
import multiprocessing
import os
import posixpath
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.request import urlopen

from benchmarks import free_port

KINDS = ("GET", "LIST", "HEAD", "PUT", "POST", "DELETE")
SIZES = ("bytes read", "bytes written")
_COUNTS = "/-/counts"  # no bucket has such a name


def serve(port: int) -> None:
    """S3 alone: moto's server for all of AWS looks for the service of each request.

    One request after another: moto looks whether a condition holds, and then writes.
    """
    from moto.moto_server.werkzeug_app import create_backend_app
    from werkzeug.serving import WSGIRequestHandler, run_simple

    app, turn, counts = create_backend_app("s3"), threading.Lock(), Counter[str]()

    def counted(environ: dict[str, Any], start_response: Callable) -> list[bytes]:
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        if path == _COUNTS:
            start_response("200 OK", [("Content-Type", "application/json")])
            return [json.dumps(counts).encode()]
        with turn:
            answer = b"".join(app(environ, start_response))
            counts["LIST" if "list-type" in environ["QUERY_STRING"] else method] += 1
            counts["bytes read"] += len(answer)
            counts["bytes written"] += int(environ.get("CONTENT_LENGTH") or 0)
            folder, name = posixpath.split(path)
            counts[f"{method} {folder}/*{posixpath.splitext(name)[1]}"] += 1
        return [answer]

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    WSGIRequestHandler.protocol_version = "HTTP/1.1"  # connections stay open
    run_simple("127.0.0.1", port, counted, threaded=True)


@contextmanager
def running(*buckets: str) -> Iterator[Callable[[], Counter[str]]]:
    """A server with empty buckets, which the environment names.

    Gives what asks it for its counts so far: requests of each of KINDS, SIZES, and requests by
    method, folder and ending, as "PUT /bucket/folder/*.json".
    """
    from s3fs import S3FileSystem

    port = free_port()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(port,), daemon=True)
    server.start()
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    os.environ.update(dict.fromkeys(names, "test"), AWS_DEFAULT_REGION="us-east-1")
    os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{port}"

    def counts() -> Counter[str]:
        with urlopen(f"http://127.0.0.1:{port}{_COUNTS}", timeout=60) as answer:
            return Counter(json.load(answer))

    try:
        while server.is_alive():
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.2)
        S3FileSystem.clear_instance_cache()  # they keep the address of an earlier server
        for bucket in buckets:
            S3FileSystem().mkdir(bucket)
        yield counts
    finally:
        server.terminate()
        server.join()
