"""How fast does the service answer, what does it do beyond its capacity, is a swap noticed?

python -m benchmarks.serving                 a million random 50-d embeddings
python -m benchmarks.serving --db DB         a database of yours, such as the sample's
python -m benchmarks.serving --soak 300      also five minutes at 80 % of capacity
"""

import asyncio
import dataclasses
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from itertools import islice
from random import Random
from typing import Any, cast

import numpy as np
import psutil
import pyarrow as pa
import uvloop

import benchmarks
from benchmarks.scale import save_embedder
from lib.database.manifest import Manifest, commit_version, read_manifest, write_embeddings
from lib.embedder.space import keep_embedder
from lib.schemas import Provenance, embedding_schema, vectors_to_column
from lib.text.word_vectors import load_word_vectors

CLIENTS = (1, 8, 64)
ROUNDS = 3  # of overload
WARM_UP_S = 3.0
TIMEOUT_S = 30.0


@dataclasses.dataclass
class Load:
    """What clients saw during one run."""

    clients: int
    seconds: float
    statuses: Counter[str] = dataclasses.field(default_factory=Counter)
    answered_s: list[float] = dataclasses.field(default_factory=list)
    search_s: list[float] = dataclasses.field(default_factory=list)  # as Server-Timing tells
    versions: set[int] = dataclasses.field(default_factory=set)

    def summary(self) -> dict[str, Any]:
        """Rate and latency of the requests that were answered with 200."""
        p50, p95, p99 = np.percentile(self.answered_s or [0.0], [50, 95, 99]) * 1000
        failed = sum(n for status, n in self.statuses.items() if status not in ("200", "503"))
        return {
            "clients": self.clients,
            "answered_per_s": round(len(self.answered_s) / self.seconds, 1),
            "p50_ms": round(float(p50), 1),
            "p95_ms": round(float(p95), 1),
            "p99_ms": round(float(p99), 1),
            "share_not_search": round(1 - sum(self.search_s) / (sum(self.answered_s) or 1), 3),
            "shed": self.statuses["503"],
            "failed": failed,
        }


def random_database(directory: str, images: int) -> None:
    """A database of random unit embeddings (50 dimensions), files of 250,000 rows each."""
    digest = save_embedder(directory, Provenance("drawn", "none", "none", "float16", 512))
    files = []
    for start in range(0, images, 250_000):
        rows = np.arange(start, min(images, start + 250_000))
        embeddings = benchmarks.drawn_unit_rows(len(rows), 50, start)
        ids = [str(row) for row in rows]
        names = [f"{row}.jpg" for row in rows]
        numbers = [np.full(len(rows), n) for n in (640, 480, 50_000)]
        columns = [ids, names, names, *numbers, ids, ids]
        schema = embedding_schema(50, {})
        arrays = [pa.array(c, schema.field(i).type) for i, c in enumerate(columns)]
        table = pa.Table.from_arrays([*arrays, vectors_to_column(embeddings)], schema=schema)
        files.append(write_embeddings(directory, f"random-{start}.parquet", table))
    keep_embedder(directory, digest)
    commit_version(directory, Manifest(0, digest, tuple(files)))


