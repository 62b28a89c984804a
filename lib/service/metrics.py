"""The service's own metrics, beside those of Ray Serve."""

import asyncio
import urllib.request
from collections import Counter
from collections.abc import Sequence
from typing import Any

import ray
from ray.serve import metrics

from lib.errors import UnavailableError

PREFIX = "image_search_"
_SECONDS = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0]
_BATCH_SIZES = [1, 2, 4, 8, 16, 32, 64]
_REPORT_EVERY_S = 1.0


class Measures:
    """What a replica counts and times.

    What each request counts is added up here and handed to Ray once a second: recording is slow.
    """

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str]] = Counter()  # by route and status
        self.unknown_words = 0
        self.seconds = _histogram("request_seconds", "Seconds a request took", _SECONDS, "route")
        self.search_seconds = _histogram("batch_seconds", "Seconds a batch took", _SECONDS)
        self.batch_size = _histogram("batch_size", "Queries searched together", _BATCH_SIZES)
        self.reloads = _counter("reloads", "New database versions", "outcome")
        self.version = metrics.Gauge(f"{PREFIX}database_version", "Version served")
        self._requests = _counter("requests", "HTTP requests", "route", "status")
        self._unknown_words = _counter("unknown_word_queries", "Queries with unknown words")

    async def report(self) -> None:
        """Keep handing over what has been counted."""
        while True:
            await asyncio.sleep(_REPORT_EVERY_S)
            for (route, status), count in self.requests.items():
                self._requests.inc(count, tags={"route": route, "status": status})
            if self.unknown_words:
                self._unknown_words.inc(self.unknown_words)
            self.requests.clear()
            self.unknown_words = 0


def node_metrics() -> str:
    """This application's lines of this node's metrics agent, for Prometheus.

    Raises UnavailableError where that does not answer.
    """
    node_id = ray.get_runtime_context().get_node_id()
    port = next(n["MetricsExportPort"] for n in ray.nodes() if n["NodeID"] == node_id)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as response:
            text = response.read().decode()
    except OSError as error:
        raise UnavailableError("this node's metrics agent does not answer") from error
    lines = [line for line in text.splitlines() if f"ray_{PREFIX}" in line]
    return "\n".join([*lines, ""])


def _counter(name: str, description: str, *tags: str) -> metrics.Counter:
    keys: Any = tags  # Ray annotates a tuple of exactly one
    return metrics.Counter(PREFIX + name, description, tag_keys=keys)


def _histogram(
    name: str, description: str, bounds: Sequence[float], *tags: str
) -> metrics.Histogram:
    keys: Any = tags
    return metrics.Histogram(PREFIX + name, description, list(bounds), tag_keys=keys)
