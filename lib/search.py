"""Exact top-k by cosine similarity: no index, every row is looked at."""

import numpy as np

from lib.errors import BadArgumentError, BadInputError

# Scores of a block stay in the processor's cache until they have been looked through. Not smaller:
# each block gives Python's lock away, which a busy server takes long to give back.
BLOCK_ROWS = 32_768


def top_k(
    queries: np.ndarray, embeddings: np.ndarray, k: int, allowed: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The k rows of `embeddings` most similar to each query.

    queries (Q, d) and embeddings (N, d): float32 rows of unit length or zero, so that the dot
    product is the cosine. allowed: (N,) bool, the rows that may be found. Returns rows (Q, m)
    int64 and scores (Q, m) float32, best first, m = min(k, rows that may be found); equal scores
    in row order. Raises BadArgumentError for k < 1, BadInputError where shapes disagree.
    """
    if k < 1:
        raise BadArgumentError(f"k must be at least 1, not {k}")
    if queries.ndim != 2 or embeddings.ndim != 2 or queries.shape[1] != embeddings.shape[1]:
        raise BadInputError(
            f"queries {queries.shape} and embeddings {embeddings.shape} must have equal dimensions"
        )
    candidates = None if allowed is None else np.flatnonzero(allowed)
    count = len(embeddings) if candidates is None else len(candidates)
    best = _Best(len(queries), min(k, count))
    if not len(queries) or not count:
        shape = (len(queries), best.k)
        return np.empty(shape, np.int64), np.empty(shape, np.float32)
    start, span = 0, BLOCK_ROWS
    while start < count:
        end = min(count, start + span)
        for first in range(start, end, BLOCK_ROWS):
            last = min(end, first + BLOCK_ROWS)
            if candidates is None:
                best.collect(first, embeddings[first:last] @ queries.T)
            else:
                best.collect(first, embeddings[candidates[first:last]] @ queries.T)
        best.merge()
        # The bar rises with what has been seen: growing spans keep both the merges and the rows
        # that clear the bar to some k · log N.
        start, span = end, span * 4
    return (best.rows if candidates is None else candidates[best.rows]), best.scores


class _Best:
    """The best rows of each query so far, and those of later rows that beat the last of them."""

    def __init__(self, queries: int, k: int) -> None:
        self.k = k
        self.rows = np.empty((queries, 0), np.int64)
        self.scores = np.empty((queries, 0), np.float32)
        self._seen = 0
        self._queries: list[np.ndarray] = []
        self._rows: list[np.ndarray] = []
        self._scores: list[np.ndarray] = []

    def collect(self, first: int, scores: np.ndarray) -> None:
        """Keep what may be among the best of a (B, Q) block of scores, rows from `first` on."""
        block = len(scores)
        if self.scores.shape[1] == self.k:
            # A later row of equal score comes after an earlier one, so it need not be kept.
            clears = np.flatnonzero(scores > self.scores[:, -1])
        elif block > self.k:
            bar = np.partition(scores, block - self.k, axis=0)[block - self.k]
            clears = np.flatnonzero(scores >= bar)
        else:
            clears = np.arange(scores.size)
        rows, queries = np.divmod(clears, scores.shape[1])
        self._seen += block
        self._queries.append(queries)
        self._rows.append(rows + first)
        self._scores.append(scores.reshape(-1)[clears])

    def merge(self) -> None:
        """Bring what was collected into `rows` and `scores`, best first."""
        count, had = self.rows.shape
        queries = np.concatenate([np.repeat(np.arange(count), had), *self._queries])
        rows = np.concatenate([self.rows.reshape(-1), *self._rows])
        scores = np.concatenate([self.scores.reshape(-1), *self._scores])
        self._queries, self._rows, self._scores = [], [], []
        # A stable sort, and rows come in ascending order: equal scores stay in row order.
        order = np.lexsort((-scores, queries))
        starts = np.searchsorted(queries[order], np.arange(count))
        chosen = order[starts[:, None] + np.arange(min(self.k, self._seen))]
        self.rows, self.scores = rows[chosen], scores[chosen]
