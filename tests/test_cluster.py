"""Clusters: the files that start them, the doctor, and a really submitted job on several nodes."""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import yaml
from PIL import Image

from benchmarks import free_port
from lib import doctor as diagnosis
from lib.cluster import _require_room_for_sockets, _require_utf8
from lib.descriptors.placement import Placement, size_of_workers
from lib.descriptors.shards import ExtractionSettings
from lib.doctor import Finding, diagnose
from lib.errors import ImageSearchError
from lib.nodes import NodeShape, Shortage, require_workers, resources_in_words
from lib.parquet import write_table_atomic
from lib.schemas import Provenance, descriptor_schema
from lib.storage import read_bytes
from lib.tasks import run_on_workers, run_where_it_pays
from tests.cluster_process import RunningCluster
from tests.listening import NO_GRPC, codes_without_token, listening_to_others
from tests.run_job import run_job
from tests.serving_process import wait_for

ROOT = Path(__file__).parents[1]


def test_cluster_yaml_passes_rays_own_validation() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    validate_config(prepare_config(config))
    with pytest.raises(Exception, match="max_worker"):
        validate_config(prepare_config({**config, "max_workers": "many"}))
    assert config["available_node_types"]["gpu_worker"]["min_workers"] == 0


def _rayjob() -> dict[str, Any]:
    documents = yaml.safe_load_all((ROOT / "deploy" / "rayjob.yaml").read_text())
    return next(document for document in documents if document["kind"] == "RayJob")