@contextmanager
def service(db: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`jobs.serve` over a database, in processes of its own; gives its address."""
    port = benchmarks.free_port()
    command = [sys.executable, "-m", "jobs.serve", "--db", db, "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if "the page" in line:
                break
        else:
            raise RuntimeError("the service did not come up")
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.terminate()
        process.wait(60)


@cache
def frequent_words() -> list[str]:
    """Words that queries are made of."""
    words = load_word_vectors().index_to_key[100:20_000]
    return [word for word in words if word.isascii() and word.isalpha()]


def queries(seed: int) -> Iterator[str]:
    """Endless two- to four-word queries of frequent words, hardly one of them twice."""
    words, random = frequent_words(), Random(seed)
    while True:
        yield " ".join(random.choices(words, k=random.randint(2, 4)))


def requests(seed: int, address: str) -> Iterator[bytes]:
    """Endless searches as they are sent."""
    host = address.removeprefix("http://")
    for text in queries(seed):
        query = text.replace(" ", "+")
        yield f"GET /search?q={query}&k=10 HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection that is kept open and asks for one thing at a time.

    A client of a library takes as much of these cores for a refusal as the service for an answer,
    and what is measured would be the client.
    """

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._received = b""
        self._answer: asyncio.Future[tuple[int, bytes, bytes]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's derives from none of them

    def ask(self, request: bytes) -> asyncio.Future[tuple[int, bytes, bytes]]:
        """Send a request; its answer is status, headers and body."""
        assert self.transport is not None
        self._received, self._answer = b"", asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        self._received += data
        headers, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator or self._answer is None or self._answer.done():
            return
        length = re.search(rb"\r\ncontent-length: *(\d+)", headers, re.IGNORECASE)
        assert length is not None, headers
        if len(body) >= int(length[1]):
            self._answer.set_result((int(headers[9:12]), headers, body))

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("closed before it answered"))


class Client:
    """As many connections to the service as there are requests at a time."""

    def __init__(self, address: str) -> None:
        self._host = address.removeprefix("http://")
        self._free: list[Connection] = []

    async def search(self, request: bytes, load: Load) -> None:
        """A single search."""
        start = time.perf_counter()
        connection = None
        try:
            async with asyncio.timeout(TIMEOUT_S):
                connection = self._free.pop() if self._free else await self._connect()
                status, headers, body = await connection.ask(request)
        except (OSError, TimeoutError) as error:
            load.statuses[type(error).__name__] += 1
            if connection is not None and connection.transport is not None:
                connection.transport.abort()
            return
        load.statuses[str(status)] += 1
        if status == 200:
            load.answered_s.append(time.perf_counter() - start)
            timing = re.search(rb"server-timing: *search;dur=([0-9.]+)", headers, re.IGNORECASE)
            version = re.search(rb'"database_version": *(\d+)', body)
            assert timing is not None
            assert version is not None
            load.search_s.append(float(timing[1]) / 1000)
            load.versions.add(int(version[1]))
        if connection.transport is not None and not connection.transport.is_closing():
            self._free.append(connection)

    async def _connect(self) -> Connection:
        host, _, port = self._host.rpartition(":")
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, host, int(port))
        return connection

    def close(self) -> None:
        """Close the connections that are kept."""
        for connection in self._free:
            if connection.transport is not None:
                connection.transport.abort()


async def closed_loop(address: str, clients: int, seconds: float) -> Load:
    """Clients that each ask again as soon as they have an answer."""
    load = Load(clients, seconds)
    end = time.perf_counter() + seconds

    async def client(seed: int) -> None:
        searches = requests(seed, address)
        while time.perf_counter() < end:
            await asker.search(next(searches), load)

    with closing(Client(address)) as asker:
        await asyncio.gather(*(client(seed) for seed in range(clients)))
    return load


async def open_loop(address: str, per_second: float, seconds: float) -> Load:
    """Requests that arrive at a fixed rate, whatever became of the earlier ones."""
    load = Load(0, seconds)
    searches = list(islice(requests(1, address), int(per_second * seconds)))
    running = set()
    start = time.perf_counter()
    with closing(Client(address)) as asker:
        for number, search in enumerate(searches):
            delay = start + number / per_second - time.perf_counter()
            if delay > 0:
                await asyncio.sleep(delay)
            task = asyncio.create_task(asker.search(search, load))
            running.add(task)
            task.add_done_callback(running.discard)
        await asyncio.gather(*running)
    load.seconds = time.perf_counter() - start
    return load


async def swap_under_load(address: str, db: str, clients: int, seconds: float) -> Load:
    """Clients keep asking while a new database version is committed."""
    task = asyncio.create_task(closed_loop(address, clients, seconds))
    await asyncio.sleep(seconds / 5)
    commit_version(db, read_manifest(db))
    return await task


