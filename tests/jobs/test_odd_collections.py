"""A folder as people have it, through the whole job: every kind is a row or a count."""

import json
import os
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs import extract_descriptors as job
from jobs import pipeline
from lib.descriptors.store import index_descriptors
from lib.errors import MissingError
from tests.images.odd_images import encoded, scene

pytestmark = [pytest.mark.reports, pytest.mark.ray, pytest.mark.usefixtures("ray_local")]


def test_a_folder_with_everything_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "Trip [2019]"
    (folder / ".thumbnails").mkdir(parents=True)
    picture = encoded(scene())
    for name in ("1.jpg", "._1.jpg", ".thumbnails/1.jpg", "2.mov", "3.CR2"):
        (folder / name).write_bytes(picture)
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.jpg")).write_bytes(picture)
    (folder / "nowhere.jpg").symlink_to("gone.jpg")
    os.mkfifo(folder / "pipe.jpg")
    with (folder / "sparse.tif").open("wb") as file:
        file.truncate(500_000_000)
    with tarfile.open(folder / "00000.tar", "w") as archive:
        archive.add(folder / "1.jpg", "000.jpg")
    (folder / "cut.zip").write_bytes(b"PK")
    arguments = ["--images", str(folder), "--db", str(tmp_path / "db"), "--backbone", "resnet18"]
    arguments += ["--weights", "random", "--max-failures", "100%"]
    summary = job.extract_descriptors(job.build_parser().parse_args(arguments))
    assert summary["described"] == 3
    assert summary["reasons"] == {"missing": 1, "too_large": 1}
    assert summary["skipped"] == {
        "hidden": 2,
        ".mov": 1,
        ".cr2": 1,
        "pipes, sockets and devices": 1,
        f"unreadable {folder}/cut.zip: File is not a zip file": 1,
    }
    json.dumps(summary)
    printed = capsys.readouterr().out
    assert "2 hidden (--include-hidden takes them)" in printed
    assert f", unreadable {folder}/cut.zip: File is not a zip file\n" in printed
    table = pq.read_table(tmp_path / "db" / "descriptors", columns=["path", "uri"])
    assert set(table["path"].to_pylist()) == {"1.jpg", "00000.tar/000.jpg", "caf\\xe9.jpg"}
    # Again: nothing to do; dropping what is gone is refused while a part cannot be read.
    again = job.extract_descriptors(job.build_parser().parse_args(arguments))
    assert (again["described"], again["already_described"], again["already_failed"]) == (0, 3, 2)
    assert "failed before: 2; see DB/failures; " in capsys.readouterr().out
    with pytest.raises(Exception, match="run without --prune"):
        job.extract_descriptors(job.build_parser().parse_args([*arguments, "--prune"]))


def test_a_folder_in_which_nothing_is_whole(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("1.jpg", "2.jpg"):
        (tmp_path / "photos" / name).touch()
    arguments = ["--images", str(tmp_path / "photos"), "--db", str(tmp_path / "db")]
    arguments += ["--backbone", "resnet18", "--weights", "random"]
    assert job.extract_descriptors(job.build_parser().parse_args(arguments))["failed"] == 2
    with pytest.raises(MissingError, match=r"all 2 images failed, see .*db/failures"):
        index_descriptors(str(tmp_path / "db"))


def test_an_option_given_twice_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for module in (job, pipeline):
        with pytest.raises(SystemExit, match="2"):
            module.build_parser().parse_args(["--images", "a", "--images", "b"])
        assert "--images is given twice" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--images", "--db"])
def test_an_empty_option_is_not_the_working_directory(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in (job, pipeline):
        with pytest.raises(SystemExit, match="2"):
            module.build_parser().parse_args([option, ""])
        assert f"{option} is empty" in capsys.readouterr().err


def test_what_is_left_out_of_captions_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"{number}.jpg,a dog" for number in range(20)]
    (tmp_path / "captions.csv").write_text("\n".join(["image,caption", *lines, *lines]))
    arguments = ["--images", str(tmp_path), "--db", str(tmp_path / "db")]
    arguments += ["--captions", str(tmp_path / "captions.csv")]
    assert pipeline.load_parts(pipeline.build_parser().parse_args(arguments)).read
    assert capsys.readouterr().err.count("every caption twice") == 1
