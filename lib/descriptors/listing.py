"""The listing of a source as tables: a small source is listed here, a large one in Ray tasks.

A task lists parts of the source for a while (`lib.images.listing.Listing`) and gives back those
that it did not come to, so that one large folder among small ones keeps nobody waiting. The tables
stay in Ray's object store: the driver holds references, and a few paths of each.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from concurrent.futures import Future
from contextlib import ExitStack, closing, suppress
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import ray
from fsspec.implementations.local import LocalFileSystem
from ray.exceptions import RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lib.cores import usable_cores
from lib.descriptors.shards import ExtractionSettings
from lib.images.addresses import allow_private_addresses, open_filesystem
from lib.images.listed import LISTED, tabulate
from lib.images.listing import Listing, Part, whole
from lib.nodes import cluster_cpus
from lib.progress import Progress
from lib.tasks import run_bounded

_HERE_ROWS, _HERE_S = 100_000, 2.0  # no more is listed in this process
_TASK_ROWS, _TASK_S = 500_000, 10.0  # after which a task begins no other part
_MOST_PARTS = 64  # of a task
_SAMPLED_ROWS = 1_000  # of which one path is kept
_Place = tuple[int, ...]  # of parts in the source: sorts before what is inside, and what follows
_HERE = -1  # what this process listed is before all that tasks list


class ListedTable(NamedTuple):
    """A table of LISTED, or a reference to one; its number of rows, and some of its paths."""

    table: Any
    rows: int
    paths: pa.Array

    @classmethod
    def of(cls, table: pa.Table) -> "ListedTable":
        """A table that lies in this process."""
        return cls(table, len(table), _some_paths(table))


class Arrival(NamedTuple):
    """What came of a listing just now; without a table every second in which none came."""

    place: _Place  # of its images in the source
    table: ListedTable | None
    note: str  # how far the tasks are, empty before there are any


def list_source(
    source: str, settings: ExtractionSettings, skipped: Counter[str]
) -> list[ListedTable]:
    """The images of a source, see `lib.images.listing.list_images`; Ray must be up for large ones.

    `skipped` counts what is left out.
    """
    with closing(BackgroundListing(source, settings, skipped)) as listing:
        listing.watch()
        return listing.result()


def list_piecemeal(
    source: str, settings: ExtractionSettings, skipped: Counter[str]
) -> Iterator[Arrival]:
    """The tables of `list_source` as they come, those of tasks in no order."""
    allow_private_addresses(settings.private_addresses)
    listing = Listing([whole(source)], settings.include_hidden, skipped)
    for at, table in enumerate(tabulate(listing.items(_HERE_ROWS, _HERE_S))):
        yield Arrival((_HERE, at), ListedTable.of(table), "")
    if listing.parts:
        local = isinstance(open_filesystem(source)[0], LocalFileSystem)
        yield from _list_in_tasks(listing.parts, local, settings, skipped)


class BackgroundListing:
    """A source listed by a thread, for which others work meanwhile; see `list_piecemeal`."""

    def __init__(self, source: str, settings: ExtractionSettings, skipped: Counter[str]) -> None:
        self.tables: dict[_Place, ListedTable] = {}  # all that came
        self.rows = 0  # of these
        self.note = ""  # how far the tasks are
        self._arrived: SimpleQueue[tuple[_Place, ListedTable]] = SimpleQueue()
        self._taken: set[_Place] = set()
        self._closed = False
        self._end: Future[None] = Future()
        # A daemon, so that Ctrl-C does not wait for a store that gives no answer.
        listing = partial(self._list, source, settings, skipped)
        Thread(target=self._run, args=(listing,), name="listing", daemon=True).start()

    def _run(self, listing: Callable[[], None]) -> None:
        try:
            listing()
        except BaseException as error:
            self._end.set_exception(error)
        else:
            self._end.set_result(None)

    def _list(self, source: str, settings: ExtractionSettings, skipped: Counter[str]) -> None:
        for place, table, self.note in list_piecemeal(source, settings, skipped):
            if self._closed:
                return
            if table is not None:
                self.tables[place] = table
                self.rows += table.rows
                self._arrived.put((place, table))

    @property
    def done(self) -> bool:
        """Whether it has ended, well or not."""
        return self._end.done()

    def watch(self, rows: float = math.inf) -> bool:
        """Show how far it is until it has ended, or so many rows came; whether it has ended.

        Raises what the listing raised.
        """
        with ExitStack() as stack:
            progress = None
            while futures.wait([self._end], 1.0).not_done and self.rows < rows:
                progress = progress or stack.enter_context(Progress(None, "images listed"))
                progress.note = self.note
                progress.advance(self.rows - progress.done)
            if progress is not None:
                progress.done = self.rows
        if self.done:
            self._end.result()
        return self.done

    def take(self) -> ListedTable | None:
        """A table that nobody took yet, None where there is none just now, nor after the end."""
        if self.done:
            return None
        with suppress(Empty):
            place, table = self._arrived.get_nowait()
            self._taken.add(place)
            return table
        return None

    def result(self) -> list[ListedTable]:
        """All tables, those that were taken first, each in the order of their places."""
        ordered = sorted(self.tables, key=lambda place: (place not in self._taken, place))
        return [self.tables[place] for place in ordered]

    def close(self) -> None:
        """End it within a second or two."""
        self._closed = True


def _list_in_tasks(
    parts: Sequence[Part], local: bool, settings: ExtractionSettings, skipped: Counter[str]
) -> Iterator[Arrival]:
    """The tables of parts as they come."""
    task: Any = ray.remote(_list_parts)
    options, workers = _options(local)
    references: dict[_Place, Any] = {}
    waiting: list[tuple[_Place, Sequence[Part]]] = []

    def wait(place: _Place, parts: Sequence[Part]) -> None:
        size = min(-(-len(parts) // workers()), _MOST_PARTS) or 1
        pieces = [((*place, at), parts[at : at + size]) for at in range(0, len(parts), size)]
        waiting.extend(reversed(pieces))

    def submit(item: tuple[_Place, Sequence[Part]]) -> Any:
        place, parts = item
        named = task.options(num_returns=2, name=f"plan: list {parts[0].name}", **options)
        summary, references[place] = named.remote(parts, settings, _TASK_ROWS, _TASK_S)
        return summary

    wait((), parts)
    done, left = 0, len(parts)
    for ended in run_bounded(submit, lambda: waiting.pop() if waiting else None, workers):
        place: _Place = ()
        table = None
        if ended is not None:
            (place, listed), future = ended
            try:
                rows, paths, left_out, rest = future.result()
            except RayTaskError as error:
                raise error.cause from error
            reference = references.pop(place)
            if rows:
                table = ListedTable(reference, rows, paths)
            skipped.update(left_out)
            wait(place, rest)
            done, left = done + len(listed), left - len(listed) + len(rest)
        note = f"folders, archives, parts of lists: {done:,} done, {left:,} to do"
        yield Arrival(place, table, note)


def _options(local: bool) -> tuple[dict[str, Any], Callable[[], int]]:
    """What Ray is told of tasks that list, and how many of them are in flight."""
    if local:  # what this node has under a path, others need not have
        node = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        return {"num_cpus": 0, "scheduling_strategy": node}, usable_cores
    # It waits for storage: tasks that extract meanwhile need the CPUs, whole nodes of them.
    return {"num_cpus": 0, "scheduling_strategy": "SPREAD"}, lambda: max(2, cluster_cpus())


def _list_parts(
    parts: Sequence[Part], settings: ExtractionSettings, rows: float, seconds: float
) -> tuple[tuple[int, pa.Array, Counter[str], list[Part]], pa.Table]:
    """The images of parts as a table, and what there is to say of it; what is left is last."""
    allow_private_addresses(settings.private_addresses)
    listing = Listing(parts, settings.include_hidden)
    tables = tabulate(listing.items(rows, seconds))
    table = pa.concat_tables([LISTED.empty_table(), *tables])
    return (len(table), _some_paths(table), listing.skipped, listing.parts), table


def _some_paths(table: pa.Table) -> pa.Array:
    return table["path"].take(np.arange(0, len(table), _SAMPLED_ROWS)).combine_chunks()


def planning_cpus() -> int:
    """What a task takes that plans: it starts no machines."""
    return 1 if ray.cluster_resources().get("CPU") else 0
