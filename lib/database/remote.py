"""A database version held by Ray actors, one or one a node, and searched as one."""

import logging
import math
import threading
import uuid
import weakref
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import ray
import torch
from ray.exceptions import GetTimeoutError, RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lib.cores import usable_cores
from lib.database.interface import Filter, Hits, Image, UnknownImageError, merge_hits
from lib.database.local import LocalCollection
from lib.database.manifest import Manifest, ManifestFile, latest_version, read_manifest
from lib.database.opening import dimension_of, load_version
from lib.errors import BadArgumentError, MissingError, UnavailableError
from lib.storage import absolute
from lib.topk.adaptive import COPIES_SHARE

IMAGE_BYTES = 100  # id, URI, path, version and size of an image
MEMORY_SHARE = 0.5  # of a node's memory that a shard may take
ANSWER_WITHIN_S = 30.0
LOAD_WITHIN_S = 3_600.0
_THREADS = 4  # calls that an actor answers at a time: none waits for a long search

_log = logging.getLogger(__name__)


class _NotLoadedError(Exception):
    """A search process does not hold the version asked for: it has been started again."""


class RemoteCollection:
    """A `Collection` in Ray actors: the shards of one version, searched together, merged exactly.

    One shard lies in a process of its own on the caller's node: in the caller's, a busy event loop
    and the many short products of a search would take turns at Python's lock, and each turn may
    cost 5 ms. A version too large for one node's memory is spread over several. The actors end when
    nothing refers to them any more; a handle may be passed to Ray tasks.
    """

    def __init__(
        self, db: str, shards: int | None = None, previous: "RemoteCollection | None" = None
    ) -> None:
        """Load the current version; Ray must be up. `shards`: from size and memory unless given.

        `previous` lends its processes, which hold both versions until it is let go: to start new
        ones on a busy machine takes longer than to load. Raises MissingError where there is no
        database, BadArgumentError for shards < 1, and what `load_version` raises.
        """
        if shards is not None and shards < 1:
            raise BadArgumentError(f"shards must be at least 1, not {shards}")
        db = absolute(db)
        while True:
            manifest = read_manifest(db)
            count = _count(db, manifest, shards)
            same = previous is not None and previous.shard_count == count
            self._shards: list[Any] = previous._shards if same and previous else _start(count)
            self._sources = [(db, manifest, p) for p in split_evenly(manifest.files, count)]
            self._key = uuid.uuid4().hex
            try:
                self._lengths = self._load()
                break
            except MissingError:  # a writer may have replaced files meanwhile
                if latest_version(db) == manifest.version:
                    raise
        weakref.finalize(self, _release, self._shards, self._key)
        self.version: int = manifest.version
        self.embedder_digest: str = manifest.embedder_digest

    def __len__(self) -> int:
        return sum(self._lengths)

    @property
    def shard_count(self) -> int:
        """Number of actors."""
        return len(self._shards)

    def search_images(
        self, query_embeddings: np.ndarray, k: int, image_filter: Filter | None = None
    ) -> Hits:
        """See `Collection.search_images`. To be called from a thread, not from an event loop."""
        parts: list[Hits] = self._ask("search_images", query_embeddings, k, image_filter)
        return parts[0] if len(parts) == 1 else merge_hits(parts, k)

    def look_up(self, image_id: str) -> tuple[Image, np.ndarray]:
        """See `Collection.look_up`. To be called from a thread, not from an event loop."""
        return self.look_up_all([image_id])[0]

    def look_up_all(self, image_ids: Sequence[str]) -> list[tuple[Image, np.ndarray]]:
        """`look_up` of several images in one round trip. Raises UnknownImageError for the first
        that is not there.
        """
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
        return _all(
            [
                shard.load.remote(self._key, *source)
                for shard, source in zip(self._shards, self._sources, strict=True)
            ],
            LOAD_WITHIN_S,
        )

    def _ask(self, method: str, *arguments: object, within_s: float = ANSWER_WITHIN_S) -> list[Any]:
        """What each shard answers. Raises UnavailableError while one is being started again."""

        def ask() -> list[Any]:
            return _all(
                [getattr(s, method).remote(self._key, *arguments) for s in self._shards], within_s
            )

        try:
            return ask()
        except _NotLoadedError:
            self._load()
            return ask()


def _all(references: list[Any], within_s: float) -> list[Any]:
    try:
        return ray.get(references, timeout=within_s)
    except (RayActorError, GetTimeoutError) as error:
        raise UnavailableError("no search process answers; try again in a moment") from error


def _release(shards: list[Any], key: str) -> None:
    """Let the processes forget a version that nobody searches any more."""
    if not ray.is_initialized():  # at the end of a program; a call would start another Ray
        return
    with suppress(Exception):  # they, or Ray, may have ended
        for shard in shards:
            shard.release.remote(key)


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


def _count(db: str, manifest: Manifest, shards: int | None) -> int:
    return choose_shards(db, manifest) if shards is None else min(shards, len(manifest.files))


def _start(count: int) -> list[Any]:
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
        ).remote()
        for home in homes
    ]


class _Shard:
    """Some files of one version of a database, or of two while a new one is taken up."""

    def __init__(self) -> None:
        torch.set_num_threads(usable_cores())  # Ray allows an actor without CPUs one
        self._loading = threading.Lock()
        self._versions: dict[str, LocalCollection] = {}

    def load(self, key: str, db: str, manifest: Manifest, files: list[ManifestFile]) -> int:
        """Be ready to search a version; returns the number of images."""
        # Not in __init__, where Ray would hide the type of an error.
        with self._loading:
            if key not in self._versions:
                version = load_version(db, manifest, files)
                version.prepare()
                self._versions[key] = version
            return len(self._versions[key])

    def release(self, key: str) -> None:
        self._versions.pop(key, None)

    def _version(self, key: str) -> LocalCollection:
        version = self._versions.get(key)
        if version is None:
            raise _NotLoadedError(key)
        return version

    def ready(self, key: str) -> int:
        return len(self._version(key))

    def search_images(
        self, key: str, query_embeddings: np.ndarray, k: int, image_filter: Filter | None
    ) -> Hits:
        return self._version(key).search_images(query_embeddings, k, image_filter)

    def look_up_all(self, key: str, image_ids: list[str]) -> dict[str, tuple[Image, np.ndarray]]:
        version, known = self._version(key), {}
        for image_id in image_ids:
            with suppress(UnknownImageError):
                known[image_id] = version.look_up(image_id)
        return known
