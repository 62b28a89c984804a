"""A database version held by processes of Ray, one or one a node, and searched as one."""

import logging
import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import ray
from ray.exceptions import GetTimeoutError, RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lib.database.interface import (
    Filter,
    Hits,
    Image,
    NotLoadedError,
    UnknownImageError,
    merge_hits,
)
from lib.database.manifest import Manifest, ManifestFile, latest_version, read_manifest
from lib.database.opening import dimension_of, part_key
from lib.database.shard import Shard
from lib.errors import BadArgumentError, MissingError, UnavailableError
from lib.storage import absolute
from lib.topk.scores import COPIES_SHARE

IMAGE_BYTES = 125  # id, URI, path, version, size and digest of an image
MEMORY_SHARE = 0.5  # of a node's memory that a shard may take
ANSWER_WITHIN_S = 30.0
LOAD_WITHIN_S = 3_600.0
_THREADS = 4  # calls that an actor answers at a time: none waits for a long search

_log = logging.getLogger(__name__)


class Shards(Protocol):
    """Processes, each with a `Shard`, that are asked together."""

    def __len__(self) -> int:
        """Number of processes."""

    def ask(self, method: str, arguments: Sequence[tuple[Any, ...]], within_s: float) -> list[Any]:
        """What each answers to a method of `Shard` with the arguments that are its own.

        Where there are fewer arguments than processes, the last ones are not asked. To be called
        from a thread, not from an event loop. Raises UnavailableError where one is being started
        again or does not answer in time, and what the method raises.
        """


class RemoteCollection:
    """A `Collection` in processes of Ray: the shards of one version, searched together.

    A search process is never the caller's: there, a busy event loop and the many short products of
    a search would take turns at Python's lock, and each turn may cost 5 ms. A version too large for
    one node's memory is spread over several. What the shards answer is merged exactly. A handle may
    be passed to Ray tasks.
    """

    def __init__(self, db: str, shards: "int | Shards | None" = None) -> None:
        """Load the current version; Ray must be up.

        `shards`: processes that are there already and may hold other versions beside this one, or
        how many to start, from size and memory unless told; those end when nothing refers to them
        any more. Raises MissingError where there is no database, BadArgumentError for shards < 1,
        and what `load_version` raises.
        """
        if isinstance(shards, int) and shards < 1:
            raise BadArgumentError(f"shards must be at least 1, not {shards}")
        db = absolute(db)
        while True:
            manifest = read_manifest(db)
            if shards is None:
                self._shards: Shards = ShardActors(choose_shards(db, manifest))
            elif isinstance(shards, int):
                self._shards = ShardActors(min(shards, len(manifest.files)))
            else:
                self._shards = shards
            parts = split_evenly(manifest.files, min(len(self._shards), len(manifest.files)))
            self._sources = [(part_key(manifest, part), db, manifest, part) for part in parts]
            try:
                self._lengths: list[int] = self._load()
                break
            except MissingError:  # a writer may have replaced files meanwhile
                if latest_version(db) == manifest.version:
                    raise
        self.version: int = manifest.version
        self.embedder_digest: str = manifest.embedder_digest

    def __len__(self) -> int:
        return sum(self._lengths)

    @property
    def shard_count(self) -> int:
        """Number of search processes."""
        return len(self._sources)

    def search_images(
        self, query_embeddings: np.ndarray, k: int, image_filter: Filter | None = None
    ) -> Hits:
        """See `Collection.search_images`. To be called from a thread, not from an event loop."""
        parts: list[Hits] = self._ask("search_images", query_embeddings, k, image_filter)
        if len(parts) == 1:
            return parts[0]
        return merge_hits(parts, k, image_filter is not None and image_filter.distinct)

    def look_up(self, image_id: str) -> tuple[Image, np.ndarray]:
        """See `Collection.look_up`. To be called from a thread, not from an event loop."""
        return self.look_up_all([image_id])[0]

    def look_up_all(self, image_ids: Sequence[str]) -> list[tuple[Image, np.ndarray]]:
        """See `Collection.look_up_all`; in one round trip."""
        known: dict[str, tuple[Image, np.ndarray]] = {}
        for part in self._ask("look_up_all", list(image_ids)):
            known |= part
        for image_id in image_ids:
            if image_id not in known:
                raise UnknownImageError(f"the database holds no image {image_id!r}")
        return [known[image_id] for image_id in image_ids]

    def check(self, within_s: float) -> None:
        """Raise UnavailableError unless every shard can search; what `load_version` raises where
        one was started again and its files are gone or damaged.
        """
        self._ask("ready", within_s=within_s)

    def _load(self) -> list[int]:
        return self._shards.ask("load", self._sources, LOAD_WITHIN_S)

    def _ask(self, method: str, *arguments: object, within_s: float = ANSWER_WITHIN_S) -> list[Any]:
        """What each shard answers. Raises UnavailableError while one is being started again."""
        asked = [(source[0], *arguments) for source in self._sources]
        try:
            return self._shards.ask(method, asked, within_s)
        except NotLoadedError:
            self._load()
            return self._shards.ask(method, asked, within_s)


