"""A function over many items, in this process or in Ray tasks: who is given one knows no Ray."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from lib.cluster import cluster_cpus, run_bounded

Item = TypeVar("Item")
Result = TypeVar("Result")


class Runner(Protocol):
    """How many equal tasks are run: `run_here`, `run_on_workers`."""

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


def run_on_workers(
    function: Callable[..., Result], shared: Sequence[object], items: Iterable[Item]
) -> Iterator[Result]:
    """A Ray task for each item, results as they end: a `Runner`. Ray must be up.

    What the tasks share is stored once, not sent with each of them; twice as many are in flight as
    the cluster has CPUs, so that no worker waits. Raises what a task raised.
    """
    import ray
    from ray.exceptions import RayTaskError

    task: Any = ray.remote(function)
    references = [ray.put(value) for value in shared]
    source = iter(items)
    for ended in run_bounded(
        lambda item: task.remote(*references, item),
        lambda: next(source, None),
        lambda: 2 * cluster_cpus() + 2,
    ):
        if ended is not None:
            try:
                yield ended[1].result()
            except RayTaskError as error:
                raise error.cause from error
