"""Kills at random moments, of drivers, workers and nodes, leave every row as undisturbed."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from lib.backbones.backbone import load_backbone
from lib.backbones.engines import Forms
from lib.descriptors.dispatch import Workers, dispatch
from lib.descriptors.extraction import extract
from lib.descriptors.placement import Placement
from lib.descriptors.shards import ExtractionSettings, Shard, ShardReport, cut_shards
from lib.descriptors.worker import BackbonePayload
from lib.images.listed import ListedImage
from tests.descriptors.test_extraction import make_images, rows

ROOT = Path(__file__).parents[2]
SHARD_SIZE = 5


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_images(tmp_path_factory.mktemp("kills") / "images", 300)
    (folder / "bad.jpg").write_bytes(b"<html>")
    return folder


@pytest.fixture(scope="module")
def undisturbed(
    images: Path, tmp_path_factory: pytest.TempPathFactory, ray_local: None
) -> list[dict[str, object]]:
    db = tmp_path_factory.mktemp("undisturbed")
    backbone = load_backbone("resnet18", "random")
    extract(str(images), str(db), backbone, ExtractionSettings(shard_size=SHARD_SIZE))
    return rows(db)


def start(images: Path, db: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "jobs.extract_descriptors", "--images", str(images)]
    command += ["--db", str(db), "--backbone", "resnet18", "--weights", "random"]
    command += ["--shard-size", str(SHARD_SIZE)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finished(db: Path) -> int:
    return len(list((db / "descriptors").glob("[!.]*.parquet")))


def wait_for_progress(job: subprocess.Popen[bytes], db: Path, least: int) -> bool:
    """Wait until some shards more are there; False once the job has ended."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and job.poll() is None:
        if finished(db) >= least:
            return True
        time.sleep(0.02)
    assert job.poll() is not None, "the job neither advances nor ends"
    return False


def kill_a_worker(job: subprocess.Popen[bytes]) -> bool:
    workers = [
        process
        for process in psutil.Process(job.pid).children(recursive=True)
        if process.name().startswith("ray::extract")
    ]
    if workers:
        random.choice(workers).kill()
    return bool(workers)


def kill_with_all_its_processes(job: subprocess.Popen[bytes]) -> None:
    """Kill -9 the driver first, then what it started, as when a machine goes down."""
    family = psutil.Process(job.pid).children(recursive=True)
    job.kill()
    job.wait()
    for process in family:
        if process.is_running():
            process.kill()
    psutil.wait_procs(family, timeout=10)


@pytest.mark.chaos
def test_kills_of_drivers_and_workers_change_no_row(
    images: Path, undisturbed: list[dict[str, object]], tmp_path: Path
) -> None:
    db = tmp_path / "db"
    workers = 0
    job = start(images, db)
    if wait_for_progress(job, db, random.randint(1, 8)):
        workers += kill_a_worker(job)
    assert wait_for_progress(job, db, finished(db) + random.randint(1, 8))
    kill_with_all_its_processes(job)
    job = start(images, db)
    for _ in range(2):
        if wait_for_progress(job, db, finished(db) + random.randint(1, 5)):
            workers += kill_a_worker(job)
    output, _ = job.communicate(timeout=400)
    assert job.returncode == 0, output.decode()
    assert workers >= 1
    assert rows(db) == undisturbed
    assert [row["path"] for row in rows(db, "failures")] == ["bad.jpg"]


NODES = """
import random, sys, threading, time
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from lib.backbones.backbone import load_backbone
from lib.descriptors.extraction import extract
from lib.descriptors.shards import ExtractionSettings

images, db, shard_size = sys.argv[1], sys.argv[2], int(sys.argv[3])
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
node = cluster.add_node(num_cpus=1)
spare = cluster.add_node(num_cpus=1)
ray.init(address=cluster.address, log_to_driver=False)
killed = []

def disturb():
    while len(list(Path(db, "descriptors").glob("[!.]*.parquet"))) < random.randint(3, 12):
        time.sleep(0.02)
    cluster.remove_node(node, allow_graceful=False)
    killed.append(time.monotonic())
    cluster.add_node(num_cpus=1)

thread = threading.Thread(target=disturb)
thread.start()
settings = ExtractionSettings(shard_size=shard_size)
run = extract(images, db, load_backbone("resnet18", "random"), settings)
ended = time.monotonic()
thread.join()
assert killed[0] < ended, "the node outlived the run"
ray.shutdown()
cluster.shutdown()
print("described", run.described)
"""


