"""What measures speed and quality: `python -m benchmarks.NAME --help`."""

import argparse
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np


def parser(description: str) -> argparse.ArgumentParser:
    """Parser of a benchmark, with --json."""
    arguments = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--json", metavar="FILE", help="write the figures, too")
    return arguments


def write_json(file: str | None, figures: object) -> None:
    """Write figures to a file, where one is named."""
    if file:
        Path(file).write_text(json.dumps(figures, indent=1) + "\n")


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def seconds(work: Callable[[], object], repeats: int) -> list[float]:
    """Wall time of each of some runs, after one to warm up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return times


def rate(work: Callable[[], int], for_s: float) -> float:
    """Things a second of a function, already warm, that says how many it has done."""
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < for_s:
        done += work()
    return done / (time.perf_counter() - start)


def drawn_unit_rows(rows: int, dimension: int, seed: int) -> np.ndarray:
    """Random unit vectors, (rows, dimension) float32."""
    vectors = np.random.default_rng(seed).standard_normal((rows, dimension), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors
