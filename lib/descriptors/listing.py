"""The listing of a source as tables: a small source is listed here, a large one in Ray tasks.

A task lists parts of the source for a while (`lib.images.listing.Listing`) and gives back those
that it did not come to, so that one large folder among small ones keeps nobody waiting. The tables
stay in Ray's object store: the driver holds references, and a few paths of each.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import ray
from fsspec.implementations.local import LocalFileSystem
from ray.exceptions import RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lib.cluster import cluster_cpus, run_bounded
from lib.cores import usable_cores
from lib.descriptors.shards import ExtractionSettings
from lib.images.addresses import allow_private_addresses, open_filesystem
from lib.images.listing import LISTED, Listing, Part, tabulate, whole
from lib.progress import Progress

_HERE_ROWS, _HERE_S = 100_000, 2.0  # no more is listed in this process
_TASK_ROWS, _TASK_S = 500_000, 10.0  # after which a task begins no other part
_MOST_PARTS = 64  # of a task
_SAMPLED_ROWS = 1_000  # of which one path is kept
_Place = tuple[int, ...]  # of parts in the source: sorts before what is inside, and what follows


class ListedTable(NamedTuple):
    """A table of LISTED, or a reference to one; its number of rows, and some of its paths."""

    table: Any
    rows: int
    paths: pa.Array

    @classmethod
    def of(cls, table: pa.Table) -> "ListedTable":
        """A table that lies in this process."""
        return cls(table, len(table), _some_paths(table))


def list_source(
    source: str, settings: ExtractionSettings, skipped: Counter[str]
) -> Iterator[ListedTable]:
    """The images of a source, see `lib.images.listing.list_images`; Ray must be up for large ones.

    `skipped` is complete when all tables were taken.
    """
    allow_private_addresses(settings.private_addresses)
    listing = Listing([whole(source)], settings.include_hidden, skipped)
    yield from map(ListedTable.of, tabulate(listing.items(_HERE_ROWS, _HERE_S)))
    if listing.parts:
        local = isinstance(open_filesystem(source)[0], LocalFileSystem)
        yield from _list_in_tasks(listing.parts, local, settings, skipped)


def _list_in_tasks(
    parts: Sequence[Part], local: bool, settings: ExtractionSettings, skipped: Counter[str]
) -> list[ListedTable]:
    """The tables of parts, in their order."""
    task: Any = ray.remote(_list_parts)
    options, workers = _options(local)
    tables: dict[_Place, ListedTable] = {}
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
    with Progress(None, "images listed") as progress:
        for ended in run_bounded(submit, lambda: waiting.pop() if waiting else None, workers):
            rows = 0
            if ended is not None:
                (place, listed), future = ended
                try:
                    rows, paths, left_out, rest = future.result()
                except RayTaskError as error:
                    raise error.cause from error
                table = references.pop(place)
                if rows:
                    tables[place] = ListedTable(table, rows, paths)
                skipped.update(left_out)
                wait(place, rest)
                done, left = done + len(listed), left - len(listed) + len(rest)
            progress.note = f"folders, archives, parts of lists: {done:,} done, {left:,} to do"
            progress.advance(rows)
    return [tables[place] for place in sorted(tables)]


def _options(local: bool) -> tuple[dict[str, Any], Callable[[], int]]:
    """What Ray is told of tasks that list, and how many of them are in flight."""
    if local:  # what this node has under a path, others need not have
        node = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        return {"num_cpus": 0, "scheduling_strategy": node}, usable_cores
    return {"num_cpus": planning_cpus()}, lambda: 2 * cluster_cpus() + 2


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
