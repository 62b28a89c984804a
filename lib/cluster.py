"""Ray as this project uses it: joined or started, what its nodes have, a bounded run of tasks."""

import itertools
import logging
import math
import os
import secrets
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from lib.errors import ImageSearchError

if TYPE_CHECKING:
    from ray import ObjectRef

Item = TypeVar("Item")
Result = TypeVar("Result")

_AUTOSCALER_WITHIN_S = 20.0  # after a head without a node for work answers
_HEAD_ANSWERS_WITHIN_S = 180.0  # it starts a worker process for it, on a machine that may be busy
# To start Ray and its workers takes as long as a file of some 50,000 rows each of so many.
_FEW_ITEMS = 8
_SOCKET_BYTES = 103 if sys.platform == "darwin" else 107  # of a socket's path
PROJECT_ROOT = Path(__file__).parents[1]


def choose_token() -> None:
    """Choose the token by which Ray knows its own; call it before ray is imported.

    `ray start` protects a cluster with the token of ~/.ray/auth_token wherever there is one, but a
    client shows it only where RAY_AUTH_MODE says so. (A cluster without tokens starts no actors for
    a client that shows one: RAY_AUTH_MODE=disabled joins it.) A Ray of this process alone gets a
    token of its own: Ray would make that file, which a home that cannot be written does not allow,
    and from which a later `ray start` would demand it.
    """
    if "RAY_AUTH_MODE" in os.environ:
        return
    if not os.environ.get("RAY_ADDRESS"):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    named = os.environ.keys() & {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}
    if named or (Path.home() / ".ray" / "auth_token").exists():
        os.environ["RAY_AUTH_MODE"] = "token"


@contextmanager
def connect() -> Iterator[None]:
    """Ray for the length of a `with` block.

    Joins the cluster that RAY_ADDRESS names (set inside a Ray job). Otherwise starts a Ray of its
    own in this process, without dashboard and with quiet logs, and stops it at the end. A Ray that
    already runs in this process is used as it is and left running. Raises ImageSearchError where
    RAY_ADDRESS names a cluster that does not let this process join.
    """
    os.environ.setdefault("RAY_DEDUP_LOGS", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS")
    if address:
        # A submitted job has brought its working directory along; any other driver sends this one.
        submitted = "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
        try:
            _reach(address)
            ray.init(
                address=address,
                log_to_driver=False,
                logging_level=logging.WARNING,
                runtime_env=None if submitted else {"working_dir": str(PROJECT_ROOT)},
            )
        except (OSError, ValueError) as error:
            reason = str(error).rstrip(".")
            raise ImageSearchError(
                f"RAY_ADDRESS is {address}: {reason}. Is the cluster up? If it demands a token, "
                "put that into ~/.ray/auth_token or RAY_AUTH_TOKEN here; to use this machine "
                "alone, unset RAY_ADDRESS"
            ) from error
    else:
        _require_room_for_sockets()
        with _imported_from_here():
            ray.init(
                address="local",
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    try:
        yield
    finally:
        ray.shutdown()


def starts_here() -> bool:
    """Whether `connect` would start a Ray of its own in this process."""
    ray = sys.modules.get("ray")
    return not os.environ.get("RAY_ADDRESS") and not (ray and ray.is_initialized())


def _require_room_for_sockets() -> None:
    """Raise ImageSearchError where Ray's directory has too long a name for sockets in it."""
    variable = "RAY_TMPDIR" if "RAY_TMPDIR" in os.environ else "TMPDIR"
    parent = os.environ.get(variable, "/tmp")
    longest = f"{parent}/ray/session_2000-01-01_00-00-00_000000_0000000/sockets/plasma_store"
    if len(os.fsencode(longest)) > _SOCKET_BYTES:
        raise ImageSearchError(
            f"{variable} is {parent}, too long a name for the sockets that Ray makes below it: set "
            f"{variable} to a shorter one, such as /tmp"
        )


def _reach(address: str) -> None:
    """Raise OSError where nothing listens at HOST:PORT; Ray would try for two minutes."""
    host, _, port = address.rpartition(":")
    if port.isdigit() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def import_path() -> str:
    """PYTHONPATH of a process that is to import lib from where this one does."""
    return os.pathsep.join(filter(None, [str(PROJECT_ROOT), os.environ.get("PYTHONPATH")]))


@contextmanager
def _imported_from_here() -> Iterator[None]:
    """Processes that start meanwhile, and theirs, import lib from where this one does.

    Ray's runtime environment could say so, too, but then no process that Ray keeps ready would do:
    a worker is at work a second later.
    """
    inherited = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = import_path()
    try:
        yield
    finally:
        if inherited is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = inherited


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
    up = _nodes_for_work()
    shapes = dict.fromkeys(up, 0)
    for size, most in _node_types().items():
        shapes[size] = shapes.get(size, 0) + most
    return [
        NodeShape(*size, max(most, len(up.get(size, ()))), tuple(up.get(size, ())))
        for size, most in shapes.items()
    ]


def _nodes_for_work() -> dict[tuple[float, float], list[str]]:
    """Ids of the nodes that are up and have CPUs or GPUs, by how many."""
    import ray

    up: dict[tuple[float, float], list[str]] = {}
    for node in ray.nodes():
        size = node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0)
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
        if _nodes_for_work() or time.monotonic() > deadline:
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
                future.add_done_callback(partial(_put, ended, item))
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


def _put(ended: SimpleQueue[tuple[Item, Future]], item: Item, future: Future) -> None:
    ended.put((item, future))


def cluster_cpus() -> int:
    """CPUs of all nodes that are up, at least 1. Ray must be up."""
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1)))


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
