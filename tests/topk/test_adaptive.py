import multiprocessing
import resource
import sys
from pathlib import Path

import numpy as np
import pytest

from lib.topk import adaptive as fastest_search
from lib.topk.adaptive import AdaptiveSearch
from lib.topk.exact import top_k


@pytest.mark.parametrize("may_copy", [True, False])
def test_every_scan_it_chooses_answers_the_same(
    may_copy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fastest_search, "has_fast_copies", lambda: may_copy)
    random = np.random.default_rng(0)
    embeddings = random.standard_normal((3_000, 50), dtype=np.float32)
    search = AdaptiveSearch(embeddings)
    allowed = random.random(3_000) < 0.5
    for _ in range(3):
        for batch in (1, 9):
            queries = random.standard_normal((batch, 50), dtype=np.float32)
            for filtered in (None, allowed):
                expected = top_k(queries, embeddings, 5, filtered)
                answer = search.top_k(queries, 5, filtered)
                np.testing.assert_array_equal(answer[0], expected[0])
                np.testing.assert_array_equal(answer[1], expected[1])
    assert set(search._copies) == ({"int8", "bfloat16"} if may_copy else set())


def test_one_search_makes_no_copy_unless_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastest_search, "has_fast_copies", lambda: True)
    embeddings = np.eye(5, dtype=np.float32)
    search = AdaptiveSearch(embeddings)
    search.top_k(embeddings[:1], 1)
    assert not search._copies
    many = np.ones((fastest_search.WORTH_A_COPY + 1, 5), np.float32)
    assert (search.top_k(many, 1)[0] == 0).all()
    assert set(search._copies) == {"bfloat16"}
    search.prepare()
    assert set(search._copies) == {"int8", "bfloat16"}


def test_no_copies_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastest_search, "has_fast_copies", lambda: True)
    monkeypatch.setattr(fastest_search, "MEMORY_SHARE", 0.0)
    embeddings = np.eye(5, dtype=np.float32)
    search = AdaptiveSearch(embeddings)
    search.prepare()
    assert search.top_k(embeddings, 1)[0][:, 0].tolist() == [0, 1, 2, 3, 4]
    assert not search._copies


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit data")
def test_a_copy_that_memory_refuses_is_done_without() -> None:
    process = multiprocessing.get_context("spawn").Process(target=_search_in_little_memory)
    process.start()
    process.join()
    assert process.exitcode == 0


def _search_in_little_memory() -> None:
    fastest_search.has_fast_copies = lambda: True
    embeddings = np.random.default_rng(0).standard_normal((500_000, 50), dtype=np.float32)
    search = AdaptiveSearch(embeddings)
    query = embeddings[:1]
    expected = search.top_k(query, 5)
    data = int(Path("/proc/self/status").read_text().split("VmData:")[1].split()[0]) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (data + 24_000_000, resource.RLIM_INFINITY))
    search.prepare()
    answer = search.top_k(query, 5)
    assert not search._copies
    assert answer[0].tolist() == expected[0].tolist()
    assert answer[1].tolist() == expected[1].tolist()
