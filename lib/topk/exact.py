"""Exact top-k by cosine similarity: no index, every row is looked at."""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import torch

from lib.cores import usable_cores
from lib.errors import BadArgumentError, BadInputError
from lib.topk.scan import Precision, Scan
from lib.topk.scores import PREPARE_ROWS, exact_scores, merge_top_k

# Approximate scores of one block: these many stay in a core's own cache until looked through.
BLOCK_SCORES = 2**19
MIN_BLOCK_ROWS, MAX_BLOCK_ROWS = 1_024, 65_536
QUERIES_AT_ONCE = 256
GROUP = 16  # scores reduced to their maximum before any is compared with the bar
MAX_SPAN_BLOCKS = 64  # blocks between two merges
MAX_PENDING = 2**20  # candidates kept before they are merged
ROWS_A_THREAD = 50_000  # fewer rows than this do not pay for another thread


class ExactSearch:
    """Exact top-k over one matrix of embeddings.

    A score is the dot product in float64, rounded to float32. The scan may be less precise
    (float32, bfloat16, int8): the error of its scores is bounded (`lib.topk.scan`), every row whose
    score may reach the k-th best is scored again, and so the answer is the same, bit for bit,
    whatever the precision, the device, the blocks and the number of threads.
    """

    def __init__(
        self,
        embeddings: np.ndarray,
        precision: Precision = "float32",
        device: str = "cpu",
        norm: float | None = None,
    ) -> None:
        """Prepare (N, d) float32 embeddings, which may be memory-mapped; reads them once.

        `norm`: their `scores.largest_norm`, where known; then a float32 search reads nothing.
        Rows are of unit length or zero (any finite row is searched exactly, its score then being
        a dot product). Raises BadInputError, naming the first bad row, for NaN or infinity.
        """
        if embeddings.ndim != 2:
            raise BadInputError(f"embeddings must be a matrix (N, d), not {embeddings.shape}")
        self.embeddings = embeddings
        self.scan = Scan(embeddings, precision, device, norm)

    def __len__(self) -> int:
        return len(self.embeddings)

    def top_k(
        self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k rows most similar to each query.

        queries: (Q, d) float32, finite. allowed: (N,) bool, the rows that may be found. Returns
        rows (Q, m) int64 and scores (Q, m) float32, best first, m = min(k, rows that may be found);
        equal scores in row order. Raises BadArgumentError for k < 1, BadInputError for shapes that
        disagree and for queries that are not finite.
        """
        self._check(queries, k, allowed)
        candidates = None if allowed is None else np.flatnonzero(allowed)
        count = len(self) if candidates is None else len(candidates)
        k = min(k, count)
        rows = np.empty((len(queries), k), np.int64)
        scores = np.zeros((len(queries), k), np.float32)
        if not k:
            return rows, scores
        # Nothing is similar to a zero query: all scores are 0, so row order decides.
        known = np.flatnonzero(queries.any(axis=1))
        rows[:] = np.arange(k) if candidates is None else candidates[:k]
        for start in range(0, len(known), QUERIES_AT_ONCE):
            chunk = known[start : start + QUERIES_AT_ONCE]
            search = _Pass(self, np.ascontiguousarray(queries[chunk], np.float32), k, candidates)
            rows[chunk], scores[chunk] = search.run()
        return rows, scores

    def _check(self, queries: np.ndarray, k: int, allowed: np.ndarray | None) -> None:
        if k < 1:
            raise BadArgumentError(f"k must be at least 1, not {k}")
        if queries.ndim != 2 or queries.shape[1] != self.embeddings.shape[1]:
            raise BadInputError(
                f"queries {queries.shape} and embeddings {self.embeddings.shape} must have equal "
                "dimensions"
            )
        if not np.isfinite(queries).all():
            raise BadInputError("a query holds NaN or infinity; its embedding went wrong")
        if allowed is not None and allowed.shape != (len(self),):
            raise BadInputError(f"allowed must be ({len(self)},) bool, not {allowed.shape}")


def top_k(
    queries: np.ndarray, embeddings: np.ndarray, k: int, allowed: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """One search over embeddings that are not searched again; see `ExactSearch.top_k`."""
    return ExactSearch(embeddings).top_k(queries, k, allowed)


class _Pass:
    """One pass over all rows for at most QUERIES_AT_ONCE queries, by one or more threads."""

    def __init__(
        self, search: ExactSearch, queries: np.ndarray, k: int, candidates: np.ndarray | None
    ) -> None:
        self.search, self.queries, self.k, self.candidates = search, queries, k, candidates
        self.count = len(search) if candidates is None else len(candidates)
        rows = BLOCK_SCORES // len(queries)
        # The first block sets the bar, so it must hold k rows.
        rows = max(min(max(rows, MIN_BLOCK_ROWS), MAX_BLOCK_ROWS), 2 * k)
        self.block_rows = -(-rows // GROUP) * GROUP
        on_cpu = search.scan.device.type == "cpu"
        self.threads = min(_thread_count(), -(-self.count // ROWS_A_THREAD)) if on_cpu else 1
        self.prepared = search.scan.prepare(queries)
        self.errors = search.scan.error_bounds(queries)
        # A row that scores at most this in the scan is not among the best k. It only ever rises.
        self.bar = np.full(len(queries), -np.inf, np.float32)
        self._bar_lock = threading.Lock()
        self._spans = self._all_spans()
        self._spans_lock = threading.Lock()

    def run(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows and scores, (Q, k) each."""
        if self.threads == 1:
            parts = [self._work()]
        else:
            pool = _pool(_thread_count())
            parts = list(pool.map(lambda _: self._work(), range(self.threads)))
        queries, rows, scores = map(np.concatenate, zip(*parts, strict=True))
        rows, scores = merge_top_k(queries, rows, scores, len(self.queries), self.k)
        return (rows if self.candidates is None else self.candidates[rows]), scores

    def raise_bar(self, queries: np.ndarray, scores: np.ndarray) -> None:
        """Note that `queries` have k rows of at least `scores` (exact)."""
        limit = (scores.astype(np.float64) - self.errors[queries]).astype(np.float32)
        # Below, not at: a later row of equal score may have a smaller number.
        limit = np.nextafter(limit, np.float32(-np.inf))
        with self._bar_lock:
            self.bar[queries] = np.maximum(self.bar[queries], limit)

    def _all_spans(self) -> Iterator[tuple[int, int]]:
        # The bar rises with what has been seen: growing spans keep both the merges and the rows
        # that clear the bar to some k · log N.
        # Towards the end they shrink again, so that no thread works long after the others.
        start = 0
        while start < self.count:
            seen, left = start // self.block_rows, (self.count - start) // self.block_rows
            blocks = max(1, min(MAX_SPAN_BLOCKS, seen // 2, left // (2 * self.threads)))
            end = min(self.count, start + blocks * self.block_rows)
            yield start, end
            start = end

    def _work(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        best = _Best(self)
        scratch = torch.empty(len(self.queries) * self.block_rows, device=self.search.scan.device)
        while True:
            with self._spans_lock:
                span = next(self._spans, None)
            if span is None:
                return best.queries, best.rows, best.scores
            for start in range(*span, self.block_rows):
                self._scan_block(best, scratch, start, min(span[1], start + self.block_rows))
            best.merge()

    def _scan_block(self, best: "_Best", scratch: torch.Tensor, start: int, end: int) -> None:
        rows = slice(start, end) if self.candidates is None else self.candidates[start:end]
        scores = scratch[: len(self.queries) * (end - start)].view(len(self.queries), end - start)
        scores = self.search.scan.scores(self.prepared, rows, scores)
        bar = torch.from_numpy(self.bar.copy()).to(scores.device)[:, None]
        if end - start >= self.k and bool((bar == -torch.inf).any()):
            kth = scores.topk(self.k, dim=1).values[:, -1].cpu().numpy()
            every = np.arange(len(self.queries))
            self.raise_bar(every, kth.astype(np.float64) - self.errors)
            bar = torch.from_numpy(self.bar.copy()).to(scores.device)[:, None]
        above = _above(scores, bar)
        if len(above[0]):
            best.add(above[0], above[1] + start)


def _above(scores: torch.Tensor, bar: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Query and column of each (Q, B) score above its query's bar (Q, 1)."""
    columns = scores.shape[1]
    if columns % GROUP:
        queries, above = (scores > bar).nonzero(as_tuple=True)
        return queries.cpu().numpy(), above.cpu().numpy()
    # Most groups hold nothing above the bar: one maximum a group is compared instead of each score.
    grouped = scores.view(len(scores), GROUP, columns // GROUP)
    queries, groups = (grouped.amax(1) > bar).nonzero(as_tuple=True)
    hits, members = (grouped[queries, :, groups] > bar[queries]).nonzero(as_tuple=True)
    above = members * (columns // GROUP) + groups[hits]
    return queries[hits].cpu().numpy(), above.cpu().numpy()


class _Best:
    """What one thread has found: exactly scored candidates, at most k a query after a merge."""

    def __init__(self, owner: _Pass) -> None:
        self.owner = owner
        self.queries = np.empty(0, np.int64)
        self.rows = np.empty(0, np.int64)
        self.scores = np.empty(0, np.float32)
        self._pending: list[tuple[np.ndarray, np.ndarray]] = []
        self._pending_count = 0

    def add(self, queries: np.ndarray, rows: np.ndarray) -> None:
        """Keep candidates to be scored at the next merge."""
        self._pending.append((queries, rows))
        self._pending_count += len(rows)
        if self._pending_count > MAX_PENDING:
            self.merge()

    def merge(self) -> None:
        """Score the pending candidates exactly, keep the best k of each query, raise the bar."""
        if not self._pending:
            return
        queries, rows = map(np.concatenate, zip(*self._pending, strict=True))
        self._pending, self._pending_count = [], 0
        scores = np.concatenate([self.scores, self._score(queries, rows)])
        queries = np.concatenate([self.queries, queries])
        rows = np.concatenate([self.rows, rows])
        order = np.lexsort((rows, -scores, queries))
        queries = queries[order]
        k = self.owner.k
        starts = np.searchsorted(queries, queries)  # where the candidates of the same query begin
        kept = np.flatnonzero(np.arange(len(queries)) - starts < k)
        self.queries, order = queries[kept], order[kept]
        self.rows, self.scores = rows[order], scores[order]
        last = np.arange(len(kept)) - np.searchsorted(self.queries, self.queries) == k - 1
        self.owner.raise_bar(self.queries[last], self.scores[last])

    def _score(self, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
        owner = self.owner
        rows = rows if owner.candidates is None else owner.candidates[rows]
        scores = np.empty(len(rows), np.float32)
        for start in range(0, len(rows), PREPARE_ROWS):
            part = slice(start, start + PREPARE_ROWS)
            scores[part] = exact_scores(
                owner.queries[queries[part]], owner.search.embeddings[rows[part]]
            )
        return scores


def _thread_count() -> int:
    return min(torch.get_num_threads(), usable_cores())


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    # Each thread multiplies its own blocks: they stay in that core's cache, and no thread waits
    # for another at the end of each block.
    ready = threading.Barrier(threads + 1)
    cores = _own_cores(threads)

    def start() -> None:
        if cores:
            os.sched_setaffinity(threading.get_native_id(), {cores.pop()})
        torch.set_num_threads(1)
        ready.wait()

    pool = ThreadPoolExecutor(threads, "search", initializer=start)
    for _ in range(threads):
        pool.submit(lambda: None)
    ready.wait()
    torch.set_num_threads(threads)  # what torch gives to threads that others start
    return pool


def _own_cores(threads: int) -> list[int]:
    """A core for each thread where they take all cores of the process; else none.

    Searches are short, and the scheduler often starts both of two threads on one core: left to it,
    a search of 4 ms takes 6 ms for seconds on end. Fewer threads than cores are left to it, since
    other processes would choose the same cores.
    """
    if not hasattr(os, "sched_getaffinity"):  # Linux only
        return []
    cores = sorted(os.sched_getaffinity(0))
    return cores if len(cores) == threads else []
