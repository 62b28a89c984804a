"""Scores and their merging in numpy, for processes that ask others to search: no PyTorch."""

import numpy as np

from lib.errors import BadInputError

COPIES_SHARE = 0.84  # bytes of the int8 and the bfloat16 copy together, of the float32 ones
PREPARE_ROWS = 65_536


def merge_top_k(
    queries: np.ndarray, rows: np.ndarray, scores: np.ndarray, count: int, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The best k of (M,) candidates of `count` queries: rows (count, k) and scores (count, k).

    queries: (M,) the query of each candidate. Best first, equal scores in row order. Every query
    must have at least k candidates.
    """
    order = np.lexsort((rows, -scores, queries))
    starts = np.searchsorted(queries[order], np.arange(count))
    chosen = order[starts[:, None] + np.arange(k)]
    return rows[chosen], scores[chosen]


def exact_scores(queries: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
    """Dot product of each pair of rows, (M, d) and (M, d), in float64, as (M,) float32.

    Products of float32 are exact in float64 and numpy sums a contiguous row in an order that
    depends on d alone: the same pair gives the same bits wherever it is computed.
    """
    return np.multiply(queries, embeddings, dtype=np.float64).sum(axis=1).astype(np.float32)


def largest_norm(embeddings: np.ndarray) -> float:
    """Largest norm of (N, d) float32 rows, taken in float64; 0 for none.

    Raises BadInputError, naming the first bad row, for NaN or infinity.
    """
    largest = 0.0
    for start in range(0, len(embeddings), PREPARE_ROWS):
        rows = embeddings[start : start + PREPARE_ROWS]
        squares = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
        if not np.isfinite(squares).all():
            bad = start + int(np.flatnonzero(~np.isfinite(squares))[0])
            raise BadInputError(f"the embedding of row {bad} holds NaN or infinity")
        largest = max(largest, float(np.sqrt(squares.max())))
    return largest
