"""Offline answers: files of queries in, results out."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from lib.database.interface import Filter, UnknownImageError
from lib.database.local import LocalCollection
from lib.embedder.model import Embedder
from lib.embedder.space import SemanticSpace
from lib.errors import BadArgumentError
from lib.search.engine import Request, Searcher
from lib.search.results import Answer, Hit, answer, format_answer, show_images, write_answers
from lib.text.encoder import TextEncoder, fit_idf
from lib.text.word_vectors import load_word_vectors

NAMES = ["dog", "juice", "orange", "truck"]


@pytest.fixture(scope="module")
def space() -> SemanticSpace:
    encoder = TextEncoder(load_word_vectors(), fit_idf(["orange juice", "a truck", "a dog"]))
    return SemanticSpace(encoder, Embedder(np.eye(4, 50), np.zeros(50)), "digest", {})


@pytest.fixture(scope="module")
def searcher(space: SemanticSpace) -> Searcher:
    """Images that lie exactly where their names do, of different widths."""
    files = [f"{name}.jpg" for name in NAMES]
    images = pa.table(
        {
            "image_id": pa.array(NAMES, pa.large_string()),
            "uri": files,
            "path": files,
            "etag": [""] * len(NAMES),
            "width": [40, 20, 10, 30],
            "height": [20] * len(NAMES),
            "digest": [""] * len(NAMES),
        }
    )
    database = LocalCollection(1, "digest", images, space.text.embed(NAMES))
    return Searcher(database, space, {})


def test_the_best_comes_first_with_its_cosine(searcher: Searcher) -> None:
    (best,) = answer([Request("orange juice", 4)], searcher)
    assert {hit.image_id for hit in best.hits[:2]} == {"orange", "juice"}
    assert [hit.rank for hit in best.hits] == [1, 2, 3, 4]
    query = searcher.space.se_text("orange juice")
    for hit in best.hits:
        expected = searcher.collection.look_up(hit.image_id)[1] @ query
        assert hit.score == pytest.approx(expected, abs=1e-6)


def test_images_are_shown_by_their_ids(searcher: Searcher) -> None:
    assert isinstance(searcher.collection, LocalCollection)
    one = show_images(searcher.collection, ["dog", "no such"])
    three = show_images(searcher.collection, ["dog", "truck", "juice"], {"dog": ["A dog."]})
    assert three.width > 2 * one.width
    with pytest.raises(UnknownImageError, match="the id a, b; ids look like 'dog'"):
        show_images(searcher.collection, ["a", "b"])


def test_an_unusable_query_costs_the_others_nothing(searcher: Searcher) -> None:
    bad, good = answer([Request("qqqzzz", 1), Request("dog qqqzzz", 1)], searcher)
    assert "qqqzzz" in bad.error
    assert bad.hits == []
    assert good.hits[0].image_id == "dog"
    assert good.unknown_words == ["qqqzzz"]
    assert "unknown words, left out: qqqzzz" in format_answer(good)


def test_what_a_person_should_know_is_noted(searcher: Searcher) -> None:
    requests = [Request("bycicle"), Request("zebra giraffe dog"), Request("doog -orange")]
    misspelt, unseen, half = answer(requests, searcher)
    assert misspelt.suggestion == "bicycle"
    assert misspelt.notes[1:] == ["did you mean: bicycle"]
    assert unseen.notes == ["these words were never seen in captions: zebra, giraffe"]
    assert "did you mean: dog -orange" in half.notes
    (blank,) = answer([Request("")], searcher)
    assert (blank.query, "no word in it" in blank.error) == ("", True)
    (none,) = answer([Request("dog", filter=Filter(min_height=21))], searcher)
    assert none.notes == ["no image meets the conditions"]


def test_k_is_at_least_one_and_may_exceed_the_collection(searcher: Searcher) -> None:
    assert len(answer([Request("dog", 99)], searcher)[0].hits) == 4
    with pytest.raises(BadArgumentError, match="k must be at least 1"):
        answer([Request("dog", 0)], searcher)


def test_only_what_a_filter_lets_through_is_found(searcher: Searcher) -> None:
    def ids_of(image_filter: Filter) -> set[str]:
        (best,) = answer([Request("dog", 9, filter=image_filter)], searcher)
        return {hit.image_id for hit in best.hits}

    assert ids_of(Filter(min_width=20, min_height=20)) == {"juice", "truck", "dog"}
    assert ids_of(Filter(orientation="portrait")) == {"orange"}
    assert ids_of(Filter(orientation="square")) == {"juice"}
    assert ids_of(Filter(path_prefix="tr", orientation="landscape")) == {"truck"}
    assert ids_of(Filter(image_ids=("dog", "none"), min_height=20)) == {"dog"}
    assert ids_of(Filter(min_height=21)) == set()


def test_results_are_written_as_the_ending_says(searcher: Searcher, tmp_path: Path) -> None:
    answers = answer([Request("orange juice", 2), Request("dog", 2)], searcher)
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


@pytest.mark.reports
def test_a_name_steers_no_terminal() -> None:
    names = ["a\nb", "\x1b[2Jc", "\x9bd", "gpj.\u202ee", "é \U0001f469\u200d\U0001f680"]
    hits = [Hit(rank, name, 0.5, f"/x/{name}") for rank, name in enumerate(names, 1)]
    _, *lines = format_answer(Answer("dog", [], hits)).split("\n")
    shown = [r"a\nb", r"\x1b[2Jc", r"\x9bd", r"gpj.\u202ee", names[-1]]
    for line, name in zip(lines, shown, strict=True):
        assert f"  {name}  " in line
        assert line.endswith(f"0.500  /x/{name}")


def test_one_long_name_does_not_widen_the_lines_of_others() -> None:
    hits = [Hit(1, "a.jpg", 0.5, "/x/a.jpg"), Hit(2, "b" * 250, 0.5, "/x/b")]
    _, line, long = format_answer(Answer("dog", [], hits)).split("\n")
    assert len(line) < 100
    assert "b" * 250 in long
