"""A database version held by Ray actors, one or one a node, and searched as one."""

import logging
import math
import os
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import ray
import torch
from ray.exceptions import RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lib.database.interface import Filter, Hits, Image, UnknownImageError, merge_hits
from lib.database.local import LocalCollection
from lib.database.manifest import Manifest, ManifestFile, latest_version, read_manifest
from lib.database.opening import dimension_of, load_version
from lib.errors import BadArgumentError, MissingError, UnavailableError
from lib.storage import absolute
from lib.topk.adaptive import COPIES_SHARE

IMAGE_BYTES = 100  # id, URI, path, version and size of an image
MEMORY_SHARE = 0.5  # of a node's memory that a shard may take
_THREADS = 4  # calls that an actor answers at a time: none waits for a long search

_log = logging.getLogger(__name__)


class RemoteCollection:
    """A `Collection` in Ray actors: the shards of one version, searched together, merged exactly.

    One shard lies in a process of its own on the caller's node: in the caller's, a busy event loop
    and the many short products of a search would take turns at Python's lock, and each turn may
    cost 5 ms. A version too large for one node's memory is spread over several. The actors end when
    nothing refers to them any more; a handle may be passed to Ray tasks.
    """

    def __init__(self, db: str, shards: int | None = None) -> None:
        """Load the current version; Ray must be up. `shards`: from size and memory unless given.

        Raises MissingError where there is no database, BadArgumentError for shards < 1, and what
        `load_version` raises.
        """
        if shards is not None and shards < 1:
            raise BadArgumentError(f"shards must be at least 1, not {shards}")
        db = absolute(db)
        while True:
            manifest = read_manifest(db)
            try:
                self._shards = _start(db, manifest, shards)
                self._lengths = ray.get([shard.load.remote() for shard in self._shards])
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
        """Number of actors."""
        return len(self._shards)

    def search_images(
        self, query_embeddings: np.ndarray, k: int, wanted: Filter | None = None
    ) -> Hits:
        """See `Collection.search_images`. To be called from a thread, not from an event loop."""
        found: list[Hits] = self._ask("search_images", query_embeddings, k, wanted)
        return found[0] if len(found) == 1 else merge_hits(found, k)

    def look_up(self, image_id: str) -> tuple[Image, np.ndarray]:
        """See `Collection.look_up`. To be called from a thread, not from an event loop."""
        for found in self._ask("look_up", image_id):
            if found is not None:
                image, embedding = found
                return image, embedding
        raise UnknownImageError(f"the database holds no image {image_id!r}")

    def _ask(self, method: str, *arguments: object) -> list[Any]:
        """What each shard answers. Raises UnavailableError while one is being started again."""
        try:
            return ray.get([getattr(shard, method).remote(*arguments) for shard in self._shards])
        except RayActorError as error:
            raise UnavailableError("a search process ended; try again in a moment") from error


def shards_needed(rows: int, dimension: int, memory_bytes: int) -> int:
    """How many nodes of `memory_bytes` hold a collection and the copies of it that are scanned."""
    needed = rows * (dimension * 4 * (1 + COPIES_SHARE) + IMAGE_BYTES)
    return max(1, math.ceil(needed / (memory_bytes * MEMORY_SHARE)))


def choose_shards(db: str, manifest: Manifest) -> int:
    """Shards for a version on this cluster: what its memory asks for, one a node at most.

    With fewer nodes than that each shard is memory-mapped and partly read from disk.
    """
    files = manifest.files
    nodes = [node for node in ray.nodes() if node["Alive"]]
    memory = min(int(node["Resources"].get("memory", 1)) for node in nodes)
    rows = sum(file.rows for file in files)
    needed = min(shards_needed(rows, dimension_of(db, files[0]), memory), len(files))
    if needed > len(nodes):
        _log.warning(
            "%s would need %s nodes to lie in memory and has %s: it is read from disk in part",
            *(db, needed, len(nodes)),
        )
    return min(needed, len(nodes))


def split_evenly(files: Sequence[ManifestFile], parts: int) -> list[list[ManifestFile]]:
    """Files in `parts` lists of about equal rows: largest first, each to the emptiest list."""
    lists: list[list[ManifestFile]] = [[] for _ in range(parts)]
    rows = [0] * parts
    for file in sorted(files, key=lambda each: (-each.rows, each.name)):
        emptiest = rows.index(min(rows))
        lists[emptiest].append(file)
        rows[emptiest] += file.rows
    return lists


def _start(db: str, manifest: Manifest, shards: int | None) -> list[Any]:
    files = manifest.files
    count = choose_shards(db, manifest) if shards is None else min(shards, len(files))
    if count == 1:
        homes = [ray.get_runtime_context().get_node_id()]
    else:
        alive = [node for node in ray.nodes() if node["Alive"]]
        alive.sort(key=lambda node: -node["Resources"].get("memory", 0))
        homes = [alive[number % len(alive)]["NodeID"] for number in range(count)]
    actor: Any = ray.remote(_Shard)
    return [
        actor.options(
            num_cpus=0,  # those of whoever asks and waits: Ray need not set others aside
            memory=1,  # an actor that asks for nothing at all is put on any node, not on its home
            max_restarts=-1,
            max_task_retries=1,
            max_concurrency=_THREADS,
            scheduling_strategy=NodeAffinitySchedulingStrategy(home, soft=True),
        ).remote(db, manifest, part)
        for home, part in zip(homes, split_evenly(files, count), strict=True)
    ]


class _Shard:
    """Some files of one version of a database."""

    def __init__(self, db: str, manifest: Manifest, files: list[ManifestFile]) -> None:
        torch.set_num_threads(os.cpu_count() or 1)  # Ray allows an actor without CPUs one
        self._source = (db, manifest, files)
        self._loading = threading.Lock()
        self._loaded: LocalCollection | None = None

    @property
    def _database(self) -> LocalCollection:
        # Not in __init__, where Ray would hide the type of an error; again after a restart.
        with self._loading:
            if self._loaded is None:
                loaded = load_version(*self._source)
                loaded.prepare()
                self._loaded = loaded
            return self._loaded

    def load(self) -> int:
        """Be ready to search; returns the number of images."""
        return len(self._database)

    def search_images(self, query_embeddings: np.ndarray, k: int, wanted: Filter | None) -> Hits:
        return self._database.search_images(query_embeddings, k, wanted)

    def look_up(self, image_id: str) -> tuple[Image, np.ndarray] | None:
        try:
            return self._database.look_up(image_id)
        except UnknownImageError:
            return None
