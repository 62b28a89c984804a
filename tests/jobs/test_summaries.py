"""The summary of each job where something failed: written as JSON, reasons by name."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs import command
from tests.descriptors.test_extraction import jpeg
from tests.run_job import run_job

pytestmark = [pytest.mark.ray, pytest.mark.reports, pytest.mark.usefixtures("ray_local")]
RANDOM = ("--backbone", "resnet18", "--weights", "random")


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 pictures, two files that are none, and captions of which some meet nothing."""
    folder = tmp_path_factory.mktemp("collection")
    (folder / "photos").mkdir()
    for number in range(24):
        (folder / "photos" / f"{number:02}.jpg").write_bytes(jpeg(number))
    (folder / "photos" / "empty.jpg").write_bytes(b"")
    (folder / "photos" / "page.jpg").write_bytes(b"<html>")
    lines = [f"{n:02}.jpg,a {word} dog" for n in range(24) for word in ("brown", "happy")]
    lines += ["99.jpg,a cat of another collection", "03.jpg,qqqzzz"]
    (folder / "captions.csv").write_text("\n".join(["image,caption", *lines]) + "\n")
    return folder


def summary(collection: Path, name: str, *arguments: object, status: int = 0) -> Any:
    """Run a job with --json into a folder that is not there yet; its summary and its errors."""
    target = collection / "summaries" / f"{name}.json"
    target.unlink(missing_ok=True)
    _, errors = run_job(name, *arguments, "--json", target, status=status, cwd=collection)
    assert "Traceback" not in errors
    return json.loads(target.read_text())


def test_each_job_reports_what_failed(collection: Path) -> None:
    extract = ("extract_descriptors", "--images", "photos", *RANDOM)
    done = summary(collection, *extract, "--db", "db")
    assert done["reasons"] == {"empty": 1, "not_an_image": 1}
    assert (done["described"], done["failed"]) == (24, 2)
    stopped = summary(collection, *extract, "--db", "stopped", "--max-failures", "1", status=1)
    assert stopped["reasons"] == {"empty": 1, "not_an_image": 1}
    assert "--max-failures" in stopped["error"]
    trained = summary(
        collection, "train_embedder", "--db", "db", "--captions", "captions.csv", "--epochs", "1"
    )
    assert trained["captions"]["captions_of_absent_images"] == 1
    assert trained["captions"]["captions_without_known_word"] == 1
    assert summary(collection, "embed_database", "--db", "db")["images"] == 24
    evaluated = summary(collection, "evaluate", "--db", "db", "--captions", "captions.csv")
    assert evaluated["captions_of_absent_images"] == 1
    answered = summary(collection, "query", "--db", "db", "dog", "qqqzzz", "--output", "a.json")
    assert [failure["query"] for failure in answered["failed"]] == ["qqqzzz"]
    assert "qqqzzz" in summary(collection, "query", "--db", "db", "qqqzzz", status=1)["error"]
    shown = summary(collection, "show", "--db", "db", "03.jpg", "no.jpg", "--output", "page.html")
    assert shown["absent"] == ["no.jpg"]
    drawn = ("make_triples", "--db", "db", "--captions", "captions.csv", "--output", "t.parquet")
    triples = summary(collection, *drawn)
    assert triples["captions_of_absent_images"] == triples["captions_without_known_word"] == 1
    (collection / "ids.txt").write_text("03.jpg \r\n04.jpg\r\n\r\n", encoding="utf-16")
    assert summary(collection, "remove_images", "--db", "db", "--ids", "ids.txt")["removed"] == 2
    (collection / "ids.txt").write_bytes(b"caf\xe9.jpg")
    refused = ("remove_images", "--db", "db", "--ids", "ids.txt")
    assert "not text in UTF-8" in summary(collection, *refused, status=1)["error"]
    for hours in ("nan", "-1"):
        run_job("compact_database", "--db", "db", "--grace-hours", hours, status=2, cwd=collection)
    assert summary(collection, "embed_database", "--db", "db")["version"] == 2
    missing = summary(collection, "embed_database", "--db", "nowhere", status=1)
    assert "nowhere" in missing["error"]


def test_an_import_reports_what_failed(collection: Path) -> None:
    arrays = {"a": np.ones(4), "b": np.ones(3), "c": np.array([1, 2, np.nan, 4.0])}
    (collection / "some.pkl").write_bytes(pickle.dumps(arrays))
    done = summary(collection, "import_descriptors", "some.pkl", "--db", "some")
    assert (done["imported"], done["failed"]) == (1, 2)


def test_a_doctor_that_finds_faults_says_which_in_its_summary(collection: Path) -> None:
    report = summary(
        collection, "doctor", "--backbone", "resnet18", "--weights", "no.pth", status=1
    )
    levels = {finding["check"]: finding["level"] for finding in report["findings"]}
    assert levels["backbone"] == "error"
    assert "1 of" in report["error"]


def test_whatever_a_summary_holds_is_json() -> None:
    held = {
        1: {"a": np.float32(0.5), "b": [np.arange(2), float("nan")]},
        ("x",): (Path("p"), None, True, {"z"}),
    }
    assert command.as_json(held) == {
        "1": {"a": 0.5, "b": [[0, 1], None]},
        "('x',)": ["p", None, True, ["z"]],
    }