def replica_megabytes(process: subprocess.Popen[str]) -> float:
    """Resident memory of the search replica and of the process that searches for it."""
    total = 0.0
    for child in psutil.Process(process.pid).children(recursive=True):
        command = " ".join(child.cmdline())
        if "Replica:image-search:Search" in command or "Replica:image-search:Shard" in command:
            total += float(child.memory_info().rss) / 1e6
    return round(total)


async def measure(address: str, process: subprocess.Popen[str], options: Any) -> dict[str, Any]:
    """All runs, printed as they end."""
    report: dict[str, Any] = {"at_rest": []}
    for clients in CLIENTS:
        await closed_loop(address, clients, WARM_UP_S)
        summary = (await closed_loop(address, clients, options.seconds)).summary()
        report["at_rest"].append(summary)
        print(summary, flush=True)
    capacity = report["at_rest"][-1]["answered_per_s"]

    load = await swap_under_load(address, options.db, CLIENTS[-1], max(20.0, options.seconds))
    report["swap"] = {**load.summary(), "versions": sorted(load.versions)}
    print("database swap under load:", report["swap"], flush=True)

    memory = [replica_megabytes(process)]
    rounds = [await overload(address, options.seconds) for _ in range(ROUNDS)]
    memory.append(replica_megabytes(process))
    after = await closed_loop(address, 8, 3.0)
    shares = [each["goodput_of_capacity"] for each in rounds]
    report["overload"] = {
        "rounds": rounds,
        "median_goodput_of_capacity": float(np.median(shares)),
        "replica_mb": memory,
        "failed_afterwards": after.summary()["failed"] + after.summary()["shed"],
    }
    print("median goodput at twice its capacity:", np.median(shares), flush=True)

    if options.soak:
        report["soak"] = await soak(address, process, 0.8 * capacity, options.soak)
        print("soak:", report["soak"], flush=True)
    return report


async def overload(address: str, seconds: float) -> dict[str, Any]:
    """Twice what the service answers at most, which is looked at right before and after.

    A machine that others use is slower now than a minute ago.
    """
    before = (await closed_loop(address, CLIENTS[-1], seconds / 2)).summary()["answered_per_s"]
    own = time.process_time()
    load = await open_loop(address, 2 * before, seconds)
    own = time.process_time() - own
    after = (await closed_loop(address, CLIENTS[-1], seconds / 2)).summary()["answered_per_s"]
    capacity = (before + after) / 2
    summary = load.summary() | {
        "offered_per_s": 2 * before,
        "goodput_of_capacity": round(load.summary()["answered_per_s"] / capacity, 3),
        # What is left for the service: the clients run on the same cores.
        "cpu_share_of_clients": round(own / load.seconds / (os.cpu_count() or 1), 3),
    }
    print("at twice its capacity:", summary, flush=True)
    return summary


async def soak(
    address: str, process: subprocess.Popen[str], per_second: float, seconds: float
) -> dict[str, Any]:
    """Steady load; the replica's memory at ten moments."""
    memory, total = [replica_megabytes(process)], Counter[str]()
    for _ in range(10):
        load = await open_loop(address, per_second, seconds / 10)
        total += load.statuses
        memory.append(replica_megabytes(process))
    return {
        "offered_per_s": per_second,
        "statuses": dict(total),
        "p99_ms_of_last_tenth": load.summary()["p99_ms"],
        "replica_mb": memory,
    }


def main() -> None:
    """Run the benchmark."""
    parser = benchmarks.parser(__doc__)
    parser.add_argument("--db", help="a database to serve; its version number is counted up")
    parser.add_argument("--images", type=int, default=1_000_000, help="without --db")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each run")
    parser.add_argument("--soak", type=float, default=0.0, metavar="SECONDS")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        if options.db is None:
            options.db = temporary
            random_database(temporary, options.images)
        with service(options.db) as (address, process):
            report = uvloop.run(measure(address, process, options))
    benchmarks.write_json(options.json, report)


if __name__ == "__main__":
    main()
