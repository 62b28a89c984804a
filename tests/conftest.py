"""What tests share: real data where it is there, and one local Ray a session."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # each process of a run imports this before all else, and most of them alone
    from tests.cluster_process import RunningCluster
    from tests.serving_process import RunningService

# By itself Ray's processes would give way to whatever the other process of a run computes.
os.environ.setdefault("RAY_worker_niceness", "0")
# Threads of PyTorch that wait would burn the core that the other process of a run could use, which
# takes twice as long; read when PyTorch is loaded, here and in the processes that tests start.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Slow parts first, so that two processes end together.
_ORDER = ("service", "browser", "cluster", "ray")
_MARKER_OF_FIXTURE = {
    "service": "service",
    "cluster": "cluster",
    "ray_local": "ray",
    "coco_dir": "photos",
}
REAL_DATA = Path(__file__).parents[2] / "shared" / "data" / "coco"


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by what their fixtures start, and keep together what shares it.

    With `-n 2` each process runs whole files and has a Ray of its own; the service is one's alone,
    and so is the cluster.
    """
    for item in items:
        for fixture in getattr(item, "fixturenames", ()):
            if marker := _MARKER_OF_FIXTURE.get(fixture):
                item.add_marker(marker)
        shared = (name for name in ("service", "cluster") if item.get_closest_marker(name))
        item.add_marker(pytest.mark.xdist_group(next(shared, item.location[0])))

    def place(item: pytest.Item) -> tuple[int, str]:
        marked = [i for i, name in enumerate(_ORDER) if item.get_closest_marker(name)]
        return min(marked, default=len(_ORDER)), item.location[0]

    items.sort(key=place)


@pytest.fixture(scope="session")
def coco_dir() -> Path:
    """The directory of real COCO photographs and captions; skips where there is none."""
    if not (REAL_DATA / "captions.json").exists():
        pytest.skip(f"no real photographs at {REAL_DATA}")
    return REAL_DATA


@pytest.fixture(scope="session")
def s3_address() -> Iterator[tuple[str, int]]:
    """Where each test's S3 server is; the environment says so, of Ray's workers, too."""
    with socket.socket() as reserved, pytest.MonkeyPatch.context() as patch:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do
        reserved.bind(("127.0.0.1", 0))
        host, port = reserved.getsockname()
        for name, value in (
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL", f"http://{host}:{port}"),
        ):
            patch.setenv(name, value)
        yield host, port


@pytest.fixture(scope="session")
def ray_local(s3_address: tuple[str, int]) -> Iterator[None]:
    """A real Ray on this machine, started once for all tests that need one."""
    from lib.cluster import connect

    with connect():
        yield


@pytest.fixture(scope="session")
def cluster(s3_address: tuple[str, int]) -> Iterator["RunningCluster"]:
    """A Ray of several nodes, started once for all tests that need them."""
    from tests.cluster_process import run_cluster

    with run_cluster() as running:
        yield running


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator["RunningService"]:
    """The service over a small database, started once for all tests that ask it."""
    from tests.serving_database import make_database
    from tests.serving_process import run_service

    directory = tmp_path_factory.mktemp("serving")
    with run_service(directory, make_database(directory)) as running:
        yield running


@pytest.fixture
def s3_bucket(s3_address: tuple[str, int]) -> Iterator[str]:
    """An empty bucket of a real S3 server on this machine; the environment says how to reach it."""
    from moto.server import ThreadedMotoServer
    from s3fs import S3FileSystem

    server = ThreadedMotoServer(*s3_address)
    server.start()
    # fsspec keeps file systems, and with them their connections, for good.
    S3FileSystem.clear_instance_cache()
    S3FileSystem().mkdir("photos")
    yield "s3://photos"
    S3FileSystem().rm("photos", recursive=True)  # the next server in this process shares it
    server.stop()
    S3FileSystem.clear_instance_cache()


@pytest.fixture
def s3_requests(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Requests to the store since the list was last cleared, and the bytes of each answer."""
    from s3fs import S3FileSystem

    asked: list[tuple[str, int]] = []
    call = S3FileSystem._call_s3

    async def counted(self: Any, method: str, *arguments: Any, **named: Any) -> Any:
        answer: dict[str, Any] = {}
        try:
            answer = await call(self, method, *arguments, **named)
            return answer
        finally:
            asked.append((method, int(answer.get("ContentLength", 0))))

    monkeypatch.setattr(S3FileSystem, "_call_s3", counted)
    return asked
