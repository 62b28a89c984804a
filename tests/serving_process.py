"""The service as people start it: `python -m jobs.serve`, with processes of its own."""

import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from benchmarks import free_port
from tests.serving_database import WEIGHTS, captions_file

TOKEN = "s3cret; token"


@dataclass(frozen=True)
class RunningService:
    address: str
    directory: Path  # of the pictures
    db: Path
    process: psutil.Process

    def part(self, name: str) -> psutil.Process:
        """The one process of the service whose command holds a name."""
        (process,) = [p for p in self.process.children(recursive=True) if name in _command(p)]
        return process

    def client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        return httpx.Client(base_url=self.address, headers=headers, timeout=60)


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


@contextmanager
def run_service(directory: Path, db: Path, port: int | None = None) -> Iterator[RunningService]:
    port = port or free_port()
    options = {
        "--db": str(db),
        "--port": str(port),
        "--captions": str(captions_file(directory)),
        "--weights": WEIGHTS,
    }
    environment = {**os.environ, "IMAGE_SEARCH_TOKEN": f"{TOKEN}\n"}  # as from a file
    environment.pop("RAY_ADDRESS", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs.serve", *(part for pair in options.items() for part in pair)],
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    )
    try:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "Ctrl-C" in line:
                break
        assert "Ctrl-C" in lines[-1], "".join(lines)
        # What Ray says of processes that died would fill a pipe that nobody reads, and then wait.
        threading.Thread(target=deque, args=(process.stdout, 0), daemon=True).start()
        started = psutil.Process(process.pid)
        yield RunningService(f"http://127.0.0.1:{port}", directory, db, started)
    finally:
        process.terminate()
        process.wait(90)


def wait_for(condition: Callable[[], object], seconds: float) -> None:
    """Raise AssertionError where a condition does not become true in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.2)
