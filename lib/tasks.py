"""Many equal tasks: here one after another, or on Ray with a bounded number in flight."""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from lib.cluster import connect
from lib.nodes import Shortage, cluster_cpus, require_shared

if TYPE_CHECKING:
    from ray import ObjectRef

Item = TypeVar("Item")
Result = TypeVar("Result")

# To start Ray and its workers takes as long as a file of some 50,000 rows each of so many.
_FEW_ITEMS = 8


def run_bounded(
    submit: Callable[[Item], "ObjectRef"],
    take: Callable[[], Item | None],
    limit: Callable[[], int],
    more: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[Item, Future] | None]:
    """Run tasks with a bounded number in flight, in the order in which they end.

    submit: starts the task of an item. take: the next item, None where there is none just now; it
    is asked again after each end and each second, so that an item may be given twice. limit: tasks
    in flight, asked every other second. more: whether items may come when none is there and nothing
    in flight. Gives each item with its future, and None every second without an end. What is in
    flight is cancelled when the iteration is left early.

    An end costs the same however many are in flight; `ray.wait` looks through all of them.
    """
    import ray

    ended: SimpleQueue[tuple[Item, Future]] = SimpleQueue()
    running: dict[Future, ObjectRef] = {}
    allowed, asked = limit(), time.monotonic()
    try:
        while True:
            if time.monotonic() - asked > 2:
                allowed, asked = limit(), time.monotonic()
            while len(running) < allowed and (item := take()) is not None:
                reference = submit(item)
                future = reference.future()
                running[future] = reference
                future.add_done_callback(lambda done, item=item: ended.put((item, done)))
            if not running and not more():
                return
            try:
                item, future = ended.get(timeout=1)
            except Empty:
                yield None
                continue
            del running[future]
            yield item, future
    finally:
        for reference in running.values():
            ray.cancel(reference, recursive=False)


class Runner(Protocol):
    """How many equal tasks are run: `run_here`, `run_on_workers`, `run_where_it_pays`."""

    def __call__(
        self, function: Callable[..., Result], shared: Sequence[object], items: Iterable[Item]
    ) -> Iterator[Result]:
        """`function(*shared, item)` of each item, in any order."""


def run_here(
    function: Callable[..., Result], shared: Sequence[object], items: Iterable[Item]
) -> Iterator[Result]:
    """One item after another in this process: a `Runner`."""
    for item in items:
        yield function(*shared, item)


def run_where_it_pays(
    function: Callable[..., Result], shared: Sequence[object], items: Iterable[Item]
) -> Iterator[Result]:
    """Few items here, more on the workers of a Ray that is started or joined for it: a `Runner`."""
    source = iter(items)
    first = list(itertools.islice(source, _FEW_ITEMS + 1))
    if len(first) <= _FEW_ITEMS:
        yield from run_here(function, shared, first)
        return
    with connect():
        yield from run_on_workers(function, shared, itertools.chain(first, source))


def run_on_workers(
    function: Callable[..., Result], shared: Sequence[object], items: Iterable[Item]
) -> Iterator[Result]:
    """A Ray task for each item, results as they end: a `Runner`. Ray must be up.

    What the tasks share is stored once, not sent with each of them; twice as many are in flight as
    the cluster has CPUs, so that no worker waits. Raises what a task raised, and ImageSearchError
    where a path among what they share is not there on all nodes.
    """
    import ray
    from ray.exceptions import RayTaskError

    require_shared(*shared)
    task: Any = ray.remote(function)
    references = [ray.put(value) for value in shared]
    source = iter(items)
    shortage: Shortage | None = None
    if (first := next(source, None)) is not None:
        source, shortage = itertools.chain([first], source), Shortage(1)
    for ended in run_bounded(
        lambda item: task.remote(*references, item),
        lambda: next(source, None),
        lambda: 2 * cluster_cpus() + 2,
    ):
        if ended is not None:
            shortage = None
            try:
                yield ended[1].result()
            except RayTaskError as error:
                raise error.cause from error
        elif shortage:
            shortage.say()
