"""One database searched by several Ray actors, each holding a part; answers merged exactly."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray

from lib.database import Database, load_version, natural_key, read_manifest
from lib.errors import BadArgumentError, MismatchError

ROW_OVERHEAD_BYTES = 200  # id, URI, path, version and size of an image
LOADING_FACTOR = 2.0  # the Parquet table and the matrix are in memory together while loading
MEMORY_SHARE = 0.5  # of a node's memory that one shard may take


@dataclass(frozen=True)
class ShardHit:
    """One found image."""

    image_id: str
    uri: str
    score: float


def shard_count(rows: int, dimension: int, files: int, memory_bytes: int) -> int:
    """How many parts a database needs where each must fit in one node of `memory_bytes`.

    At most one a file: a file of embeddings is the unit that is moved. 1: one process holds it.
    """
    needed = rows * (dimension * 4 + ROW_OVERHEAD_BYTES) * LOADING_FACTOR
    return max(1, min(files, math.ceil(needed / (memory_bytes * MEMORY_SHARE))))


def split_evenly(files: Sequence[dict[str, Any]], parts: int) -> list[list[dict[str, Any]]]:
    """Files in `parts` lists of about equal rows: largest first, each to the emptiest list."""
    lists: list[list[dict[str, Any]]] = [[] for _ in range(parts)]
    rows = [0] * parts
    for file in sorted(files, key=lambda each: (-each["rows"], each["name"])):
        emptiest = rows.index(min(rows))
        lists[emptiest].append(file)
        rows[emptiest] += file["rows"]
    return lists


class Shard:
    """A part of one version of a database."""

    def __init__(self, db: str, manifest: dict[str, Any], files: list[dict[str, Any]]) -> None:
        self.database: Database = load_version(db, manifest, files)

    def search(self, queries: np.ndarray, k: int) -> list[list[ShardHit]]:
        """The best images of this part for each of the (Q, d) queries, equal scores by id."""
        rows, scores = self.database.search(queries, k)
        return [
            [
                ShardHit(self.database.image_ids[row], self.database.uris[row], float(score))
                for row, score in zip(*found, strict=True)
            ]
            for found in zip(rows, scores, strict=True)
        ]


class ShardedSearch:
    """The same exact search over any number of shards; Ray must be up where there are several."""

    def __init__(self, db: str, dimension: int, shards: int | None = None) -> None:
        """Load the current version. `shards`: from size and memory unless given.

        Raises MissingError where there is no database, BadArgumentError for shards < 1, and
        MismatchError where the embeddings do not have `dimension` values.
        """
        if shards is not None and shards < 1:
            raise BadArgumentError(f"shards must be at least 1, not {shards}")
        manifest = read_manifest(db)
        files = manifest["files"]
        if shards is None:
            rows = sum(file["rows"] for file in files)
            shards = shard_count(rows, dimension, len(files), _node_memory())
        self.version: int = manifest["version"]
        parts = split_evenly(files, min(shards, len(files)))
        if len(parts) == 1:
            self._shards: list[Any] = [Shard(db, manifest, parts[0])]
            found = self._shards[0].database.embeddings.shape[1]
            if found != dimension:
                raise MismatchError(f"the embeddings have {found} values, the queries {dimension}")
        else:
            # SPREAD: a part was sized for a node's memory, so each goes to a node of its own.
            actor = ray.remote(scheduling_strategy="SPREAD", max_restarts=3, max_task_retries=3)(
                Shard
            )
            self._shards = [actor.remote(db, manifest, part) for part in parts]

    def __len__(self) -> int:
        return len(self._shards)

    def search(self, queries: np.ndarray, k: int) -> list[list[ShardHit]]:
        """The k best images for each of the (Q, d) float32 queries, equal scores by image id.

        Exactly what one process holding everything answers: a score depends on query and image
        alone, and the best k of all are among the best k of each part.
        """
        if len(self._shards) == 1:
            return self._shards[0].search(queries, k)
        found = ray.get([shard.search.remote(queries, k) for shard in self._shards])
        return [
            sorted(
                (hit for hits in parts for hit in hits),
                key=lambda hit: (-hit.score, natural_key(hit.image_id)),
            )[:k]
            for parts in zip(*found, strict=True)
        ]

    def close(self) -> None:
        """End the actors and give their memory back."""
        if len(self._shards) > 1:
            for shard in self._shards:
                ray.kill(shard)


def _node_memory() -> int:
    """Bytes that Ray may use on the smallest node."""
    if not ray.is_initialized():
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(int(node["Resources"].get("memory", 1)) for node in ray.nodes() if node["Alive"])
