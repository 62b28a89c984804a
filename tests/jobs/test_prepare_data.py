"""The one command that gets data: what it fetches, reports, and says when it cannot."""

import subprocess
import sys
from pathlib import Path

import pytest

from jobs.prepare_data import build_parser, prepare_data
from lib.datasets.captions import load_captions
from tests.datasets.test_coco import official_files, zipped
from tests.http_server import FileServer


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobs.prepare_data", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_coco_and_glove_from_a_mirror(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    glove = zipped({"glove.6B.50d.txt": f"the {'0.5 ' * 50}\n".replace(" \n", "\n").encode()})
    with FileServer(official_files() | {"data/glove.6B.zip": glove}) as server:
        arguments = ["--coco", "val2017", "--limit", "3", "--glove", "50"]
        arguments += ["--base-url", server.url, "--output", str(tmp_path / "data")]
        summary = prepare_data(build_parser().parse_args(arguments))
        asked = server.requests.total()
        prepare_data(build_parser().parse_args(arguments))
        assert server.requests.total() == asked
    assert (summary["coco"]["image_count"], summary["glove"]["words"]) == (3, 1)
    assert len(load_captions(summary["coco"]["captions"]).images) == 3
    assert "--captions" in capsys.readouterr().out


def test_without_internet_it_says_what_to_do(tmp_path: Path) -> None:
    missing = tmp_path / "no mirror"
    done = run("--coco", "val2017", "--base-url", str(missing), "--output", str(tmp_path / "data"))
    assert done.returncode == 1
    for words in ("annotations_trainval2017.zip", "by hand", "draws a captioned sample"):
        assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--limit", "3"],
        ["--coco", "val2018"],
        ["--coco", "val2017", "--limit", "0"],
        ["--coco", "val2017", "--limit", "-1"],
        ["--glove", "60"],
        ["--folder", "x"],
        ["--base-url", "x"],
        ["--count", "0"],
        ["--seed", "-1"],
    ],
    ids=" ".join,
)
def test_bad_arguments_are_refused(tmp_path: Path, arguments: list[str]) -> None:
    done = run(*arguments, "--output", str(tmp_path / "data"))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_the_default_draws_a_sample_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("lib.datasets.sample")
    options = build_parser().parse_args(["--count", "12", "--output", str(tmp_path)])
    summary = prepare_data(options)
    images = sorted((tmp_path / "images").iterdir())
    assert len(images) == summary["sample"]["image_count"] == 12
    assert len(load_captions(str(tmp_path / "captions_train.json"))) > 0
    times = [image.stat().st_mtime_ns for image in images]
    assert prepare_data(options) == summary
    assert [image.stat().st_mtime_ns for image in images] == times
    assert "is there already" in capsys.readouterr().out
    images[3].unlink()
    prepare_data(options)
    assert images[3].exists()