@pytest.mark.chaos
def test_the_loss_of_a_node_changes_no_row(
    images: Path, undisturbed: list[dict[str, object]], tmp_path: Path
) -> None:
    command = [sys.executable, "-c", NODES, str(images), str(tmp_path / "db"), str(SHARD_SIZE)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "described 300" in done.stdout
    assert rows(tmp_path / "db") == undisturbed


@pytest.mark.long
def test_want_of_memory_is_no_images_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each image was noted as one that takes its worker down, and the run said it was done."""
    make_images(tmp_path / "images", 3)
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.0001")
    command = [sys.executable, "-m", "jobs.extract_descriptors", "--images", "images", "--db", "db"]
    command += ["--backbone", "resnet18", "--weights", "random", "--shard-size", "4"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 1
    said = done.stderr.splitlines()[-1]
    assert re.search(r"Ray ended \d+ workers .* memory was short.* exceeded threshold", said)
    assert "What is described is kept" in said
    assert re.search(r"far larger than others, such as perhaps [\w/]+\.jpg$", said)
    assert not (tmp_path / "db" / "failures").exists()


@pytest.mark.long
@pytest.mark.parametrize("of_memory", [False, True])
# In halves the one alone, and those that are well; one in a shard of its own, the last; and many.
@pytest.mark.parametrize(
    ("names", "shard_size"),
    [
        (["poison", "a", "b"], 3),
        (["a", "b", "poison"], 2),
        (["poison 1", "poison 2", "a", "b"], 2),
        (["a", "b", "poison 1", "poison 2", "poison 3", "poison 4"], 2),
    ],
)
def test_an_image_that_kills_its_worker_is_found_and_the_rest_described(
    names: list[str],
    shard_size: int,
    of_memory: bool,
    tmp_path: Path,
    ray_local: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import ray
    from ray.exceptions import WorkerCrashedError

    if of_memory:  # of which Ray says the same, but for the name of its error
        monkeypatch.setattr("lib.descriptors.dispatch.OutOfMemoryError", WorkerCrashedError)

    # Within the test, so that a new process need not import all that the tests do.
    def describe_or_die(
        package: list[Any], digest: str, settings: ExtractionSettings, db: str, shard: Shard
    ) -> ShardReport:
        """Stands in for a decoder that crashes on one image."""
        if any("poison" in image.path for image in shard.images):
            os.kill(os.getpid(), signal.SIGKILL)
        return ShardReport(len(shard.images), 0, Counter(), "", {})

    task = ray.remote(max_retries=0)(describe_or_die)
    monkeypatch.setattr("lib.descriptors.dispatch.extract_shard", task)
    listed = [ListedImage(name, f"/{name}", 1, "", name) for name in names]
    shards = cut_shards(enumerate(listed), shard_size)
    backbone = load_backbone("resnet18", "random")
    payload = BackbonePayload.of(backbone, Forms("fast", None), with_network=True)
    one_at_a_time = ExtractionSettings(cpus_per_worker=int(ray.cluster_resources()["CPU"]))
    workers = Workers(Placement(one_at_a_time), payload)
    ended = dispatch(shards, str(tmp_path), workers)
    reports = [report for report in ended if report is not None]
    assert sum(report.described for report in reports) == 2
    failures = {failure["path"]: failure["reason"] for failure in rows(tmp_path, "failures")}
    assert failures == {name: "crashed" for name in names if "poison" in name}