def bytes_needed(rows: int, dimension: int) -> int:
    """Memory for a collection and the copies of it that are scanned."""
    return int(rows * (dimension * 4 * (1 + COPIES_SHARE) + IMAGE_BYTES))


def shards_needed(rows: int, dimension: int, memory_bytes: int) -> int:
    """How many nodes of `memory_bytes` hold a collection."""
    return max(1, math.ceil(bytes_needed(rows, dimension) / (memory_bytes * MEMORY_SHARE)))


def choose_shards(db: str, manifest: Manifest, more_nodes: bool = False) -> int:
    """Shards for a version on this cluster: what its memory asks for, one a node at most.

    With fewer nodes than that each shard is memory-mapped and partly read from disk. `more_nodes`:
    whether as many nodes come as are asked for.
    """
    files = manifest.files
    rows = sum(file.rows for file in files)
    needed = shards_needed(rows, dimension_of(db, files[0]), smallest_memory())
    nodes = sum(node["Alive"] for node in ray.nodes())
    most = len(files) if more_nodes else nodes
    if min(needed, len(files)) > most:
        _log.warning(
            "%s would need %s nodes to lie in memory and has %s: it is read from disk in part",
            *(db, needed, nodes),
        )
    return min(needed, len(files), most)


def smallest_memory() -> int:
    """Bytes of the node that has the least of those that are up."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    return min(int(node["Resources"].get("memory", 1)) for node in nodes)


def split_evenly(files: Sequence[ManifestFile], parts: int) -> list[list[ManifestFile]]:
    """Files in `parts` lists of about equal rows: largest first, each to the emptiest list."""
    lists: list[list[ManifestFile]] = [[] for _ in range(parts)]
    rows = [0] * parts
    for file in sorted(files, key=lambda each: (-each.rows, each.name)):
        emptiest = rows.index(min(rows))
        lists[emptiest].append(file)
        rows[emptiest] += file.rows
    return lists


class ShardActors:
    """`Shards` that are Ray actors, on the caller's node where it is one, else one a node."""

    def __init__(self, count: int) -> None:
        if count == 1:
            homes = [ray.get_runtime_context().get_node_id()]
        else:
            alive = [node for node in ray.nodes() if node["Alive"]]
            alive.sort(key=lambda node: -node["Resources"].get("memory", 0))
            homes = [alive[number % len(alive)]["NodeID"] for number in range(count)]
        actor: Any = ray.remote(Shard)
        self.actors = [
            actor.options(
                num_cpus=0,  # those of whoever asks and waits: Ray need not set others aside
                memory=1,  # one that asks for nothing at all is put on any node, not on its home
                max_restarts=-1,
                max_task_retries=1,
                max_concurrency=_THREADS,
                scheduling_strategy=NodeAffinitySchedulingStrategy(home, soft=True),
            ).remote()
            for home in homes
        ]

    def __len__(self) -> int:
        return len(self.actors)

    def ask(self, method: str, arguments: Sequence[tuple[Any, ...]], within_s: float) -> list[Any]:
        """See `Shards.ask`."""
        calls = zip(self.actors, arguments, strict=False)
        try:
            return ray.get(
                [getattr(actor, method).remote(*each) for actor, each in calls], timeout=within_s
            )
        except (RayActorError, GetTimeoutError) as error:
            raise UnavailableError("no search process answers; try again in a moment") from error
