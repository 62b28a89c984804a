"""Kill processes of the service while clients ask it, and see how it comes back.

`python -m tests.harness.service_chaos DIR [--kills N]`. Half of the queries that the service
answers in a second go on throughout; a replica, a search shard, the image model or the proxy is
killed (SIGKILL), drawn at random. Printed: how long until queries are answered again, answers that
differ from those before, and where `/health` was not honest: it said 200 when no query had been
answered for HONEST_S.
"""

import argparse
import math
import random
import sys
import threading
import time
from bisect import bisect_left
from pathlib import Path

import httpx
import numpy as np
import psutil

from tests.serving_database import COLOURS, THINGS, make_database
from tests.serving_process import RunningService, run_service

PARTS = {
    "replica": "Replica:image-search:Search",
    "shard": "Replica:image-search:Shard0",
    "image model": "Replica:image-search:ImageModel",
    "proxy": "haproxy",
}
QUERIES = [f"{colour} {thing}" for colour in COLOURS for thing in THINGS]
HONEST_S = 5.0  # within which it must know
BACK_WITHIN_S = 180.0


class Client:
    """Asks queries in turn; what it saw is kept with its time."""

    def __init__(self, service: RunningService, pause: float) -> None:
        self.http = service.client()
        self.pause = pause
        self.expected: dict[str, list[str]] = {}
        self.answered: list[float] = []
        self.wrong: list[str] = []
        self.lost = 0
        self.stop = threading.Event()

    def ask(self, query: str) -> bool:
        """Whether a query was answered; its hits must be those of the first time."""
        try:
            response = self.http.get("/search", params={"q": query}, timeout=HONEST_S)
        except httpx.TransportError:
            response = None
        if response is None or response.status_code != 200:
            self.lost += 1
            return False
        hits = [hit["image_id"] for hit in response.json()["results"][0]["hits"]]
        if hits != self.expected.setdefault(query, hits):
            self.wrong.append(f"{query}: {hits} instead of {self.expected[query]}")
        self.answered.append(time.monotonic())
        return True

    def work(self) -> None:
        """Ask until told to stop."""
        draw = random.Random(1)
        while not self.stop.is_set():
            self.ask(draw.choice(QUERIES))
            self.stop.wait(self.pause)


class HealthLog:
    """What `/health` said, and when."""

    def __init__(self, service: RunningService) -> None:
        self.http = service.client()
        self.said: list[tuple[float, bool]] = []
        self.stop = threading.Event()

    def work(self) -> None:
        """Ask four times a second until told to stop."""
        while not self.stop.is_set():
            asked = time.monotonic()
            try:
                healthy = self.http.get("/health", timeout=2).status_code == 200
            except httpx.TransportError:
                healthy = False
            self.said.append((asked, healthy))
            self.stop.wait(0.25)


def kill(service: RunningService, part: str) -> bool:
    """Kill a part; False where it has not come back from the last time yet."""
    try:
        service.part(PARTS[part]).kill()
    except (ValueError, psutil.NoSuchProcess):  # none, or two for a moment
        return False
    return True


def dishonest(said: list[tuple[float, bool]], answered: list[float]) -> list[float]:
    """When health was said to be well, though no query had been answered for HONEST_S and none was
    in the second that followed.
    """
    times = [-math.inf, *answered, math.inf]
    after = [(asked, bisect_left(times, asked)) for asked, healthy in said if healthy]
    return [
        asked
        for asked, row in after
        if answered[0] < asked < answered[-1]
        and asked - times[row - 1] > HONEST_S
        and times[row] - asked > 1
    ]


def main() -> None:
    """Run, print the figures, and exit with 1 where an answer was wrong or health dishonest."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("directory", type=Path, help="to work in; it must not be there")
    arguments.add_argument("--kills", type=int, default=200)
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    options.directory.mkdir(parents=True)
    draw = random.Random(options.seed)
    recoveries: dict[str, list[float]] = {part: [] for part in PARTS}
    with run_service(options.directory, make_database(options.directory)) as service:
        client = Client(service, 0)
        start = time.monotonic()
        while not all(client.ask(query) for query in QUERIES):
            assert time.monotonic() < start + BACK_WITHIN_S, "the service does not answer"
        start = time.monotonic()
        for query in QUERIES:
            client.ask(query)
        client.pause = (time.monotonic() - start) / len(QUERIES)  # half of the time it waits
        client.lost = 0
        health = HealthLog(service)
        threads = [threading.Thread(target=each.work) for each in (client, health)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(options.kills):
                time.sleep(draw.uniform(1, 3))
                part = draw.choice(list(PARTS))
                if kill(service, part):
                    recoveries[part].append(_recovery(client))
                    print(f"{part}: {recoveries[part][-1]:.1f} s", flush=True)
        finally:
            client.stop.set()
            health.stop.set()
            for thread in threads:
                thread.join()
        bad = dishonest(health.said, client.answered)
        for part, seconds in recoveries.items():
            if seconds:
                print(f"{part}: {len(seconds)} kills, back after {_percentiles(seconds)}")
        every = [each for seconds in recoveries.values() for each in seconds]
        print(
            f"{len(every)} kills, back after {_percentiles(every)}; {len(client.answered)} answers"
        )
        print(f"{client.lost} queries without an answer, {len(client.wrong)} wrong answers")
        print(f"/health: {len(health.said)} asked, {len(bad)} dishonest")
        print(*client.wrong[:5], sep="\n")
    sys.exit(bool(client.wrong or bad))


def _recovery(client: Client) -> float:
    """Seconds from now until queries are answered, and stay so for two seconds.

    Raises AssertionError where that takes longer than BACK_WITHIN_S.
    """
    killed = time.monotonic()
    last_loss, lost = killed, client.lost
    while time.monotonic() < last_loss + 2 or client.answered[-1] < last_loss:
        assert time.monotonic() < killed + BACK_WITHIN_S, "the service does not come back"
        time.sleep(0.05)
        if client.lost > lost:
            last_loss, lost = time.monotonic(), client.lost
    later = [at for at in client.answered if at >= last_loss]
    return max(later[0] - killed, 0.0) if last_loss > killed else 0.0


def _percentiles(seconds: list[float]) -> str:
    p50, p99 = np.percentile(seconds, [50, 99])
    return f"p50 {p50:.1f} s, p99 {p99:.1f} s, at most {max(seconds):.1f} s"


if __name__ == "__main__":
    main()
