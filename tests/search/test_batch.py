import argparse
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.query import build_parser, query
from lib.database.opening import open_database
from lib.errors import BadArgumentError, ImageSearchError
from lib.search.batch import ANSWERS, run_batch_queries
from lib.search.engine import Request, Searcher
from lib.search.results import answer
from tests.serving_database import make_database

TEXTS = ["orange ball", 'say "cheese', "red box -green", "qxzvw", "ball qxzvw"]


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_database(tmp_path_factory.mktemp("batch"), images=13)


@pytest.fixture
def queries(tmp_path: Path) -> Path:
    path = tmp_path / "queries.txt"
    path.write_text("\n".join(f"{TEXTS[n % 5]}" for n in range(53)) + "\n\n")
    return path


@pytest.mark.usefixtures("ray_local")
@pytest.mark.parametrize("private", ["db", "answers"])
def test_what_other_nodes_do_not_see_is_refused_before_work(
    private: str, db: Path, queries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers that a node kept on its own disk were lost, and counted as given."""
    (tmp_path / "db").symlink_to(db)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_ADDRESS", "the cluster that runs")
    names = ("db", queries.name, "answers")
    # A place that each process has for itself: it begins where the process works.
    db_there, file, output = ("/proc/self/cwd/" * (name == private) + name for name in names)
    with pytest.raises(ImageSearchError, match=f"/proc/self/cwd/{private}.* is here, but not on"):
        run_batch_queries(db_there, file, output, k=2)
    assert not [*tmp_path.glob("answers/*.parquet")]


@pytest.mark.usefixtures("ray_local")
@pytest.mark.parametrize("database_shards", [None, pytest.param(2, marks=pytest.mark.long)])
def test_every_query_gets_the_answer_it_gets_alone(
    db: Path,
    queries: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    database_shards: int | None,
) -> None:
    monkeypatch.chdir(tmp_path)  # workers have another working directory
    output = "answers"
    report = run_batch_queries(
        os.path.relpath(db), queries.name, output, 4, None, None, 10, database_shards
    )
    assert (report.queries, report.failed, report.shards, report.shards_answered) == (53, 21, 6, 6)
    table = pq.read_table(output, partitioning=None)
    assert table.schema.equals(ANSWERS)
    assert table["uris"].type.value_type == pa.large_string()  # a shard's may exceed 2 GB
    rows = table.to_pylist()
    assert [row["number"] for row in rows] == list(range(53))
    alone = answer([Request(text, 4) for text in TEXTS], Searcher.load(str(db)))
    for row in rows:
        expected = alone[row["number"] % 5]
        assert row["query"] == expected.query
        assert row["image_ids"] == [hit.image_id for hit in expected.hits]
        assert row["uris"] == [hit.uri for hit in expected.hits]
        np.testing.assert_allclose(row["scores"], [h.score for h in expected.hits], atol=1e-6)
        assert row["unknown_words"] == expected.unknown_words
        assert row["error"] == expected.error


@pytest.mark.usefixtures("ray_local")
def test_a_rerun_answers_only_what_is_missing(db: Path, queries: Path, tmp_path: Path) -> None:
    output = tmp_path / "answers"
    first = run_batch_queries(str(db), str(queries), str(output), k=2, shard_queries=20)
    parts = sorted(output.glob("part-*.parquet"))
    kept = {part: part.read_bytes() for part in parts}
    parts[1].unlink()
    again = run_batch_queries(str(db), str(queries), str(output), k=2, shard_queries=20)
    assert (again.shards_answered, again.queries_answered) == (1, 20)
    assert (again.queries, again.failed) == (53, first.failed)
    assert {part: part.read_bytes() for part in parts} == kept


@pytest.mark.usefixtures("ray_local")
def test_answers_of_another_run_are_not_mixed_in(db: Path, queries: Path, tmp_path: Path) -> None:
    output = str(tmp_path / "answers")
    run_batch_queries(str(db), str(queries), output, k=2)
    with pytest.raises(BadArgumentError, match="other k"):
        run_batch_queries(str(db), str(queries), output, k=3)
    with pytest.raises(BadArgumentError, match="at least 1"):
        run_batch_queries(str(db), str(queries), output, k=0)


def options(db: Path, *arguments: str) -> argparse.Namespace:
    return build_parser().parse_args(["--db", str(db), *arguments])


def answer_once(db: Path, queries: Path, directory: Path) -> set[str]:
    """Ids of all images that `--distinct` answers with."""
    file = str(directory / "once.parquet")
    query(options(db, "--k", "99", "--distinct", "--output", file, "ball"))
    return {*pq.read_table(file)["image_id"].to_pylist()}


@pytest.mark.usefixtures("ray_local")
def test_the_job_writes_a_directory_of_filtered_answers(
    db: Path, queries: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = f"{tmp_path}/answers.v2/"
    queries.write_bytes(queries.read_bytes() + b"caf\xe9\n")
    arguments = options(
        db, "--queries", str(queries), "--output", output, "--orientation", "portrait"
    )
    summary = query(arguments)
    assert (summary["queries"], summary["failed"]) == (53, 21)
    said = capsys.readouterr()
    assert "53 queries answered" in said.out
    assert f"note: {queries}, line 55 is no UTF-8" in said.err
    images = open_database(str(db)).images.to_pylist()
    portraits = {image["image_id"] for image in images if image["height"] > image["width"]}
    answered = pq.read_table(output, partitioning=None)["image_ids"].to_pylist()
    assert {len(ids) for ids in answered} == {0, len(portraits)}
    assert set().union(*answered) == portraits
    assert answer_once(db, queries, tmp_path) == {
        image["image_id"] for image in images if image["image_id"] != "23.jpg"
    }
    arguments.orientation = None
    with pytest.raises(BadArgumentError, match="other filter"):
        query(arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dog", "--output", "answers/"], "from --queries FILE alone"),
        (["dog", "--output", "answers.pdf"], "ends in none of"),
        ([], "give a query"),
    ],
)
def test_arguments_that_cannot_work(db: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(BadArgumentError, match=message):
        query(options(db, *arguments))
