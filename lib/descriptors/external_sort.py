"""Sorting of more rows than memory holds: sorted runs on disk, merged as they are read."""

import heapq
import itertools
import pickle
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import IO, TypeVar

Row = TypeVar("Row")
RUN_ROWS = 250_000
_BLOCK_ROWS = 1_000


class SpooledRows(Iterable[Row]):
    """Rows kept in a temporary file: appended once, then read as often as needed, in order."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - gone with the spool
        self._block: list[Row] = []
        self.count = 0

    def append(self, row: Row) -> None:
        """Add a row at the end."""
        self._block.append(row)
        self.count += 1
        if len(self._block) == _BLOCK_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._block:
            pickle.dump(self._block, self._file, protocol=pickle.HIGHEST_PROTOCOL)
            self._block = []

    def __iter__(self) -> Iterator[Row]:
        self._flush()
        self._file.flush()
        end = self._file.tell()
        position = 0
        while position < end:
            # Other readers of the same spool move the file's position between blocks.
            self._file.seek(position)
            block: list[Row] = pickle.load(self._file)
            position = self._file.tell()
            yield from block


def sort_bounded(
    rows: Iterable[Row], key: Callable[[Row], str], run_rows: int = RUN_ROWS
) -> Iterator[Row]:
    """Rows in the order of `key`, equal ones as they came; at most `run_rows` are in memory."""
    runs: list[Iterable[Row]] = []
    source = iter(rows)
    while run := sorted(itertools.islice(source, run_rows), key=key):
        if len(run) < run_rows:
            runs.append(run)  # the last one, and for most collections the only one
            break
        spool: SpooledRows[Row] = SpooledRows()
        for row in run:
            spool.append(row)
        runs.append(spool)
    return iter(runs[0]) if len(runs) == 1 else heapq.merge(*runs, key=key)
