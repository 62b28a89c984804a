"""Let requests to an S3 server fail, at drawn requests of each job: an error, and a rerun mends it.

The server refuses (503), breaks off its answer, has the request broken off before it is whole, or
does what it is asked and answers when nobody waits any more; once, or until the step has ended. The
step must end as it would have, or raise an error of the project, or OSError, that names the
database; run again, it comes to the rows, files and answers of an undisturbed run.
"""

import logging
import os
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import fsspec
from moto.moto_server.werkzeug_app import create_backend_app
from s3fs import S3FileSystem
from werkzeug.serving import make_server

from lib.database import manifest, opening
from lib.database.compaction import compact_database, delete_unneeded
from lib.database.embed import embed_database
from lib.database.manifest import list_versions
from lib.database.removal import remove_images
from lib.errors import ImageSearchError
from lib.storage import filesystem
from tests.database.test_embed import save_embedder
from tests.harness.kills import (
    count_wrong,
    described,
    extracted,
    extracted_later,
    removed,
    shown,
    without_times,
)

DB = "s3://faults/db"
KINDS = ("503", "answer cut", "request cut", "answer late")
PATIENCE_S = 0.5  # of the client, where a fault is to come
_SLOW_DOWN = (
    b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)


class FaultyStore:
    """moto's S3, one request after another, of which some fail."""

    def __init__(self) -> None:
        self.app = create_backend_app("s3")
        self.turn = threading.Lock()
        self.requests = 0
        self.fail("", range(0))

    def fail(self, kind: str, numbers: range) -> None:
        """Count anew, and let the requests of these numbers fail."""
        self.kind, self.numbers, self.requests = kind, numbers, 0

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., object]
    ) -> list[bytes]:
        """The WSGI application."""
        connection: socket.socket = environ["werkzeug.socket"]
        with self.turn:
            kind = self.kind if self.requests in self.numbers else ""
            self.requests += 1
            if kind == "503":
                start_response("503 Slow Down", [("Content-Length", str(len(_SLOW_DOWN)))])
                return [_SLOW_DOWN] if environ["REQUEST_METHOD"] != "HEAD" else []
            if kind == "request cut":
                environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0) // 2)
                start_response("200 OK", [])  # which the shutdown keeps back
                connection.shutdown(socket.SHUT_RDWR)
                return []
            answer = b"".join(self.app(environ, start_response))
        if kind == "answer late":
            time.sleep(2 * PATIENCE_S)
        elif kind == "answer cut":
            if len(answer) < 2:
                connection.shutdown(socket.SHUT_RDWR)
            return [answer[: len(answer) // 2]]  # of which the headers tell the length
        return [answer]


def steps(place: Path) -> dict[str, Callable[[str], object]]:
    """The jobs of a database whose photographs are in a directory."""
    return {
        "extract": lambda db: extracted(db, place),
        "embed": embed_database,
        "remove": lambda db: remove_images(db, ["1.png", "7.png"]),
        "compact": lambda db: compact_database(db, file_rows=8, grace_s=0),
        "extract later": lambda db: extracted_later(db, place),
        "undo": lambda db: remove_images(db, ["1.png"], True) if "1.png" in removed(db) else None,
        "embed again": lambda db: embed_database(db, check=True),
        "search": shown,
    }


Files = dict[str, tuple[str, bytes]]  # ETag and content, by path


def etags() -> dict[str, str]:
    """Of all that the database holds, by path."""
    fs, path = filesystem(DB)
    return {name: info["ETag"] for name, info in fs.find(path, detail=True).items()}


def files(known: Files) -> Files:
    """All that the database holds, of which some is known."""
    fs, _ = filesystem(DB)
    return {
        name: known[name] if name in known and known[name][0] == etag else (etag, fs.cat_file(name))
        for name, etag in etags().items()
    }


def restore(kept: Files) -> None:
    """Let the database hold this again."""
    fs, _ = filesystem(DB)
    there = etags()
    for name in there.keys() - kept.keys():
        fs.rm_file(name)
    for name, (etag, content) in kept.items():
        if there.get(name) != etag:
            fs.pipe_file(name, content)


def forget() -> None:
    """Know as little of the database as a new process does."""
    for cached in (
        manifest._read_files,
        manifest.read_tombstones,
        manifest._require_conditions_kept,
    ):
        cached.cache_clear()


def state() -> list[Any]:
    """What all files hold, and their names but for those that may go; answers of the newest."""
    rows, cut = described(DB)
    if newest := bool(list_versions(DB)):
        delete_unneeded(DB, 0)
    names = (name.partition("/db/")[2] for name in etags())
    return [
        rows,
        sorted(without_times(name) for name in names if name not in cut),
        shown(DB) if newest else [],
    ]


def set_patience(seconds: float) -> None:
    """Let the client wait so long for an answer, and ask twice, both times itself."""
    S3FileSystem.retries = 2
    fsspec.config.conf["s3"] = {
        "config_kwargs": {"read_timeout": seconds, "retries": {"max_attempts": 0}}
    }


def try_step(step: Callable[[str], object]) -> tuple[object, str | None, str]:
    """What a step returns, its error if it is a good one, and what is wrong with how it ends."""
    try:
        return step(DB), None, ""
    except (ImageSearchError, OSError) as error:
        return None, str(error), "" if DB in str(error) else f"of which database? {error!r}"
    except Exception as error:
        return None, str(error), f"an untyped error: {error!r}"


def store_faults(directory: Path, count: int, seed: int) -> int:
    """Let requests fail: so many drawn ones in all, of each kind; returns how many went wrong."""

    def tries() -> Iterator[tuple[str, str]]:
        store, outcomes = FaultyStore(), Counter[str]()
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        server = make_server("127.0.0.1", 0, store, threaded=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        os.environ.update(dict.fromkeys(names, "test"), AWS_DEFAULT_REGION="us-east-1")
        os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{server.server_port}"
        opening.MAPPED_ROWS = 100  # a copy beside it would not ask the store
        set_patience(60)
        filesystem(DB)[0].mkdir("faults")
        save_embedder(DB, 1, directory / "words.txt")
        undisturbed, before = [], Files()
        for name, step in steps(directory).items():
            before = files(before)
            forget()
            store.fail("", range(0))
            result = step(DB)
            undisturbed.append((name, step, before, result, store.requests, state()))
        every = [
            (number, point, kind, lasting)
            for number, (*_, requests, _) in enumerate(undisturbed)
            for point, kind, lasting in product(range(requests), KINDS, (False, True))
        ]
        for number, point, kind, lasting in random.Random(seed).sample(
            every, min(count, len(every))
        ):
            name, step, before, result, _, after = undisturbed[number]
            restore(before)
            forget()
            set_patience(PATIENCE_S)
            filesystem(DB)[0].connect()
            store.fail(kind, range(point, 1_000_000 if lasting else point + 1))
            returned, error, problem = try_step(step)
            store.fail("", range(0))
            set_patience(60)
            outcomes["errors" if error else "as undisturbed"] += 1
            if not problem and error is None and name == "search" and returned != result:
                problem = f"{returned}\ninstead of {result}"
            if not problem:
                if error is not None:
                    step(DB)
                comes_to = state()
                problem = "" if comes_to == after else f"{comes_to}\ninstead of {after}"
            times = "from" if lasting else "at"
            yield f"{name}, {kind} {times} request {point} ({error})", problem
        print(f"{len(every)} ways for a request to fail; of those tried {dict(outcomes)}")

    directory.mkdir()
    return count_wrong("store faults", tries)
