"""The service as people start it: `python -m jobs.serve`, with processes of its own."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.serving_database import WEIGHTS, captions_file

TOKEN = "s3cret; token"


@dataclass(frozen=True)
class RunningService:
    address: str
    directory: Path  # of the pictures
    db: Path

    def client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        return httpx.Client(base_url=self.address, headers=headers, timeout=60)


@contextmanager
def run_service(directory: Path, db: Path) -> Iterator[RunningService]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {
        "--db": str(db),
        "--port": str(port),
        "--captions": str(captions_file(directory)),
        "--weights": WEIGHTS,
    }
    environment = {**os.environ, "IMAGE_SEARCH_TOKEN": TOKEN}
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
        yield RunningService(f"http://127.0.0.1:{port}", directory, db)
    finally:
        process.terminate()
        process.wait(90)