def test_rayjob_runs_a_job_that_exists_with_options_that_it_has() -> None:
    manifest: dict[str, Any] = _rayjob()
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayJob")
    command = manifest["spec"]["entrypoint"].split()
    assert command[:3] == ["python", "-m", "jobs.extract_descriptors"]
    from jobs.extract_descriptors import build_parser

    build_parser().parse_args(command[3:])
    (group,) = manifest["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_the_manifests_give_each_gpu_worker_what_a_shard_asks_for() -> None:
    """By Ray's own schemas and its own reading of a RayCluster."""
    from ray.autoscaler._private.kuberay.autoscaling_config import (
        _derive_autoscaling_config_from_ray_cr as derive,
    )
    from ray.autoscaler._private.util import validate_config

    manifest = _rayjob()
    cluster = {
        "metadata": {"name": "c", "namespace": "n"},
        "spec": manifest["spec"]["rayClusterSpec"],
    }
    derived = derive(cluster)
    validate_config(derived)
    virtual = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    for config, share in ((derived, (5, 0.3333)), (virtual, (4, 0.25))):
        types = [
            NodeShape(
                kind["resources"]["CPU"], kind["resources"].get("GPU", 0), kind["max_workers"]
            )
            for kind in config["available_node_types"].values()
            if kind["resources"].get("CPU")
        ]
        size = size_of_workers(ExtractionSettings(), types)
        assert (size.cpus, size.gpus) == share


@pytest.mark.parametrize(
    ("shapes", "asked", "size"),
    [
        ([NodeShape(2, 0, 1)], {}, (1, 0)),
        ([NodeShape(16, 1, 8)], {}, (4, 0.25)),
        ([NodeShape(64, 1, 8)], {}, (16, 0.25)),
        ([NodeShape(7, 1, 8)], {}, (7, 1)),
        ([NodeShape(96, 8, 1), NodeShape(4, 0, 5)], {}, (4, 0.3333)),
        ([NodeShape(96, 8, 1), NodeShape(16, 4, 1)], {}, (4, 1)),
        ([NodeShape(16, 1, 1)], {"gpus_per_worker": 1.0}, (16, 1)),
        ([NodeShape(16, 1, 1)], {"gpus_per_worker": 0.5}, (8, 0.5)),
        ([NodeShape(16, 1, 1)], {"gpus_per_worker": 0.0}, (1, 0)),
        ([NodeShape(16, 1, 1)], {"cpus_per_worker": 3}, (3, 0.25)),
        ([], {}, (1, 0)),
    ],
)
def test_a_worker_takes_a_gpu_and_its_share_of_the_nodes_cpus(
    shapes: list[NodeShape], asked: dict[str, Any], size: tuple[float, float]
) -> None:
    size_of = size_of_workers(ExtractionSettings(**asked), shapes)
    assert (size_of.cpus, size_of.gpus) == size


@pytest.mark.ray
@pytest.mark.reports
@pytest.mark.usefixtures("ray_local")
@pytest.mark.parametrize(
    ("arguments", "asks"),
    [
        (("--cpus-per-worker", 64), "a worker of 64 CPUs"),
        (("--gpus-per-worker", 1), "a worker of 1 GPU and 1 CPU"),
    ],
)
def test_what_can_never_run_is_said_at_once(
    tmp_path: Path, arguments: tuple[object, ...], asks: str
) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(b"")
    job = ("--images", tmp_path / "images", "--db", tmp_path / "db", "--backbone", "resnet18")
    _, errors = run_job("extract_descriptors", *job, "--weights", "random", *arguments, status=1)
    assert f"asked for: {asks}" in errors
    assert "the cluster has 1 × " in errors


@pytest.mark.long
@pytest.mark.reports
@pytest.mark.usefixtures("ray_local")
def test_who_waits_for_cpus_that_others_hold_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Extraction said 0/N images for hours, batch queries nothing."""
    import ray

    class Tenant:
        def here(self) -> bool:
            return True

    cpus = int(ray.cluster_resources()["CPU"])
    tenants = [ray.remote(num_cpus=1)(Tenant).remote() for _ in range(cpus)]
    ray.get([tenant.here.remote() for tenant in tenants])
    held = f"of the cluster's {resources_in_words(cpus, 0)}, 0 CPUs were free when this began"
    placement = Placement(ExtractionSettings())
    placement.begin()
    assert held in placement.waiting()
    placement.leave(placement.take())
    assert not placement.waiting()
    with Shortage(1).told():  # what waits says nothing itself
        monkeypatch.setattr(sys, "stderr", first := Heard(lambda: None))
        assert first.heard.wait(30)

    monkeypatch.setattr(sys, "stderr", second := Heard(lambda: [*map(ray.kill, tenants)]))
    assert list(run_on_workers(_negative, (), [1])) == [-1]  # once told, they make room
    for stream in first, second:
        (line,) = stream.getvalue().splitlines()
        assert line.startswith("waiting for 1 CPU, ")
        assert held in line
    placement.begin()
    assert not placement.waiting()


def _negative(number: int) -> int:
    return -number


class Heard(io.StringIO):
    """A stream that has something done when somebody writes to it."""

    def __init__(self, then: Callable[[], object]) -> None:
        super().__init__()
        self.heard, self._then = threading.Event(), then

    def write(self, text: str) -> int:
        written = super().write(text)
        if not self.heard.is_set():
            self.heard.set()
            self._then()
        return written


@pytest.mark.ray
@pytest.mark.reports
def test_every_port_of_a_cluster_asks_for_the_token(cluster: RunningCluster) -> None:
    """But those of metrics, which only tell; the page itself listens to this machine alone."""
    wait_for(lambda: cluster.client in {p for _, p in listening_to_others(cluster.process)}, 60)
    metrics = 0
    places = listening_to_others(cluster.process)
    for place in places | {("127.0.0.1", int(cluster.dashboard.rpartition(":")[2]))}:
        codes = set(codes_without_token(*place))
        if not codes & NO_GRPC:
            assert grpc.StatusCode.UNAUTHENTICATED in codes, place
            assert codes <= {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNIMPLEMENTED}
            continue
        jobs = ("api/jobs/", "api/job_agent/jobs/", "get_or_create_runtime_env")
        url = "http://{}:{}".format(*place)
        answers = [httpx.post(f"{url}/{path}", json={"entrypoint": "true"}) for path in jobs]
        refusals = {answer.status_code for answer in answers}
        assert refusals in ({401}, {405}), place
        if refusals == {405}:
            metrics += 1
            told = {httpx.get(f"{url}/{path}").text.partition(" ")[0] for path in jobs}
            assert told == {"#"}  # as Prometheus has it
    assert metrics >= 3  # one a node, and more on the head


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
def test_more_training_workers_than_cores_are_refused() -> None:
    with pytest.raises(ImageSearchError, match=r"asked for: 64 workers of 1 CPU each.*--workers"):
        require_workers(64, 1, 0, "Ask for fewer --workers")


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
def test_ray_is_used_where_it_pays() -> None:
    def where(shared: str, item: int) -> tuple[str, int, bool]:
        return shared, item, os.getpid() == driver

    driver = os.getpid()
    few, many = ([*run_where_it_pays(where, ("a",), range(count))] for count in (8, 9))
    assert few == [("a", item, True) for item in range(8)]
    assert sorted(many) == [("a", item, False) for item in range(9)]


AUTOSCALED = """
import json, os, socket, subprocess, sys, tempfile, time
from pathlib import Path
import psutil
from ray.autoscaler.v2.sdk import get_cluster_status

port, images, temporary = sys.argv[1:]
folder = Path(temporary)
nothing = ("auth", "file_mounts", "head_node", "worker_nodes")
commands = ("setup_commands", "initialization_commands", "head_setup_commands",
            "worker_setup_commands", "head_start_ray_commands", "worker_start_ray_commands",
            "cluster_synced_files", "rsync_exclude", "rsync_filter")
config = {
    "cluster_name": "test", "max_workers": 2, "idle_timeout_minutes": 5,
    "provider": {"type": "fake_multinode", "gcs_address": f"127.0.0.1:{port}"},
    "head_node_type": "head",
    "available_node_types": {
        "head": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "gpu": {"resources": {"CPU": 16, "GPU": 1}, "node_config": {}, "max_workers": 2},
    },
    **dict.fromkeys(nothing, {}), **{name: [] for name in commands},
}
(folder / "config.json").write_text(json.dumps(config))
environment = {**os.environ, "RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
environment["PYTHONPATH"] = os.getcwd()
start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=0"]
start += [f"--port={port}", f"--autoscaling-config={folder / 'config.json'}"]
start += ["--include-dashboard=false", f"--temp-dir={folder}", "--disable-usage-stats"]
start += ["--object-store-memory=100000000", "--dashboard-agent-listen-port=0"]
head = subprocess.Popen(start, env=environment, stdout=subprocess.DEVNULL)
try:
    for _ in range(120):
        try:
            socket.create_connection(("127.0.0.1", int(port)), 1).close()
            break
        except OSError:
            time.sleep(0.25)
    job = [sys.executable, "-m", "jobs.extract_descriptors", "--images", images]
    job += ["--db", str(folder / "db"), "--backbone", "resnet18", "--weights", "random"]
    address = f"127.0.0.1:{port}"
    # As a submitted job, which sends no working directory: nodes that share a disk, as these do,
    # unpack it over each other's.
    joined = os.environ | {"RAY_ADDRESS": address, "RAY_JOB_CONFIG_JSON_ENV_VAR": "{}"}
    working = subprocess.Popen(job, env=joined, stderr=subprocess.PIPE)
    demand = set()
    while working.poll() is None:
        for task in get_cluster_status(address).resource_demands.ray_task_actor_demand:
            demand |= {tuple(sorted(b.bundle.items())) for b in task.bundles_by_count}
        time.sleep(0.5)
    print(json.dumps({"demand": sorted(demand), "errors": working.stderr.read().decode()}))
finally:
    family = psutil.Process(head.pid).children(recursive=True)
    for process in [psutil.Process(head.pid), *family]:
        process.kill()
"""


@pytest.mark.cluster
def test_an_autoscaled_cluster_is_asked_for_gpus_with_their_cpus(tmp_path: Path) -> None:
    """Ray's own autoscaler starts a node that says it has a GPU; there the shard looks for CUDA."""
    images = tmp_path / "images"
    images.mkdir()
    (images / "a.jpg").write_bytes(b"")
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": uuid.uuid4().hex}
    # Ray's sockets lie below its directory, and their names may not be long.
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as temporary:
        done = subprocess.run(
            [sys.executable, "-c", AUTOSCALED, str(free_port()), str(images), temporary],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=500,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert [["CPU", 4.0], ["GPU", 0.25]] in told["demand"], told["errors"]
    assert "each worker takes 0.25 GPUs and 4 CPUs" in told["errors"]
    assert "can have, 2 × 1 GPU and 16 CPUs" in told["errors"]
    import torch

    if not torch.cuda.is_available():
        assert "a GPU, but PyTorch" in told["errors"]


def findings(db: Path, **options: Any) -> dict[str, Finding]:
    findings = diagnose(str(db), options.get("backbone"), options.get("weights", "random"))
    return {finding.check: finding for finding in findings}


@pytest.mark.usefixtures("ray_local")
def test_the_doctor_finds_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # not the working directory of the workers
    well = findings(Path())
    assert {finding.level for finding in well.values()} == {"ok"}, well
    assert {"storage", "versions", "devices", "backbone", "word vectors"} <= well.keys()
    assert not list(tmp_path.glob(".mark*"))
    schema = descriptor_schema(Provenance("resnet34", "0" * 64, "none", "float16", 512))
    write_table_atomic(schema.empty_table(), str(tmp_path / "db/descriptors/a.parquet"))
    assert findings(tmp_path / "db")["backbone"].message.startswith("resnet34, 512 values")
    monkeypatch.setattr(diagnosis, "UPLOAD_LIMIT_BYTES", 10)
    own = {**diagnosis.describe_process(), "torch": "1.0"}
    monkeypatch.setattr(diagnosis, "describe_process", lambda: own)
    monkeypatch.setattr(diagnosis, "exists", lambda url: False)
    ill = findings(tmp_path, weights=str(tmp_path / "absent.pth"))
    assert {check for check, finding in ill.items() if finding.level == "error"} >= {
        "working directory",
        "backbone",
        "storage",
    }
    assert all(finding.remedy for finding in ill.values() if finding.level == "error")


@pytest.mark.usefixtures("ray_local")
@pytest.mark.parametrize("private", ["db", "images"])
def test_what_other_nodes_do_not_see_is_refused_before_work(
    private: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that a node keeps on its own disk were lost, with the advice to run the job again."""
    (tmp_path / "images").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "images" / "a.jpg")
    monkeypatch.setenv("RAY_ADDRESS", "the cluster that runs")
    # Which place this is depends on the process: the workers' is another one.
    places = {"db": "db", "images": "images"} | {private: f"/proc/self/cwd/{private}"}
    arguments = (word for name, place in places.items() for word in (f"--{name}", place))
    job = ("extract_descriptors", *arguments, "--weights", "random")
    _, refused = run_job(*job, status=1, cwd=tmp_path)
    assert re.search(rf"/proc/self/cwd/{private}\S* is here, but not on \d.*share", refused)
    assert not [*tmp_path.glob("db/.mark*")]
    assert not [*tmp_path.glob("db/**/*.parquet")]


def test_versions_and_devices_that_differ_are_errors() -> None:
    own = diagnosis.describe_process()
    assert "the same on 2 nodes" in diagnosis._versions([own, own])
    with pytest.raises(ImageSearchError, match=r"torch .* here and 1\.0 on a worker"):
        diagnosis._versions([own, {**own, "torch": "1.0"}])
    with pytest.raises(ImageSearchError, match="1 of 2 nodes cannot import"):
        diagnosis._versions([own, None])
    node = {"Resources": {"CPU": 4.0, "GPU": 1.0}, "NodeManagerAddress": "10.0.0.7"}
    with pytest.raises(ImageSearchError, match=r"GPUs on 10\.0\.0\.7"):
        diagnosis._devices([node], [{**own, "cuda": False}])


def connecting(addresses: Sequence[str], **environment: str) -> list[str]:
    """What a process that knows nothing of Ray but the environment hears of each address."""
    code = """
import os, sys
from lib.cluster import choose_token, connect
from lib.errors import ImageSearchError

for address in sys.argv[1:]:
    os.environ["RAY_ADDRESS"] = address
    choose_token()
    try:
        with connect():
            import ray
            print(ray.get(ray.remote(lambda: os.getpid()).remote()) != os.getpid())
    except ImageSearchError as error:
        print(str(error).splitlines()[0])
"""
    others = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", code, *addresses],
        cwd=ROOT,
        env=others | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.cluster
def test_this_machine_alone_needs_no_home_to_write_to() -> None:
    """Containers often have none; Ray by itself would keep a token there."""
    assert connecting([""], HOME="/dev/null/home") == ["True"]


@pytest.mark.ray
@pytest.mark.reports
def test_a_ray_that_does_not_start_says_where_its_logs_are() -> None:
    (said,) = connecting([""], RAY_TMPDIR="/dev/null")
    assert said.startswith("Ray did not start on this machine: ")
    assert "logs are below /dev/null/ray; " in said


@pytest.mark.ray
def test_a_cluster_that_is_not_there_is_named_at_once() -> None:
    addresses = ["127.0.0.1:1", "http://127.0.0.1:1", "nowhere"]
    for address, message in zip(addresses, connecting(addresses), strict=True):
        assert message.startswith(f"RAY_ADDRESS is {address}: ")


@pytest.mark.ray
@pytest.mark.reports
def test_a_port_that_is_not_the_heads_is_named_at_once() -> None:
    """Ray wrote a line a second of it, or waited for a minute and a half."""
    page = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)  # as the dashboard is
    other = grpc.server(ThreadPoolExecutor(1))  # as the server for `ray://` is
    demanding = grpc.server(ThreadPoolExecutor(1))
    demanding.add_generic_rpc_handlers([_DemandsAToken()])
    ports = [page.server_port, *(s.add_insecure_port("127.0.0.1:0") for s in (other, demanding))]
    threading.Thread(target=page.serve_forever, daemon=True).start()
    other.start()
    demanding.start()
    try:
        said = connecting([f"127.0.0.1:{port}" for port in ports])
    finally:
        page.shutdown()
        other.stop(0)
        demanding.stop(0)
    assert ["not the head of a Ray cluster" in line for line in said] == [True, True, False]
    assert "it demands a token" in said[2]


class _DemandsAToken(grpc.GenericRpcHandler):
    """Well to everybody, and otherwise for nobody: as a head is to who has another token."""

    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        def answer(_: bytes, context: grpc.ServicerContext) -> bytes:
            if not call.method.endswith("/Check"):
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken")
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


def test_the_submitted_pipeline_runs_on_several_nodes_with_its_database_on_s3(
    tmp_path: Path, cluster: RunningCluster, s3_bucket: str
) -> None:
    """Every stage, from images to a page of answers; nothing but the pictures is on a disk."""
    run_job("prepare_data", "--count", 60, "--output", tmp_path)
    job = ["-m", "jobs.pipeline", "--images", tmp_path / "images", "--db", f"{s3_bucket}/db"]
    job += ["--captions", tmp_path / "captions_train.json", "--backbone", "resnet18"]
    job += ["--test-captions", tmp_path / "captions_test.json", "--weights", "random"]
    job += ["--query", "a dog", "--json", tmp_path / "summary.json"]
    submit = ["-m", "ray.scripts.scripts", "job", "submit", "--address", cluster.dashboard]
    submit += ["--working-dir", ".", "--", sys.executable]
    printed = cluster.run(*submit, *job, timeout=600, RAY_AUTH_MODE="token")
    count = len(list((tmp_path / "images").iterdir()))
    assert f"inputs {count} = descriptors {count} + failures 0" in printed
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["extract_descriptors"]["described"] == count
    assert summary["evaluate"]["images"] > 0
    page = read_bytes(f"{s3_bucket}/db/queries.html").decode()
    assert page.count("data:image/jpeg") == 10


@pytest.mark.reports
@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
def test_a_temporary_directory_with_too_long_a_name_is_said(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv(variable, "/tmp/" + "x" * 30)
    _require_room_for_sockets()
    monkeypatch.setenv(variable, "/tmp/" + "x" * 60)
    with pytest.raises(ImageSearchError, match=f"set {variable} to a shorter one"):
        _require_room_for_sockets()


@pytest.mark.reports
@pytest.mark.parametrize("given", ["argument", "directory"])
def test_names_that_ray_cannot_take_are_refused_before_it_starts(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    os.mkdir(folder)  # noqa: PTH102
    with contextlib.chdir(folder if given == "directory" else tmp_path):
        monkeypatch.setattr(sys, "argv", ["job", folder] if given == "argument" else ["job"])
        with pytest.raises(ImageSearchError, match=r"caf\\xe9, which is no UTF-8.*ln -s"):
            _require_utf8()
