"""Shards handed to Ray's workers, and handed out again where a process or a node dies."""

from collections import Counter, deque
from collections.abc import Iterator

import ray
from ray.exceptions import RayTaskError, TaskUnschedulableError

from lib.cluster import run_bounded
from lib.descriptors.placement import Place, Placement, options_of
from lib.descriptors.shards import Shard, ShardReport
from lib.descriptors.worker import BackbonePayload, extract_shard, record_crash

# A shard whose process died this often is cut in two, down to the image that kills it.
_CRASHES_UNTIL_CUT = 3


def dispatch(
    shards: Iterator[Shard], db: str, payload: BackbonePayload, placement: Placement
) -> Iterator[ShardReport | None]:
    """Describe shards on Ray's workers, a bounded number at a time.

    Gives a report for each finished shard, and None every second without one. A shard whose
    process or node died is handed out again. Raises what a worker raised, such as OSError where
    the storage refuses, and ImageSearchError where no node can hold a worker.
    """
    package = [ray.put(payload)]
    again: deque[Shard] = deque()
    crashes: Counter[str] = Counter()
    places: dict[str, Place] = {}
    digest = f"{payload.bare.weights_digest} {payload.bare.preprocessing} {payload.forms.digest}"

    def submit(shard: Shard) -> "ray.ObjectRef[ShardReport]":
        place = places[shard.name] = placement.take()
        task = extract_shard.options(
            name=f"extract shard {shard.position:012}", **options_of(place)
        )
        return task.remote(package, digest, place.settings, db, shard)

    def take() -> Shard | None:
        return again.popleft() if again else next(shards, None)

    for ended in run_bounded(submit, take, placement.room):
        if ended is None:
            yield None
            continue
        shard, future = ended
        placement.leave(places.pop(shard.name))
        error = future.exception()
        if error is None:
            yield future.result()
        elif isinstance(error, RayTaskError):
            raise error.cause from error
        elif isinstance(error, TaskUnschedulableError):  # the node that it was meant for is gone
            again.append(shard)
        else:
            crashes[shard.name] += 1
            if crashes[shard.name] < _CRASHES_UNTIL_CUT:
                again.append(shard)
            elif len(shard.images) == 1:
                yield record_crash(db, shard, error)
            else:
                for half in shard.halves():
                    # A half is tried once before it is cut, a single image twice.
                    crashes[half.name] = _CRASHES_UNTIL_CUT - (2 if len(half.images) < 2 else 1)
                    again.append(half)
