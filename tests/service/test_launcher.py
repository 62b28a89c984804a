import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from lib.service.deployment import ServiceSettings
from tests.serving_database import make_database
from tests.serving_process import TOKEN, RunningService, free_port, run_service

ROOT = Path(__file__).parents[2]


def deployments() -> list[Any]:
    service = yaml.safe_load((ROOT / "deploy" / "rayservice.yaml").read_text())
    nodes = service["spec"]["rayClusterConfig"]
    head = nodes["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert head["env"] == nodes["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["env"]
    return [
        yaml.safe_load((ROOT / "serve_config.yaml").read_text()),
        yaml.safe_load(service["spec"]["serveConfigV2"]),
    ]


@pytest.mark.parametrize("index", [0, 1])
def test_the_configurations_are_what_ray_and_the_service_take(index: int) -> None:
    config = ServeDeploySchema.model_validate(deployments()[index])
    (application,) = config.applications
    module, _, name = application.import_path.partition(":")
    assert hasattr(sys.modules[module], name)
    ServiceSettings(**application.args)


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--port", "0"], 2, "ports are 1 to 65535"),
        (["--max-replicas", "0"], 2, "at least one"),
        ([], 1, "run jobs.embed_database first"),
    ],
)
@pytest.mark.ray
def test_a_service_that_cannot_start_says_why(
    options: list[str], status: int, message: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "jobs.serve", "--db", str(tmp_path), *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == status
    assert message in done.stderr


IMAGES = 8  # of the second database; the first has 24


@pytest.mark.service
@pytest.mark.reports
def test_a_service_never_answers_from_anothers_database(
    service: RunningService, tmp_path: Path
) -> None:
    port, stop = free_port(), threading.Event()
    counts: list[int] = []

    def ask() -> None:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        while not stop.is_set():
            try:
                answer = httpx.get(f"http://127.0.0.1:{port}/info", headers=headers, timeout=30)
                if answer.status_code == 200:
                    counts.append(answer.json()["images"])
            except httpx.HTTPError:  # no answer is right where there is none to give
                pass
            time.sleep(0.05)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        with run_service(tmp_path, make_database(tmp_path, IMAGES), port) as second:
            second.part("Replica:image-search:Search").kill()
            before = len(counts)
            _wait_for(lambda: len(counts) > before + 10)
            with service.client() as first:
                assert first.get("/info").json()["images"] == 24
            second.process.kill()  # not even its proxy may stay behind
            _wait_for(lambda: _refused(port))
    finally:
        stop.set()
        asking.join()
    assert set(counts) == {IMAGES}


def _refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return True
    return False


def _wait_for(condition: Callable[[], object], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.2)
