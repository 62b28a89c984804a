"""Clusters: the files that start them, the doctor, and a really submitted job on several nodes."""

import json
import os
import socket
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
import yaml

from lib import doctor as diagnosis
from lib.doctor import Finding, diagnose

ROOT = Path(__file__).parents[1]


def test_cluster_yaml_passes_rays_own_validation() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    validate_config(prepare_config(config))
    with pytest.raises(Exception, match="max_worker"):
        validate_config(prepare_config({**config, "max_workers": "many"}))
    assert config["available_node_types"]["gpu_worker"]["min_workers"] == 0


def test_rayjob_runs_a_job_that_exists_with_options_that_it_has() -> None:
    manifest: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "rayjob.yaml").read_text())
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayJob")
    command = manifest["spec"]["entrypoint"].split()
    assert command[:3] == ["python", "-m", "jobs.extract_descriptors"]
    from jobs.extract_descriptors import build_parser

    build_parser().parse_args(command[3:])
    (group,) = manifest["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"


def findings(db: Path, **options: Any) -> dict[str, Finding]:
    found = diagnose(str(db), options.get("backbone", "resnet18"), options.get("weights", "random"))
    return {finding.check: finding for finding in found}


@pytest.mark.usefixtures("ray_local")
def test_the_doctor_finds_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    well = findings(tmp_path)
    assert {finding.level for finding in well.values()} == {"ok"}, well
    assert {"storage", "versions", "devices", "backbone", "word vectors"} <= well.keys()
    assert not list(tmp_path.glob(".doctor*"))
    monkeypatch.setattr(diagnosis, "UPLOAD_LIMIT_BYTES", 10)
    own = {**diagnosis.describe_process(), "torch": "1.0"}
    monkeypatch.setattr(diagnosis, "describe_process", lambda: own)
    monkeypatch.setattr(diagnosis, "_reads", lambda url: "another disk")
    ill = findings(tmp_path, weights=str(tmp_path / "absent.pth"))
    assert {check for check, finding in ill.items() if finding.level == "error"} >= {
        "working directory",
        "backbone",
        "storage",
    }
    assert all(finding.remedy for finding in ill.values() if finding.level == "error")


def test_versions_and_devices_that_differ_are_errors() -> None:
    own = diagnosis.describe_process()
    assert diagnosis._versions([own, own]).level == "ok"
    skewed = diagnosis._versions([own, {**own, "torch": "1.0"}])
    assert (skewed.level, "torch" in skewed.message) == ("error", True)
    assert diagnosis._versions([own, None]).level == "error"
    node = {"Resources": {"CPU": 4.0, "GPU": 1.0}, "NodeManagerAddress": "10.0.0.7"}
    blind = diagnosis._devices([node], [{**own, "cuda": False}])
    assert (blind.level, "10.0.0.7" in blind.message) == ("error", True)


SUBMIT = """
import json, os, subprocess, sys, tempfile, time
import ray
from ray.cluster_utils import Cluster

command = json.loads(sys.argv[1])
dashboard, agent = map(int, sys.argv[2:4])
head = {"num_cpus": 0, "include_dashboard": True, "dashboard_port": dashboard}
# Another Ray on this machine, as that of the tests, has the agent's usual port already.
head["dashboard_agent_listen_port"] = agent
cluster = Cluster(initialize_head=True, head_node_args=head)
disks = [tempfile.TemporaryDirectory(ignore_cleanup_errors=True) for _ in range(2)]
for disk in disks:
    # A directory each, as on machines of their own: otherwise each node unpacks the working
    # directory anew over the one that the job already runs in.
    cluster.add_node(num_cpus=1, temp_dir=disk.name)
address = ray.init(address=cluster.address, log_to_driver=False).dashboard_url
submit = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit"]
submit += ["--address", f"http://{address}", "--working-dir", ".", "--", *command]
try:
    for _ in range(30):
        done = subprocess.run(submit, capture_output=True, text=True, timeout=150)
        if "No available agent" not in done.stderr:
            break
        time.sleep(1)  # the head's job agent starts after the head itself
    print(done.stdout, done.stderr)
    os.environ.pop("RAY_AUTH_MODE")
    os.environ["RAY_ADDRESS"] = cluster.address
    doctor = [sys.executable, "-m", "jobs.doctor", "--backbone", "resnet18", "--weights", "random"]
    subprocess.run(doctor, check=True, timeout=60)
finally:
    ray.shutdown()
    cluster.shutdown()
sys.exit(done.returncode)
"""


def doctor(**environment: str) -> subprocess.CompletedProcess[str]:
    """Run the doctor as a process of its own, with nothing said of Ray but what is given."""
    others = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    return subprocess.run(
        [sys.executable, "-m", "jobs.doctor", "--backbone", "resnet18", "--weights", "random"],
        cwd=ROOT,
        env=others | environment,
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_this_machine_alone_needs_no_home_to_write_to() -> None:
    """Containers often have none; Ray by itself would keep a token there."""
    done = doctor(HOME="/dev/null/home")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("address", ["127.0.0.1:1", "http://127.0.0.1:1", "nowhere"])
def test_a_cluster_that_is_not_there_is_named_at_once(address: str) -> None:
    done = doctor(RAY_ADDRESS=address)
    assert done.returncode == 1
    assert f"RAY_ADDRESS is {address}: " in done.stderr
    assert "Traceback" not in done.stderr


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def test_the_submitted_pipeline_runs_on_several_nodes_with_its_database_on_s3(
    tmp_path: Path, s3_bucket: str
) -> None:
    """Every stage, from images to a page of answers; nothing but the pictures is on a disk.

    The cluster demands a token, as Ray's do wherever there is one; at the end the doctor joins it
    from outside, with that token at hand and nothing else said.
    """
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": uuid.uuid4().hex}
    draw = [sys.executable, "-m", "jobs.prepare_data", "--count", "60", "--output", str(tmp_path)]
    subprocess.run(draw, cwd=ROOT, check=True, capture_output=True, timeout=100)
    job = [sys.executable, "-m", "jobs.pipeline", "--images", str(tmp_path / "images")]
    job += ["--captions", str(tmp_path / "captions_train.json"), "--db", f"{s3_bucket}/db"]
    job += ["--validation-captions", str(tmp_path / "captions_validation.json")]
    job += ["--test-captions", str(tmp_path / "captions_test.json"), "--query", "a dog"]
    job += ["--backbone", "resnet18", "--weights", "random"]
    job += ["--json", str(tmp_path / "summary.json")]
    done = subprocess.run(
        [sys.executable, "-c", SUBMIT, json.dumps(job), str(free_port()), str(free_port())],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    count = len(list((tmp_path / "images").iterdir()))
    assert f"inputs {count} = descriptors {count} + failures 0" in done.stdout
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["extract_descriptors"]["described"] == count
    assert summary["evaluate"]["images"] > 0
    read = "import sys; from lib.storage import read_bytes; print(read_bytes(sys.argv[1]).decode())"
    page = subprocess.run(
        [sys.executable, "-c", read, f"{s3_bucket}/db/queries.html"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert page.count("data:image/jpeg") == 10
