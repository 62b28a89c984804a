"""Search in a process of its own, so that a server and its searches never share a Python lock."""

import os
from typing import Any

import numpy as np
import ray
import torch

from lib.database import Database


class SearchProcess:
    """A database in this node's object store, and a Ray actor that searches it.

    In one process a busy event loop and the many short products of a search take turns at Python's
    lock, and each turn may cost 5 ms: under load both come to a near standstill. The process ends
    when this object is no longer referenced.
    """

    def __init__(self, database: Database) -> None:
        """Move the database into the object store; wait until it can be searched."""
        stored = ray.put(database)
        self.database: Database = ray.get(stored)  # its arrays lie in the shared memory
        # The CPUs are those of whoever asks and waits: Ray need not set others aside.
        actor: Any = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=1)(_Search)
        self._actor = actor.remote(stored)
        ray.get(self._actor.ready.remote())

    def search(
        self, query_embeddings: np.ndarray, k: int, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Database.search`. To be called from a thread, not from an event loop."""
        rows, scores = ray.get(self._actor.search.remote(query_embeddings, k, allowed))
        return rows, scores


class _Search:
    def __init__(self, database: Database) -> None:
        torch.set_num_threads(os.cpu_count() or 1)  # Ray allows an actor without CPUs one
        self.database = database

    def ready(self) -> None:
        """Read all embeddings once, and copy them as the fastest search wants them."""
        self.database.prepare()

    def search(
        self, query_embeddings: np.ndarray, k: int, allowed: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        return self.database.search(query_embeddings, k, allowed)
