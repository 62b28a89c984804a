"""What a worker takes of a node, which nodes take shards, and how many shards are in flight."""

import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lib.descriptors.shards import ExtractionSettings, workers_at_a_gpu
from lib.nodes import NodeShape, Shortage, node_shapes, require_workers, resources_in_words

_HELP_AFTER_S = 300
_MOST_AHEAD = 1_000  # shards that wait so that an autoscaler sees the demand


def size_of_workers(settings: ExtractionSettings, shapes: list[NodeShape]) -> ExtractionSettings:
    """Settings with the CPUs and GPUs of a worker filled in, as the cluster is or can become.

    A GPU's share where any node has one or may come with one, see `workers_at_a_gpu`, and with it
    that share of the node's CPUs, the smallest where nodes differ; otherwise one CPU.
    """
    gpus = settings.gpus_per_worker
    if gpus is None:
        beside = [shape.cpus / shape.gpus for shape in shapes if shape.gpus >= 1]
        # Ray counts in 1/10,000.
        gpus = int(10_000 / workers_at_a_gpu(min(beside))) / 10_000 if beside else 0.0
    cpus = settings.cpus_per_worker
    if cpus is None:
        shares = [int(s.cpus * gpus / s.gpus + 0.01) for s in shapes if gpus and s.gpus >= gpus]
        cpus = max(1, min(shares, default=1))
    return replace(settings, cpus_per_worker=cpus, gpus_per_worker=gpus)


@dataclass(frozen=True)
class Place:
    """Where a shard may go: any node of the right shape, or one that is named."""

    settings: ExtractionSettings
    node: str = ""


class Placement:
    """Hands each shard a place. Ray must be up.

    With GPUs, tasks ask for one and for its share of CPUs, which is also the demand that makes an
    autoscaler add such nodes. Nodes without a GPU that are up take shards too, each by name: a task
    that asks for a CPU alone might as well take one from a node whose GPU needs it.
    """

    def __init__(self, settings: ExtractionSettings) -> None:
        """Raises ImageSearchError where no node can hold a worker as asked for."""
        self._shapes = node_shapes()
        self._size = size_of_workers(settings, self._shapes)
        self._mixed = settings.gpus_per_worker is None and bool(self._size.gpus_per_worker)
        require_workers(
            1,
            self._size.cpus,
            self._size.gpus,
            "Give --cpus-per-worker and --gpus-per-worker that fit a node",
        )
        self._in_flight: Counter[Place] = Counter()
        self._started = time.monotonic()
        self._windows: dict[Place, int] = {}
        self._shortage: Shortage | None = None
        self.room()

    @property
    def gpus(self) -> float:
        """GPUs that a worker takes, on nodes that have any."""
        return self._size.gpus

    @property
    def gpus_alone(self) -> bool:
        """Whether every worker has a GPU."""
        cpus_alone = self._mixed and any(not shape.gpus and shape.nodes for shape in self._shapes)
        return self._size.gpus > 0 and not cpus_alone

    def __str__(self) -> str:
        nodes = ", ".join(map(str, self._shapes)) or "nothing yet"
        return (
            f"each worker takes {self._words} (--gpus-per-worker, --cpus-per-worker); "
            f"the cluster has, or can have, {nodes}"
        )

    @property
    def _words(self) -> str:
        return resources_in_words(self._size.cpus, self._size.gpus)

    def begin(self) -> None:
        """Look whether others left room; the first shard comes next."""
        beside = self._mixed and not self.gpus_alone  # nodes without a GPU, see `room`
        self._shortage = Shortage(1) if beside else Shortage(self._size.cpus, self._size.gpus)

    def room(self) -> int:
        """Shards in flight: no worker waits, and a cluster that can grow sees the demand."""
        self._shapes = node_shapes()
        cpus, gpus = self._size.cpus, self._size.gpus
        up = sum(shape.fits(cpus, gpus) * len(shape.nodes) for shape in self._shapes)
        most = sum(shape.fits(cpus, gpus) * shape.most for shape in self._shapes)
        ahead = max(up + 2, min(most, _MOST_AHEAD))
        self._windows = {Place(self._size): up + ahead}
        if self._mixed:
            single = replace(self._size, cpus_per_worker=1, gpus_per_worker=0.0)
            self._windows |= {
                Place(single, node): 2 * int(shape.cpus)
                for shape in self._shapes
                if not shape.gpus
                for node in shape.nodes
            }
        self._up = up > 0 or len(self._windows) > 1
        return sum(self._windows.values())

    def take(self) -> Place:
        """The place with the most room for one more shard."""
        place = min(self._windows, key=lambda p: self._in_flight[p] / self._windows[p])
        self._in_flight[place] += 1
        return place

    def leave(self, place: Place) -> None:
        """A shard is done there."""
        self._in_flight[place] -= 1
        self._shortage = None

    def waiting(self) -> str:
        """What the run waits for, in words; empty where a worker has, or should have, begun."""
        if self._up:
            self._started = time.monotonic()
            return str(self._shortage or "")
        waited = time.monotonic() - self._started
        text = f"waiting for a node with {self._words}, {waited:.0f} s"
        if waited > _HELP_AFTER_S:
            text += (
                "; `ray status` says whether one is coming; --gpus-per-worker 0 and "
                "--cpus-per-worker 1 ask for less"
            )
        return text


def options_of(place: Place) -> dict[str, Any]:
    """Options of a Ray task there."""
    options: dict[str, Any] = {"num_cpus": place.settings.cpus}
    if place.settings.gpus:
        options["num_gpus"] = place.settings.gpus
        environment = {"RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1"}
        options["runtime_env"] = {"env_vars": environment}
    if place.node:
        options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(place.node, soft=False)
    return options
