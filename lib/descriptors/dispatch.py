"""Shards handed to Ray's workers, and handed out again where a process or a node dies."""

from collections import Counter, deque
from collections.abc import Callable, Iterator

import ray
from ray.exceptions import OutOfMemoryError, RayTaskError, TaskUnschedulableError

from lib.descriptors.placement import Place, Placement, options_of
from lib.descriptors.shard_files import record_crash
from lib.descriptors.shards import Shard, ShardReport
from lib.descriptors.worker import BackbonePayload, extract_shard
from lib.errors import ImageSearchError
from lib.tasks import run_bounded

# A shard whose process died this often is cut in two, down to the image that kills it.
_CRASHES_UNTIL_CUT = 3
_SUSPECTS_UNTIL_JUDGED = 3


class Workers:
    """Where shards may go, and what a worker needs, which lies in Ray's object store."""

    def __init__(self, placement: Placement, payload: BackbonePayload) -> None:
        self.placement = placement
        origin, forms = payload.origin, payload.forms
        self.digest = f"{origin.weights_digest} {origin.preprocessing} {forms.digest}"
        self.package = [ray.put(payload)]  # in a list, so that Ray hands on the reference


def dispatch(
    shards: Iterator[Shard | None],
    db: str,
    workers: Workers,
    more: Callable[[], bool] = lambda: False,
) -> Iterator[ShardReport | None]:
    """Extract shards on Ray's workers, a bounded number at a time.

    shards: None among them where there is none just now; more: whether one may still come.
    Gives a report for each finished shard, and None every second without one. A shard whose
    process or node died is handed out again. Raises what a worker raised, such as OSError where
    the storage refuses, and ImageSearchError where no node can hold a worker, or where Ray ends
    worker after worker because memory is short: that is no image's fault.
    """
    placement = workers.placement
    placement.begin()
    again: deque[Shard] = deque()
    crashes: Counter[str] = Counter()
    places: dict[str, Place] = {}
    suspects = _Suspects()

    def take() -> Shard | None:
        # What crashed comes first, so that an image is found before other shards are cut; where it
        # may have been for want of memory, how others fare.
        if again and not suspects.held:
            return again.popleft()
        fresh = next(shards, None)
        return again.popleft() if again and fresh is None else fresh

    def submit(shard: Shard) -> "ray.ObjectRef[ShardReport]":
        place = places[shard.name] = placement.take()
        task = extract_shard.options(
            name=f"extract shard {shard.position:012}", **options_of(place)
        )
        return task.remote(workers.package, workers.digest, place.settings, db, shard)

    for ended in run_bounded(submit, take, placement.room, more):
        if ended is None:
            yield None
            continue
        shard, future = ended
        placement.leave(places.pop(shard.name))
        error = future.exception()
        if error is None:
            yield future.result()
            for suspect in suspects.clear():
                yield record_crash(db, *suspect)
        elif isinstance(error, RayTaskError):
            raise error.cause from error
        elif isinstance(error, TaskUnschedulableError):  # the node that it was meant for is gone
            again.append(shard)
        else:
            of_memory = isinstance(error, OutOfMemoryError)
            suspects.count(of_memory, fresh=not crashes[shard.name])
            crashes[shard.name] += 1
            if crashes[shard.name] < _CRASHES_UNTIL_CUT:
                again.appendleft(shard)
            elif len(shard.images) == 1 and of_memory:
                for suspect in suspects.add(shard, error):
                    yield record_crash(db, *suspect)
            elif len(shard.images) == 1:
                yield record_crash(db, shard, error)
            else:
                for half in shard.halves():
                    # A half is tried once before it is cut, a single image twice.
                    crashes[half.name] = _CRASHES_UNTIL_CUT - (2 if len(half.images) < 2 else 1)
                    again.appendleft(half)
    for suspect in suspects.judged():
        yield record_crash(db, *suspect)


class _Suspects:
    """Images whose workers Ray ended for want of memory.

    They are to blame where others are extracted, before or after; where others fare no better, it
    is the node that has too little.
    """

    def __init__(self) -> None:
        self.held: list[tuple[Shard, BaseException]] = []
        self._ended = 0  # workers, for want of memory, since a shard was finished
        self._others_too = False  # a fresh shard among them
        self._any_finished = False

    def count(self, of_memory: bool, fresh: bool) -> None:
        """A worker died, with a shard that had not crashed before, or with another."""
        self._ended += of_memory
        self._others_too |= of_memory and fresh and bool(self.held)

    def clear(self) -> list[tuple[Shard, BaseException]]:
        """A shard was finished: those that are to blame."""
        self._any_finished, self._others_too, self._ended = True, False, 0
        return self.judged()

    def add(self, shard: Shard, error: BaseException) -> list[tuple[Shard, BaseException]]:
        """One more; gives those that are to blame. Raises ImageSearchError where the node is."""
        self.held.append((shard, error))
        return self.judged() if len(self.held) >= _SUSPECTS_UNTIL_JUDGED else []

    def judged(self) -> list[tuple[Shard, BaseException]]:
        """See `add`."""
        if len(self.held) > 1 and (self._others_too or not self._any_finished):
            shard, error = self.held[-1]
            raise ImageSearchError(_of_memory(self._ended, error, shard)) from error
        held, self.held = self.held, []
        return held


def _of_memory(starved: int, error: BaseException, last: Shard) -> str:
    says = next((line for line in str(error).splitlines() if "threshold" in line), str(error))
    return (
        f"Ray ended {starved} workers one after another because memory was short, and no shard was "
        f"finished meanwhile: {says.split('. ')[0]}. What is described is kept, and a rerun goes "
        "on. A greater --cpus-per-worker lets fewer workers share a node; else give nodes more "
        "memory, or end what else takes it; or move away images that are far larger than others, "
        f"such as perhaps {last.images[0].path}"
    )
