"""What `python -m jobs.query` does with odd arguments, without an embedder, and into a pipe."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lib import open_search
from lib.errors import BadInputError, QueryError
from lib.parquet import write_table_atomic
from lib.schemas import Provenance, descriptor_schema, vectors_to_column
from tests.run_job import ROOT, run_job

pytestmark = pytest.mark.reports
IDS = ["10", "9", "b/2.jpg"]
DESCRIPTORS = np.array([[4, 0, 0], [3, 3, 0], [0, 0, 5]], np.float32)


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database that holds three descriptors and nothing else."""
    db = str(tmp_path_factory.mktemp("described"))
    schema = descriptor_schema(Provenance("resnet18", "digest", "none", "float32", 3))
    values = {"image_id": IDS, "uri": IDS, "path": IDS, "width": [30, 20, 10]}
    columns = [
        vectors_to_column(DESCRIPTORS)
        if field.name == "descriptor"
        else pa.array(values.get(field.name, [None] * 3), field.type)
        for field in schema
    ]
    write_table_atomic(pa.Table.from_arrays(columns, schema=schema), f"{db}/descriptors/1.parquet")
    return db


def test_more_like_this_needs_no_embedder(db: str, tmp_path: Path) -> None:
    run_job("query", "--db", db, "--like", "9", "--k", 2, "--output", tmp_path / "r.json")
    (result,) = json.loads((tmp_path / "r.json").read_text())["results"]
    centred = DESCRIPTORS - DESCRIPTORS.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    assert [hit["image_id"] for hit in result["hits"]] == ["9", "10"]
    assert result["hits"][1]["score"] == pytest.approx(centred[0] @ centred[1], abs=1e-6)
    assert result["query"] == "like 9"
    search = open_search(db)
    assert search(like="10", k=3, min_width=20).ids == ["10", "9"]
    with pytest.raises(QueryError, match=r"no embedder, .* run jobs\.train_embedder"):
        search("dog")


def test_a_text_without_embedder_and_an_image_that_is_not_there(db: str) -> None:
    _, errors = run_job("query", "--db", db, "dog", status=1)
    assert "no embedder" in errors
    _, errors = run_job("query", "--db", db, "--like", "none", status=1)
    assert "no image 'none'" in errors


def test_a_file_that_is_no_help_is_named(db: str, tmp_path: Path) -> None:
    _, errors = run_job("query", "--db", db, "--image", tmp_path / "none.jpg", status=1)
    assert f"{tmp_path / 'none.jpg'}: " in errors
    (tmp_path / "c.csv").write_text("image,caption\nelsewhere.jpg,a dog\n")
    captions = ["--captions", tmp_path / "c.csv"]
    _, errors = run_job("query", "--db", db, "--like", "9", *captions, status=1)
    assert "the captions say 'elsewhere.jpg', the collection '10'" in errors
    with pytest.raises(BadInputError, match="none of the 1 captions"):
        open_search(db, str(tmp_path / "c.csv"))


@pytest.mark.parametrize("query", ["-dog", "-house", '-"hot', "-é"])
def test_a_query_that_begins_with_a_minus_says_how_to_write_it(db: str, query: str) -> None:
    _, errors = run_job("query", "--db", db, query, status=2)
    assert f'-- "{query}"' in errors
    _, errors = run_job("query", "--db", db, "--", query.replace('"', ""), status=1)
    assert "no embedder" in errors


@pytest.mark.parametrize(
    ("options", "message"),
    [((), "give a query"), (("--like", "9", "--image", "x.jpg"), "not both")],
)
def test_what_cannot_work_together(db: str, options: tuple[str, ...], message: str) -> None:
    _, errors = run_job("query", "--db", db, *options, status=2)
    assert message in errors


@pytest.mark.parametrize("lines", [2, 100_000])
def test_a_reader_that_has_enough_ends_a_job_in_silence(lines: int) -> None:
    code = (
        "from jobs import command\n"
        f"report = lambda options: [print('line') for _ in range({lines})] and {{}}\n"
        "command.run(command.parser('query', '', ''), report, [])"
    )
    job = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert job.stdout is not None
    assert job.stderr is not None
    job.stdout.close()
    assert job.stderr.read() == b""
    assert job.wait() == 141
    job.stderr.close()
