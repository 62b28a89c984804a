import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib import search
from lib.errors import BadArgumentError, BadInputError
from lib.search import top_k


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "BLOCK_ROWS", 7)


@given(
    rows=st.integers(1, 300),
    queries=st.integers(0, 9),
    k=st.integers(1, 40),
    seed=st.integers(0, 2**16),
    filtered=st.booleans(),
)
@settings(deadline=None)
def test_equals_sorting_every_score(
    rows: int, queries: int, k: int, seed: int, filtered: bool
) -> None:
    random = np.random.default_rng(seed)
    # Small integers: many equal scores, none of them rounded.
    embeddings = random.integers(-2, 3, (rows, 4)).astype(np.float32)
    texts = random.integers(-2, 3, (queries, 4)).astype(np.float32)
    allowed = random.random(rows) < 0.5 if filtered else None
    found, scores = top_k(texts, embeddings, k, allowed)
    may = np.arange(rows) if allowed is None else np.flatnonzero(allowed)
    full = texts @ embeddings[may].T
    order = np.argsort(-full, axis=1, kind="stable")[:, : min(k, len(may))]
    np.testing.assert_array_equal(found, may[order])
    np.testing.assert_array_equal(scores, np.take_along_axis(full, order, axis=1))
    assert found.dtype == np.int64
    assert scores.dtype == np.float32


def test_refuses_what_cannot_be_searched() -> None:
    with pytest.raises(BadArgumentError, match="at least 1"):
        top_k(np.zeros((1, 3), np.float32), np.zeros((2, 3), np.float32), 0)
    with pytest.raises(BadInputError, match="dimensions"):
        top_k(np.zeros((1, 3), np.float32), np.zeros((2, 4), np.float32), 1)
