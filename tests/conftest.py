"""What tests share: real data where it is there, and one local Ray a session."""

import gc
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack
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
# Imports leave no garbage: looked through again and again, they take a sixth longer.
gc.disable()
# Slow parts first, so that two processes end together.
_ORDER = ("service", "browser", "cluster", "ray")
_RUNNING = pytest.StashKey[dict[str, ExitStack]]()
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

    With `-n 2` each process runs whole files; the service is one's alone, and so are the cluster
    and the Ray of this machine, which takes seconds to start.
    """
    for item in items:
        for fixture in getattr(item, "fixturenames", ()):
            if marker := _MARKER_OF_FIXTURE.get(fixture):
                item.add_marker(marker)
        shared = (name for name in ("service", "cluster", "ray") if item.get_closest_marker(name))
        item.add_marker(pytest.mark.xdist_group(next(shared, item.location[0])))

    def place(item: pytest.Item) -> tuple[int, str]:
        marked = [i for i, name in enumerate(_ORDER) if item.get_closest_marker(name)]
        return min(marked, default=len(_ORDER)), item.location[0]

    items.sort(key=place)


def pytest_collection_finish() -> None:
    """From here on there may be garbage."""
    gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Stop what a group of tests shared as soon as it is over: idle, it takes half a core."""
    for group, running in item.session.stash.get(_RUNNING, {}).items():
        if nextitem is None or nextitem.get_closest_marker(group) is None:
            running.close()


def _keep(session: pytest.Session, group: str) -> ExitStack:
    """What is open as long as tests of a group follow each other."""
    return session.stash.setdefault(_RUNNING, {}).setdefault(group, ExitStack())


@pytest.fixture(scope="session")
def coco_dir() -> Path:
    """The directory of real COCO photographs and captions; skips where there is none."""
    if not (REAL_DATA / "captions.json").exists():
        pytest.skip(f"no real photographs at {REAL_DATA}")
    return REAL_DATA


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """A real S3 server on this machine, which the environment names, to Ray's workers, too.

    It listens from the start: a port that is only reserved may be taken by one of Ray's processes.
    """
    from moto.s3.responses import S3Response
    from moto.server import ThreadedMotoServer

    # S3 lets one of two writers that may only create an object have it; moto looks first and
    # writes later, so that both may.
    one_at_a_time, put_object = threading.Lock(), S3Response.put_object

    def put_alone(response: S3Response) -> Any:
        with one_at_a_time:
            return put_object(response)

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(S3Response, "put_object", put_alone)
        for name, value in (
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL", f"http://{host}:{port}"),
        ):
            patch.setenv(name, value)
        yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def ray_local(s3_server: str) -> Iterator[None]:
    """A real Ray on this machine, started once for all tests that need one."""
    from lib.cluster import connect

    with connect():
        yield


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest, s3_server: str) -> "RunningCluster":
    """A Ray of several nodes, started once for all tests that need them."""
    from tests.cluster_process import run_cluster

    return _keep(request.session, "cluster").enter_context(run_cluster())


@pytest.fixture(scope="session")
def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> "RunningService":
    """The service over a small database, started once for all tests that ask it."""
    from tests.serving_database import make_database
    from tests.serving_process import run_service

    directory = tmp_path_factory.mktemp("serving")
    running = run_service(directory, make_database(directory))
    return _keep(request.session, "service").enter_context(running)


@pytest.fixture
def s3_bucket(s3_server: str) -> Iterator[str]:
    """An empty bucket of the S3 server, which forgets all at the end."""
    import httpx
    from s3fs import S3FileSystem

    S3FileSystem().mkdir("photos")
    yield "s3://photos"
    assert httpx.post(f"{s3_server}/moto-api/reset").status_code == 200
    # fsspec keeps file systems, and with them what they know of buckets, for good; new ones would
    # each read half a second of descriptions of S3.
    for kept in S3FileSystem._cache.values():
        kept.invalidate_cache()


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
