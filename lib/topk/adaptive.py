"""The exact search that is fastest on this processor: which scan for which batch."""

import os
import threading
from pathlib import Path

import numpy as np
import torch

from lib.topk.exact import QUERIES_AT_ONCE, ExactSearch
from lib.topk.scan import PACKED_QUERIES, Precision
from lib.topk.scores import COPIES_SHARE

WORTH_A_COPY = 4 * QUERIES_AT_ONCE  # queries of one batch
MEMORY_SHARE = 0.5  # of the free memory that copies may take


class AdaptiveSearch:
    """One matrix of embeddings, searched by whichever scan is fastest for each batch.

    All scans give the same rows and the same bits. A few queries are bound by memory, so int8 is
    fastest; more are bound by arithmetic, so bfloat16 is. Each needs a copy of its own (a third
    and half of the float32 matrix); it is made when the second batch of its kind comes, or a very
    large one, because making it costs some float32 searches, and not at all where memory is short
    or the processor has no AVX512-BF16: then float32 is scanned, which needs no copy.
    """

    def __init__(self, embeddings: np.ndarray, norm: float | None = None) -> None:
        """Take (N, d) float32 embeddings; `norm`: see ExactSearch.

        Raises BadInputError where a row is not finite.
        """
        self._float32 = ExactSearch(embeddings, norm=norm)
        self._copies: dict[Precision, ExactSearch] = {}
        self._asked: set[Precision] = set()
        self._making = threading.Lock()
        self._may_copy = has_fast_copies() and copies_fit(embeddings)

    def top_k(
        self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows and scores of the k rows most similar to each query; see `ExactSearch.top_k`."""
        precision: Precision = "int8" if len(queries) <= PACKED_QUERIES else "bfloat16"
        if len(queries) > WORTH_A_COPY:
            self._asked.add(precision)
        return self._search(precision).top_k(queries, k, allowed)

    def prepare(self) -> None:
        """Make the copies now, so that no later search waits for one."""
        if self._may_copy:
            self._copy("int8")
            self._copy("bfloat16")

    def _search(self, precision: Precision) -> ExactSearch:
        if self._may_copy and (precision in self._asked or precision in self._copies):
            return self._copy(precision)
        self._asked.add(precision)
        return self._float32

    def _copy(self, precision: Precision) -> ExactSearch:
        with self._making:
            if precision not in self._copies:
                try:
                    self._copies[precision] = ExactSearch(
                        self._float32.embeddings, precision, norm=self._float32.scan.norm
                    )
                except (MemoryError, RuntimeError) as error:
                    if isinstance(error, RuntimeError) and "allocate memory" not in str(error):
                        raise
                    self._may_copy = False  # this process may have less than the machine
                    return self._float32
            return self._copies[precision]


def has_fast_copies() -> bool:
    """Whether this processor multiplies bfloat16 faster than float32."""
    return bool(torch.cpu._is_avx512_bf16_supported())


def copies_fit(embeddings: np.ndarray) -> bool:
    """Whether both copies of the embeddings leave half of the free memory free."""
    return embeddings.nbytes * COPIES_SHARE <= available_memory() * MEMORY_SHARE


def available_memory() -> int:
    """Bytes that this machine can give without swapping: free, or holding copies of files."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:  # not Linux
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
