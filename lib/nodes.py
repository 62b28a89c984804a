"""What the nodes of a cluster have, and what its autoscaler can add to them."""

import math
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lib.errors import ImageSearchError
from lib.storage import delete, exists, is_local, join, write_bytes_atomic

_AUTOSCALER_WITHIN_S = 20.0  # after a head without a node for work answers
_NODES_ANSWER_WITHIN_S = 60.0
_HEAD_ANSWERS_WITHIN_S = 180.0  # it starts a worker process for it, on a machine that may be busy
_GIVEN_BACK_WITHIN_S = 1.0  # what tasks of this process took that ended just now
_SAID_EVERY_S = 30.0


@dataclass(frozen=True)
class NodeShape:
    """Nodes that are alike: what one has for work, and how many there are or may be at most."""

    cpus: float
    gpus: float
    most: int
    nodes: tuple[str, ...] = ()  # ids of those that are up

    def fits(self, cpus: float, gpus: float) -> int:
        """How many workers of a size one such node holds."""
        return int(min(self.cpus // cpus if cpus else math.inf, self.gpus // gpus if gpus else 1e9))

    def __str__(self) -> str:
        return f"{self.most} × {resources_in_words(self.cpus, self.gpus)}"


def resources_in_words(cpus: float, gpus: float) -> str:
    """Such as "1 GPU and 16 CPUs"."""
    cores = f"{cpus:g} CPU{'' if cpus == 1 else 's'}"
    return f"{gpus:g} GPU{'' if gpus == 1 else 's'} and {cores}" if gpus else cores


def node_shapes() -> list[NodeShape]:
    """What the cluster has, and what its autoscaler may add to it. Ray must be up."""
    up = _sizes_of_nodes()
    shapes = dict.fromkeys(up, 0)
    for size, most in _node_types().items():
        shapes[size] = shapes.get(size, 0) + most
    return [
        NodeShape(*size, max(most, len(up.get(size, ()))), tuple(up.get(size, ())))
        for size, most in shapes.items()
    ]


def _sizes_of_nodes() -> dict[tuple[float, float], list[str]]:
    """Ids of the nodes that are up and have CPUs or GPUs, by how many."""
    import ray

    up: dict[tuple[float, float], list[str]] = {}
    for node in ray.nodes():
        size = _cpus_and_gpus(node["Resources"])
        if node["Alive"] and any(size):
            up.setdefault(size, []).append(node["NodeID"])
    return up


def can_grow() -> bool:
    """Whether an autoscaler is known that adds nodes, or the cluster still waits for its first."""
    return bool(_node_types()) or not any(shape.nodes for shape in node_shapes())


def _node_types() -> dict[tuple[float, float], int]:
    """CPUs and GPUs of the nodes that the autoscaler can start, and how many of each."""
    import ray

    return _node_types_of(ray.get_runtime_context().get_job_id())


@lru_cache(maxsize=1)
def _node_types_of(job: str) -> dict[tuple[float, float], int]:
    from ray._private.state import state

    reported = state.get_cluster_config()  # where a platform tells Ray; `ray up`, KubeRay do not
    if reported is not None and (
        types := _sum_types(
            (dict(group.resources), group.max_count if group.max_count >= 0 else 1_000)
            for group in reported.node_group_configs
        )
    ):
        return types
    if os.environ.get("RAY_ADDRESS") in (None, "", "local"):
        return {}
    deadline = None
    while not (config := _ask_head()):
        # A head without a node for work may have been started just now, its autoscaler not yet.
        deadline = deadline or time.monotonic() + _AUTOSCALER_WITHIN_S
        if _sizes_of_nodes() or time.monotonic() > deadline:
            return {}
        time.sleep(1)
    most = config.get("max_workers", 1_000)
    return _sum_types(
        (kind.get("resources", {}), min(kind.get("max_workers", most), most))
        for name, kind in config.get("available_node_types", {}).items()
        if name != config.get("head_node_type")
    )


def _ask_head() -> dict[str, Any]:
    """`_autoscaling_config` of the head; empty, and said so, where it does not answer."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    for node in ray.nodes():
        if node["Alive"] and "node:__internal_head__" in node["Resources"]:
            affinity = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ask = ray.remote(num_cpus=0, max_retries=1)(_autoscaling_config)
            try:
                answer = ask.options(scheduling_strategy=affinity).remote()
                return ray.get(answer, timeout=_HEAD_ANSWERS_WITHIN_S)
            except (ray.exceptions.RayError, ray.exceptions.GetTimeoutError) as error:
                print(
                    "the head of the cluster does not say which nodes its autoscaler can add "
                    f"({type(error).__name__}): only what is up counts, or what is asked for",
                    file=sys.stderr,
                    flush=True,
                )
    return {}


def _sum_types(
    types: Iterable[tuple[Mapping[str, float], int]],
) -> dict[tuple[float, float], int]:
    counts: dict[tuple[float, float], int] = {}
    for resources, most in types:
        size = float(resources.get("CPU", 0)), float(resources.get("GPU", 0))
        if most > 0 and any(size):
            counts[size] = counts.get(size, 0) + most
    return counts


def _autoscaling_config() -> dict[str, Any]:
    """What the autoscaler was told, read on the head: KubeRay's resource, else `ray start`'s file.

    Empty where there is no autoscaler, or where it cannot be read.
    """
    import yaml

    secrets_of_pod = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
    if "RAY_CLUSTER_NAME" in os.environ and secrets_of_pod.exists():
        from ray.autoscaler._private.kuberay.autoscaling_config import AutoscalingConfigProducer

        cluster, namespace = os.environ["RAY_CLUSTER_NAME"], secrets_of_pod.read_text().strip()
        try:
            return AutoscalingConfigProducer(cluster, namespace)()
        except Exception:  # whatever the API server says: what is up is known without it
            return {}
    mark = "--autoscaling-config="
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = process.read_bytes().decode(errors="replace").split("\0")
            named = [word.removeprefix(mark) for word in words if word.startswith(mark)]
            if named and any("monitor.py" in word for word in words):
                return yaml.safe_load(Path(named[0]).expanduser().read_text()) or {}
        except (OSError, yaml.YAMLError):
            continue
    return {}


def nodes_for_work() -> list[dict[str, Any]]:
    """What Ray knows of each node that is up and has CPUs. Ray must be up."""
    import ray

    return [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) > 0]


def ask_all(
    nodes: list[dict[str, Any]], question: Callable[..., Any], *arguments: Any
) -> list[Any]:
    """The answer of a process on each node; None of one that does not answer in time."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=0)(question)
    answers: list[Any] = []
    references = [
        task.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(*arguments)
        for node in nodes
    ]
    ready, _ = ray.wait(references, num_returns=len(references), timeout=_NODES_ANSWER_WITHIN_S)
    for reference in references:
        try:
            answers.append(ray.get(reference) if reference in ready else None)
        except ray.exceptions.RayError:
            answers.append(None)
    return answers


@contextmanager
def marked(directory: str) -> Iterator[str]:
    """A file in a directory, by which a process elsewhere knows whether it sees the same one."""
    mark = join(directory, f".mark-{uuid.uuid4().hex}")
    write_bytes_atomic(mark, b"here")
    try:
        yield mark
    finally:
        delete(mark)


def require_shared(*places: object, written: str | None = None) -> None:
    """Raise ImageSearchError where a node for work does not see what lies here.

    places: of these the absolute paths at which this process sees something; written: a directory,
    in which it makes a file to look for. What such a node wrote would be lost, and what it does not
    find would be taken for damaged or gone. Only nodes that are up are asked. Ray must be.
    """
    if not os.environ.get("RAY_ADDRESS"):
        return
    nodes = nodes_for_work()
    with ExitStack() as marks:
        files = {p: p for p in places if isinstance(p, str) and Path(p).is_absolute() and exists(p)}
        if written and is_local(written):
            files[written] = marks.enter_context(marked(written))
        for name, file in files.items():
            answers = zip(nodes, ask_all(nodes, exists, file), strict=True)
            if blind := {node["NodeManagerAddress"] for node, seen in answers if seen is False}:
                raise ImageSearchError(
                    f"{name} is here, but not on {', '.join(sorted(blind))} of the cluster: use a "
                    "directory that all nodes share, or a URL such as s3://bucket/name; to use "
                    "this machine alone, unset RAY_ADDRESS"
                )


def require_workers(workers: int, cpus: float, gpus: float, remedy: str) -> None:
    """Raise ImageSearchError where so many workers of a size can never run at once.

    The message says what is asked for and what there is, or can be. Ray must be up.
    """
    shapes = node_shapes()
    room = sum(shape.fits(cpus, gpus) * shape.most for shape in shapes)
    if room >= workers:
        return
    worker = f"{workers} workers of {resources_in_words(cpus, gpus)} each"
    if workers == 1:
        worker = f"a worker of {resources_in_words(cpus, gpus)}"
    has = ", ".join(map(str, shapes)) or "no node for work"
    if can_grow() and not _node_types():
        print(f"asked for: {worker}; the cluster has {has} yet", file=sys.stderr, flush=True)
        return
    can = "can have" if _node_types() else "has"
    raise ImageSearchError(f"asked for: {worker}; the cluster {can} {has}. {remedy}")


class Shortage:
    """Whether others held what a first task takes when work began; make it before that task.

    Ray tells how much is free, not who holds the rest: before the first task that is others.
    """

    def __init__(self, cpus: float, gpus: float = 0.0) -> None:
        """Look at what is free. Ray must be up."""
        import ray

        self._asked = resources_in_words(cpus, gpus)
        self._there, self._free = "", ""
        self._started = time.monotonic()
        self._said = -math.inf
        there = NodeShape(*_cpus_and_gpus(ray.cluster_resources()), 1)
        if not there.fits(cpus, gpus):  # a node is missing: that is no matter of others
            return
        while not (free := NodeShape(*_cpus_and_gpus(ray.available_resources()), 1)).fits(
            cpus, gpus
        ):
            if time.monotonic() - self._started > _GIVEN_BACK_WITHIN_S:
                self._there = resources_in_words(there.cpus, there.gpus)
                self._free = resources_in_words(free.cpus, free.gpus)
                return
            time.sleep(0.05)

    def __str__(self) -> str:
        """What is waited for, until the first task ends; empty where it found room."""
        if not self._there:
            return ""
        waited = time.monotonic() - self._started
        return (
            f"waiting for {self._asked}, {waited:.0f} s: of the cluster's {self._there}, "
            f"{self._free} were free when this began; other jobs and services hold the rest "
            "(`ray status` shows how much is taken)"
        )

    def say(self) -> None:
        """Say so on stderr, every half minute of many calls."""
        now = time.monotonic()
        if now - self._said >= _SAID_EVERY_S and (text := str(self)):
            tqdm.write(text, file=sys.stderr)  # above a bar, where there is one
            self._said = now

    @contextmanager
    def told(self) -> Iterator[None]:
        """Say so as long as what waits has not come to the end of a `with` block."""
        over = threading.Event()

        def tell() -> None:
            while not over.wait(1):
                self.say()

        threading.Thread(target=tell, daemon=True).start()
        try:
            yield
        finally:
            over.set()


def _cpus_and_gpus(resources: Mapping[str, float]) -> tuple[float, float]:
    return resources.get("CPU", 0.0), resources.get("GPU", 0.0)


def cluster_cpus() -> int:
    """CPUs of all nodes that are up, at least 1. Ray must be up."""
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1)))
