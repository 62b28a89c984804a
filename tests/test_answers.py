"""Offline answers: files of queries in, results out."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib.answers import answer, format_answer, read_queries, write_answers
from lib.database import Database
from lib.embedder import Embedder
from lib.errors import BadArgumentError, BadInputError
from lib.semantic_space import SemanticSpace
from lib.text import TextEncoder, fit_idf
from lib.word_vectors import load_word_vectors

NAMES = ["orange", "juice", "truck", "dog"]


@pytest.fixture(scope="module")
def space() -> SemanticSpace:
    encoder = TextEncoder(load_word_vectors(), fit_idf(["orange juice", "a truck", "a dog"]))
    return SemanticSpace(encoder, Embedder(4, 50), "digest", {})


@pytest.fixture(scope="module")
def database(space: SemanticSpace) -> Database:
    """Images that lie exactly where their names do."""
    sizes = np.full(len(NAMES), 10, np.int32)
    return Database(
        version=1,
        embedder_digest="digest",
        image_ids=NAMES,
        uris=[f"{name}.jpg" for name in NAMES],
        paths=[f"{name}.jpg" for name in NAMES],
        etags=[""] * len(NAMES),
        widths=sizes,
        heights=sizes,
        embeddings=space.text.embed(NAMES),
    )


def test_the_best_comes_first_with_its_cosine(space: SemanticSpace, database: Database) -> None:
    (found,) = answer(["orange juice"], space, database, 4)
    assert {hit.image_id for hit in found.hits[:2]} == {"orange", "juice"}
    assert [hit.rank for hit in found.hits] == [1, 2, 3, 4]
    query = space.se_text("orange juice")
    for hit in found.hits:
        expected = database.embeddings[NAMES.index(hit.image_id)] @ query
        assert hit.score == pytest.approx(expected, abs=1e-6)


def test_an_unusable_query_costs_the_others_nothing(
    space: SemanticSpace, database: Database
) -> None:
    bad, good = answer(["qqqzzz", "dog qqqzzz"], space, database, 1)
    assert "qqqzzz" in bad.error
    assert bad.hits == []
    assert good.hits[0].image_id == "dog"
    assert good.unknown_words == ["qqqzzz"]
    assert "unknown words, left out: qqqzzz" in format_answer(good)


def test_k_is_at_least_one_and_may_exceed_the_collection(
    space: SemanticSpace, database: Database
) -> None:
    assert len(answer(["dog"], space, database, 99)[0].hits) == 4
    with pytest.raises(BadArgumentError, match="k must be at least 1"):
        answer(["dog"], space, database, 0)


def test_queries_come_from_text_csv_and_parquet(tmp_path: Path) -> None:
    queries = ["orange juice", "two dogs, running"]
    (tmp_path / "q.txt").write_text("orange juice\n\n  two dogs, running \n")
    pd.DataFrame({"n": [1, 2], "query": queries}).to_csv(tmp_path / "q.csv", index=False)
    pd.DataFrame({"text": queries}).to_parquet(tmp_path / "q.parquet")
    for name in ("q.txt", "q.csv", "q.parquet"):
        assert read_queries(str(tmp_path / name)) == queries


def test_a_file_without_queries_is_refused(tmp_path: Path) -> None:
    (tmp_path / "q.txt").write_text("\n \n")
    with pytest.raises(BadInputError, match="holds no queries"):
        read_queries(str(tmp_path / "q.txt"))
    (tmp_path / "q.csv").write_text("a,b\n1,2\n")
    with pytest.raises(BadInputError, match="column named query"):
        read_queries(str(tmp_path / "q.csv"))


def test_results_are_written_as_the_ending_says(
    space: SemanticSpace, database: Database, tmp_path: Path
) -> None:
    answers = answer(["orange juice", "dog"], space, database, 2)
    for ending in ("parquet", "json", "html", "png"):
        write_answers(str(tmp_path / f"r.{ending}"), answers)
    table = pd.read_parquet(tmp_path / "r.parquet")
    assert table["query"].tolist() == ["orange juice"] * 2 + ["dog"] * 2
    assert table["rank"].tolist() == [1, 2, 1, 2]
    results = json.loads((tmp_path / "r.json").read_text())["results"]
    assert results[1]["hits"][0]["image_id"] == "dog"
    assert "orange juice" in (tmp_path / "r.html").read_text()
    with pytest.raises(BadArgumentError, match=r"r\.pdf"):
        write_answers(str(tmp_path / "r.pdf"), answers)
