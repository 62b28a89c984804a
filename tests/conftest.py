"""What tests share: real data where it is there, and one local Ray a session."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving_process import RunningService, run_service

REAL_DATA = Path(__file__).parents[2] / "shared" / "data" / "coco"


@pytest.fixture(scope="session")
def coco_dir() -> Path:
    """The directory of real COCO photographs and captions; skips where there is none."""
    if not (REAL_DATA / "captions.json").exists():
        pytest.skip(f"no real photographs at {REAL_DATA}")
    return REAL_DATA


@pytest.fixture(scope="session")
def ray_local() -> Iterator[None]:
    """A real Ray on this machine, started once for all tests that need one."""
    from lib.cluster import connect

    with connect():
        yield


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """The service over a small database, started once for all tests that ask it."""
    from tests.serving_database import make_database

    directory = tmp_path_factory.mktemp("serving")
    with run_service(directory, make_database(directory)) as running:
        yield running
