"""Exact top-k by cosine similarity: no index, every row is looked at."""

import numpy as np

from lib.errors import BadArgumentError, BadInputError

BLOCK_ROWS = 16_384


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
    candidates = np.arange(len(embeddings)) if allowed is None else np.flatnonzero(allowed)
    found = min(k, len(candidates))
    best_rows = np.empty((len(queries), 0), np.int64)
    best_scores = np.empty((len(queries), 0), np.float32)
    for start in range(0, len(candidates), BLOCK_ROWS):
        rows = candidates[start : start + BLOCK_ROWS]
        scores = np.concatenate([best_scores, queries @ embeddings[rows].T], axis=1)
        both = np.concatenate([best_rows, np.broadcast_to(rows, (len(queries), len(rows)))], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :found]
        best_scores = np.take_along_axis(scores, order, axis=1)
        best_rows = np.take_along_axis(both, order, axis=1)
    return best_rows, best_scores
