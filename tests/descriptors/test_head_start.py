"""Images described by a process of its own before the run is ready for them."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from lib.backbones.backbone import Backbone, load_backbone
from lib.backbones.kept import AnyBackbone, converted
from lib.datasets.captions import Captions
from lib.descriptors.extraction import extract
from lib.descriptors.head_start import Begun, HeadStart, head_start
from lib.descriptors.shards import ExtractionSettings, FailureLimit
from lib.errors import ImageSearchError
from tests.descriptors.test_extraction import make_images, rows

SETTINGS = ExtractionSettings()
COUNT = 40


@pytest.fixture(scope="session")
def backbone() -> Backbone:
    backbone = load_backbone("resnet18", "random")
    if converted(backbone) is None:
        pytest.skip("OpenVINO has no wheel for this platform")
    return backbone


@pytest.fixture
def begin(backbone: Backbone, tmp_path: Path) -> Callable[[], HeadStart]:
    loaded: Future[AnyBackbone] = Future()
    loaded.set_result(backbone)
    images = str(tmp_path / "images")
    return lambda: HeadStart(images, str(tmp_path / "db"), loaded, SETTINGS)


def first_file(db: Path) -> None:
    """Wait until the process has written a file of descriptors."""
    end = time.monotonic() + 60
    while not list(db.glob("descriptors/*.parquet")):
        assert time.monotonic() < end, "the process described nothing"
        time.sleep(0.05)


@pytest.mark.ray
def test_a_run_goes_on_from_its_head_start_and_counts_it(
    ray_local: None, begin: Callable[[], HeadStart], backbone: Backbone, tmp_path: Path
) -> None:
    images, db = make_images(tmp_path / "images", COUNT), tmp_path / "db"
    (images / "00001.jpg").write_bytes(b"no image")
    started = begin()
    first_file(db)
    run = extract(str(images), str(db), backbone, SETTINGS, head_start=started)
    assert (run.listed, run.described, run.failed) == (COUNT, COUNT - 1, 1)
    assert run.already_described == run.already_failed == run.changed == 0
    assert run.seconds > 0
    assert len(rows(db)) == COUNT - 1
    again = extract(str(images), str(db), backbone, SETTINGS)
    assert (again.described, again.already_described) == (0, COUNT - 1)
    assert again.already_failed == 1


@pytest.mark.ray
def test_failures_of_a_head_start_count_towards_the_limit(
    ray_local: None, begin: Callable[[], HeadStart], backbone: Backbone, tmp_path: Path
) -> None:
    images, db = make_images(tmp_path / "images", COUNT), tmp_path / "db"
    for file in sorted(images.glob("*.jpg"))[:4]:
        file.write_bytes(b"no image")
    started = begin()
    first_file(db)
    limit = FailureLimit(count=2)
    with pytest.raises(ImageSearchError, match="more than --max-failures allows"):
        extract(str(images), str(db), backbone, SETTINGS, limit=limit, head_start=started)


@pytest.mark.long
@pytest.mark.ray
def test_what_a_killed_one_wrote_is_there_for_the_run(
    ray_local: None, begin: Callable[[], HeadStart], backbone: Backbone, tmp_path: Path
) -> None:
    images, db = make_images(tmp_path / "images", COUNT), tmp_path / "db"
    started = begin()
    first_file(db)
    started.close()
    run = extract(str(images), str(db), backbone, SETTINGS, head_start=started)
    assert run.already_described > 0
    assert run.already_described + run.described == len(rows(db)) == COUNT


@pytest.mark.parametrize("there", ["descriptors", "no images"])
def test_it_leaves_alone_what_takes_a_comparison_or_an_error(
    begin: Callable[[], HeadStart], there: str, tmp_path: Path
) -> None:
    db = tmp_path / "db" / "descriptors"
    if there == "descriptors":
        make_images(tmp_path / "images", 3)
        db.mkdir(parents=True)
        (db / "000000000000-0123456789abcdef.parquet").write_bytes(b"of an earlier run")
    else:
        (tmp_path / "images").mkdir()
    before = sorted(tmp_path.rglob("*"))
    assert begin().end() == Begun()
    assert sorted(tmp_path.rglob("*")) == before


def test_it_ends_well_when_all_is_done_before_the_run_is_ready(
    begin: Callable[[], HeadStart], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make_images(tmp_path / "images", 3)
    started = begin()
    first_file(tmp_path / "db")
    begun = started.end()
    assert [report.described for report in begun.reports] == [3]
    assert started._process.returncode == 0
    assert capfd.readouterr().err == ""


def test_one_that_dies_is_as_if_there_were_none(
    begin: Callable[[], HeadStart], tmp_path: Path
) -> None:
    make_images(tmp_path / "images", 3)
    started = begin()
    started.close()
    assert started.end() == Begun()


def test_there_is_none_where_it_would_be_of_no_use(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    loading: Future[AnyBackbone] = Future()
    there, db = str(tmp_path / "images"), str(tmp_path / "db")
    (tmp_path / "images").mkdir()
    named = [Captions([], [], {})]

    def started(here: bool, *arguments: Any) -> bool:
        monkeypatch.setattr("lib.descriptors.head_start.starts_here", lambda: here)
        images, db, settings, captions = arguments
        with head_start(images, db, loading, settings, captions) as head:
            return head is not None

    monkeypatch.setattr("lib.descriptors.head_start._has_gpu", lambda: True)
    assert not started(True, there, db, SETTINGS, [])
    assert started(True, there, db, ExtractionSettings(gpus_per_worker=0.0), [])
    monkeypatch.setattr("lib.descriptors.head_start._has_gpu", lambda: False)
    assert started(True, there, db, SETTINGS, [])
    assert not started(False, there, db, SETTINGS, [])
    assert not started(True, f"{there}/list.csv", db, SETTINGS, [])
    assert not started(True, there, "s3://bucket/db", SETTINGS, [])
    assert not started(True, there, db, ExtractionSettings(shard_size=7), [])
    assert not started(True, there, db, SETTINGS, named)
