"""What a run has to do: a listing compared with what a database already has.

Both sides are Arrow tables. Those of a small collection are compared here; large ones are cut into
ranges of paths, each compared in a Ray task of its own, so that the driver holds references alone.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.exceptions import RayTaskError

from lib.descriptors.comparison import Counts, compare, listed_names, one_spelling
from lib.descriptors.listing import ListedTable, planning_cpus
from lib.descriptors.store import KNOWN, apply_edits, known_images, row_counts, shard_states
from lib.errors import MismatchError
from lib.images.listed import LISTED, ListedImage
from lib.nodes import Shortage

_PART_ROWS = 250_000  # of a listing, at least, that a task cuts
_HERE_ROWS = 250_000  # of listing and database, at most, that are compared in this process
_RANGE_ROWS = 1_000_000
_MOST_RANGES = 200
_FILES_A_TASK = 200
_BLOCK = 1_000
_SAMPLED_TABLES = 8


@dataclass
class ExtractionPlan(Counts):
    """A listing against a database: what is to do, and what is in the way."""

    pending: "Pending" = field(default_factory=lambda: Pending([], []))
    edits: list[Any] = field(default_factory=list)  # tables of EDITS, or references to them
    files: dict[str, str] = field(default_factory=dict)  # and states of them; edits number them


@dataclass
class Pending:
    """Images to describe, in order of path, each with its position in the sorted listing."""

    tables: list[Any]  # LISTED and position, or references to such
    counts: list[int]

    @property
    def count(self) -> int:
        """Images in all tables."""
        return sum(self.counts)

    def sample(self, count: int) -> list[ListedImage]:
        """Some images, spread over all tables, or over a few where those are many."""
        filled = [i for i, length in enumerate(self.counts) if length]
        chosen = sorted(
            {filled[i] for i in np.linspace(0, len(filled) - 1, _SAMPLED_TABLES, dtype=int)}
        )
        images = []
        for i in chosen if count else ():
            rows = np.linspace(0, self.counts[i] - 1, -(-count // len(chosen)), dtype=int)
            table = resolve(self.tables[i]).select(LISTED.names).take(np.unique(rows))
            images += [ListedImage(**row) for row in table.to_pylist()]
        return images

    def __iter__(self) -> Iterator[tuple[int, ListedImage]]:
        for table, count in zip(self.tables, self.counts, strict=True):
            if not count:
                continue
            for batch in resolve(table).to_batches(_BLOCK):
                positions, *columns = (
                    batch[name].to_pylist() for name in ("position", *LISTED.names)
                )
                yield from zip(positions, map(ListedImage, *columns), strict=True)


def make_plan(
    listing: Iterable[ListedTable],
    db: str,
    prune: bool = False,
    retry_failed: bool = False,
    source: str = "",
) -> ExtractionPlan:
    """Compare a listing, in any order, with what the database has. Ray must be up for large ones.

    Raises MismatchError where the listing has other images than the database under the same names,
    and those still lie where they were described, and where images would be pruned of a drive that
    is not mounted below `source`.
    """
    states = shard_states(db)
    files = list(states)
    rows = row_counts(files)
    compared = partial(compare, prune=prune, retry_failed=retry_failed, source=source)
    total, first, parts = sum(rows), [], iter(listing)
    while total <= _HERE_ROWS and (part := next(parts, None)):
        first.append(part)
        total += part.rows
    if total <= _HERE_ROWS:
        listed = pa.concat_tables([LISTED.empty_table(), *(resolve(part.table) for part in first)])
        counts, pending, edits = compared(listed, known_images(files, range(len(files))))
        plan = ExtractionPlan(pending=Pending([pending], [len(pending)]), edits=[edits])
        plan.add(counts)
    else:
        plan = _plan_in_tasks(itertools.chain(first, parts), files, rows, compared)
    plan.files = states
    if plan.clash:
        raise MismatchError(plan.clash)
    return plan


def _plan_in_tasks(
    parts: Iterable[ListedTable],
    files: list[str],
    rows: Sequence[int],
    compared: Callable[..., Any],
) -> ExtractionPlan:
    samples, total = [pa.array([], pa.string())], sum(rows)
    listed: list[list[Any]] = []  # tables that are cut together
    length = _PART_ROWS
    for part in parts:
        if length >= _PART_ROWS:
            listed.append([])
            length = 0
        in_store = isinstance(part.table, ray.ObjectRef)
        listed[-1].append(part.table if in_store else ray.put(part.table))
        samples.append(part.paths)
        length += part.rows
        total += part.rows
    count = min(-(-total // _RANGE_ROWS), _MOST_RANGES)
    ordered = pc.sort_indices(sample := one_spelling(pa.chunked_array(samples)))
    cuts = np.linspace(0, len(ordered), count + 1).astype(int)[1:-1]
    splitters = sample.take(ordered.take(cuts)).to_pylist()
    cpus = planning_cpus()
    shortage = Shortage(cpus)
    cut = _pieces_task(_cut, count, cpus, "plan: cut a part of the listing")
    read = _pieces_task(_cut_known, count, cpus, "plan: read what is there")
    pieces = [cut(splitters, *tables) for tables in listed]
    names = ray.put(files)
    known = [read(names, group, splitters) for group in _groups(rows)]
    comparison = ray.remote(_compare_pieces).options(
        num_returns=3, num_cpus=cpus, name="plan: compare"
    )
    results = [
        comparison.remote(compared, len(pieces), *(p[r] for p in pieces), *(k[r] for k in known))
        for r in range(count)
    ]
    plan = ExtractionPlan()
    with shortage.told():
        ray.wait([results[0][0]])
    for summary, pending, edits in results:
        counts, length, edited = ray.get(summary)
        if length:
            plan.pending.tables.append(_Shifted(pending, plan.listed))
            plan.pending.counts.append(length)
        if edited:
            plan.edits.append(edits)
        plan.add(counts)
    return plan


def _groups(rows: Sequence[int]) -> Iterator[range]:
    """The files, of so many rows, that are read together: neither too many nor too large."""
    first, total = 0, 0
    for at, count in enumerate(rows):
        if at > first and (total + count > _RANGE_ROWS or at - first == _FILES_A_TASK):
            yield range(first, at)
            first, total = at, 0
        total += count
    if rows:
        yield range(first, len(rows))


def _pieces_task(
    function: Callable[..., Any], count: int, cpus: int, name: str
) -> Callable[..., list["ray.ObjectRef[Any]"]]:
    """Starts a task that returns `count` tables, each an object of its own."""
    task: Any = ray.remote(function).options(num_returns=count, num_cpus=cpus, name=name)
    return lambda *arguments: [task.remote(*arguments)] if count == 1 else task.remote(*arguments)


@dataclass(frozen=True)
class _Shifted:
    """A table of pending images whose positions count from those of earlier ranges."""

    table: Any
    offset: int


def resolve(table: Any) -> pa.Table:
    """A table of a plan, wherever it lies."""
    if isinstance(table, _Shifted):
        inner = resolve(table.table)
        at = inner.schema.get_field_index("position")
        return inner.set_column(at, "position", pc.add(inner["position"], table.offset))
    return ray.get(table) if isinstance(table, ray.ObjectRef) else table


def _cut(splitters: Sequence[str], *parts: pa.Table) -> Any:
    """The rows of tables in each range of paths, ranges in order."""
    part = pa.concat_tables(parts)
    if not splitters:
        return part
    ranges = _ranges(one_spelling(listed_names(part["path"])), splitters)
    part = part.take(pa.array(np.argsort(ranges, kind="stable")))
    counts = np.bincount(ranges, minlength=len(splitters) + 1)
    starts = np.cumsum(counts) - counts
    return [part.slice(at, n).combine_chunks() for at, n in zip(starts, counts, strict=True)]


def _ranges(paths: pa.ChunkedArray, splitters: Sequence[str]) -> np.ndarray:
    """How many of the sorted splitters are not above each path, by bisection; (N,) int64."""
    bounds = pa.array(splitters, pa.string())
    ranges = np.zeros(len(paths), np.int64)
    for bit in reversed(range(len(splitters).bit_length())):
        tried = ranges + (1 << bit)
        bound = bounds.take(pa.array(np.minimum(tried, len(splitters)) - 1))
        reached = pc.greater_equal(paths, bound).to_numpy() & (tried <= len(splitters))
        ranges[reached] = tried[reached]
    return ranges


def _cut_known(files: list[str], group: range, splitters: Sequence[str]) -> Any:
    return _cut(splitters, known_images(files, group))


def _compare_pieces(compared: Callable[..., Any], listed: int, *pieces: pa.Table) -> Any:
    known = pa.concat_tables([KNOWN.empty_table(), *pieces[listed:]])
    counts, pending, edits = compared(
        pa.concat_tables([LISTED.empty_table(), *pieces[:listed]]), known
    )
    return (counts, len(pending), len(edits)), pending, edits


def carry_out(plan: ExtractionPlan) -> None:
    """Drop and change the rows that are stale or moved, before anything is described anew."""
    if not plan.edits:
        return
    if not any(isinstance(edits, ray.ObjectRef) for edits in plan.edits):
        apply_edits(plan.files, range(len(plan.files)), *plan.edits)
        return
    names = ray.put(plan.files)
    shortage = Shortage(planning_cpus())
    task = ray.remote(apply_edits).options(num_cpus=planning_cpus(), name="plan: change files")
    changes = [
        task.remote(names, range(at, min(at + _FILES_A_TASK, len(plan.files))), *plan.edits)
        for at in range(0, len(plan.files), _FILES_A_TASK)
    ]
    try:
        with shortage.told():
            ray.wait(changes)
        ray.get(changes)
    except RayTaskError as error:
        raise error.cause from error
