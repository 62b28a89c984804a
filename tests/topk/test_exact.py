from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.errors import BadArgumentError, BadInputError
from lib.topk import exact as search
from lib.topk.exact import ExactSearch, top_k
from lib.topk.scan import Precision, Scan
from lib.topk.scores import exact_scores

PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16", "int8")


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "BLOCK_SCORES", 48)
    monkeypatch.setattr(search, "MIN_BLOCK_ROWS", 16)
    monkeypatch.setattr(search, "QUERIES_AT_ONCE", 4)
    monkeypatch.setattr(search, "ROWS_A_THREAD", 60)
    monkeypatch.setattr(search, "MAX_PENDING", 100)


def naive(
    queries: np.ndarray, embeddings: np.ndarray, k: int, allowed: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    may = np.arange(len(embeddings)) if allowed is None else np.flatnonzero(allowed)
    rows, scores = [], []
    for query in queries:
        full = exact_scores(np.broadcast_to(query, (len(may), len(query))), embeddings[may])
        order = np.argsort(-full, kind="stable")[:k]
        rows.append(may[order])
        scores.append(full[order])
    m = min(k, len(may))
    return (
        np.array(rows, np.int64).reshape(len(queries), m),
        np.array(scores, np.float32).reshape(len(queries), m),
    )


@given(
    rows=st.integers(0, 300),
    queries=st.integers(0, 9),
    dimension=st.integers(1, 70),
    k=st.integers(1, 40),
    distinct=st.integers(1, 300),
    seed=st.integers(0, 2**16),
    whole=st.booleans(),
    filtered=st.booleans(),
    precision=st.sampled_from(PRECISIONS),
)
@settings(deadline=None, max_examples=150)
def test_equals_sorting_every_score(
    rows: int,
    queries: int,
    dimension: int,
    k: int,
    distinct: int,
    seed: int,
    whole: bool,
    filtered: bool,
    precision: Precision,
) -> None:
    random = np.random.default_rng(seed)

    def draw(count: int) -> np.ndarray:
        drawn = random.standard_normal((count, dimension)).astype(np.float32)
        if whole:
            return np.rint(drawn)  # many equal scores and zero vectors
        return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)

    embeddings = draw(distinct)[random.integers(0, distinct, rows)]
    texts = draw(queries)
    allowed = random.random(rows) < 0.5 if filtered else None
    nearest, scores = ExactSearch(embeddings, precision).top_k(texts, k, allowed)
    expected, expected_scores = naive(texts, embeddings, k, allowed)
    np.testing.assert_array_equal(nearest, expected)
    np.testing.assert_array_equal(scores, expected_scores)
    assert nearest.dtype == np.int64
    assert scores.dtype == np.float32


@given(
    seed=st.integers(0, 2**16),
    dimension=st.integers(1, 70),
    scale=st.sampled_from([1e-30, 1e-3, 1.0, 1e6]),
    precision=st.sampled_from(PRECISIONS),
)
@settings(deadline=None)
def test_scores_of_a_scan_stay_within_their_bound(
    seed: int, dimension: int, scale: float, precision: Precision
) -> None:
    import torch

    random = np.random.default_rng(seed)
    embeddings = (random.standard_normal((64, dimension)) * scale).astype(np.float32)
    queries = random.standard_normal((3, dimension)).astype(np.float32)
    scan = Scan(embeddings, precision, "cpu")
    scores = scan.scores(scan.prepare(queries), slice(0, 64), torch.empty(3, 64)).numpy()
    exact = queries.astype(np.float64) @ embeddings.T.astype(np.float64)
    assert (np.abs(scores - exact) <= scan.error_bounds(queries)[:, None]).all()


def test_whole_blocks_of_many_rows_on_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    random = np.random.default_rng(0)
    embeddings = random.standard_normal((120_000, 50), dtype=np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    embeddings[70_000:90_000] = embeddings[7]  # equal scores across threads and blocks
    queries = np.concatenate([embeddings[[7, 100]], np.zeros((1, 50), np.float32)])
    expected = naive(queries, embeddings, 100, None)
    for precision in PRECISIONS:
        nearest, scores = ExactSearch(embeddings, precision).top_k(queries, 100)
        np.testing.assert_array_equal(nearest, expected[0])
        np.testing.assert_array_equal(scores, expected[1])


def test_searches_a_memory_mapped_file_of_any_layout(tmp_path: Path) -> None:
    embeddings = np.random.default_rng(0).standard_normal((200, 5)).astype(np.float32)
    np.save(tmp_path / "embeddings.npy", embeddings)
    mapped = np.load(tmp_path / "embeddings.npy", mmap_mode="r")
    expected = top_k(embeddings[:3], embeddings, 4)
    for same in (mapped, np.asfortranarray(embeddings)):
        np.testing.assert_array_equal(top_k(embeddings[:3], same, 4)[0], expected[0])


def test_no_rows_no_answers() -> None:
    rows, scores = top_k(np.ones((2, 3), np.float32), np.empty((0, 3), np.float32), 5)
    assert rows.shape == scores.shape == (2, 0)


def test_refuses_what_cannot_be_searched() -> None:
    good = np.zeros((2, 3), np.float32)
    with pytest.raises(BadArgumentError, match="at least 1"):
        top_k(good, good, 0)
    with pytest.raises(BadInputError, match="dimensions"):
        top_k(good, np.zeros((2, 4), np.float32), 1)
    with pytest.raises(BadInputError, match="allowed"):
        top_k(good, good, 1, np.ones(3, bool))
    bad = np.array([[0, 0, 0], [0, np.nan, 0]], np.float32)
    with pytest.raises(BadInputError, match="row 1 holds NaN"):
        top_k(good, bad, 1)
    with pytest.raises(BadInputError, match="a query"):
        top_k(bad, good, 1)
    with pytest.raises(BadArgumentError, match="precision"):
        ExactSearch(good, "float8")  # type: ignore[arg-type]
