"""The search shards of a service: deployments of Ray Serve that all its front ends share."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ray import serve
from ray.exceptions import RayActorError
from ray.serve import Application
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from lib.database.manifest import latest_version, read_manifest
from lib.database.opening import dimension_of
from lib.database.remote import MEMORY_SHARE, bytes_needed, choose_shards, smallest_memory
from lib.database.shard import Shard
from lib.errors import BadArgumentError, UnavailableError
from lib.nodes import can_grow

_AROUND = 2**29  # bytes of a search process without any image


class SearchShard:
    """Deployment that holds a part of the collection, once for all who search it."""

    def __init__(self) -> None:
        self.shard = Shard()
        # Two searches at a time would only share memory bandwidth; no other call waits for one.
        self._searching, self._loading = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self._others = ThreadPoolExecutor(4)

    async def ask(self, method: str, *arguments: object) -> Any:
        """What a method of `Shard` answers."""
        own = {"search_images": self._searching, "load": self._loading}
        pool, call = own.get(method, self._others), getattr(self.shard, method)
        return await asyncio.get_running_loop().run_in_executor(pool, call, *arguments)


class ShardDeployments:
    """`Shards` that are deployments, asked by the threads of a replica in the replica's loop."""

    def __init__(self, handles: Sequence[DeploymentHandle]) -> None:
        """To be called in the replica's loop, where handles of Serve belong."""
        self.handles = handles
        self._loop = asyncio.get_running_loop()

    def __len__(self) -> int:
        return len(self.handles)

    def ask(self, method: str, arguments: Sequence[tuple[Any, ...]], within_s: float) -> list[Any]:
        """See `Shards.ask`."""

        async def ask() -> list[Any]:
            calls = zip(self.handles, arguments, strict=False)
            asked = (handle.ask.remote(method, *each) for handle, each in calls)
            return await asyncio.wait_for(asyncio.gather(*asked), within_s)

        try:
            return asyncio.run_coroutine_threadsafe(ask(), self._loop).result()
        except (
            TimeoutError,
            RayActorError,
            BackPressureError,
            DeploymentUnavailableError,
        ) as error:
            raise UnavailableError("no search process answers; try again in a moment") from error


def bind_shards(db: str, count: int | None, cpus: float) -> list[Application]:
    """A deployment for each part of a database: as many as asked for, else as its memory needs.

    Each asks Ray for its part's memory, with room for a version more, and for `cpus`. Raises
    BadArgumentError for count < 1.
    """
    if count is not None and count < 1:
        raise BadArgumentError(f"shards must be at least 1, not {count}")
    memory = _AROUND
    if latest_version(db):
        manifest = read_manifest(db)
        count = count or choose_shards(db, manifest, can_grow())
        rows = sum(file.rows for file in manifest.files)
        part = bytes_needed(rows, dimension_of(db, manifest.files[0])) // count
        memory = int(min(_AROUND + 2 * part, smallest_memory() * MEMORY_SHARE))
    shard: Any = serve.deployment(
        SearchShard,
        max_ongoing_requests=1_000,
        graceful_shutdown_timeout_s=5,
        graceful_shutdown_wait_loop_s=0.2,
        health_check_period_s=1,
        ray_actor_options={"num_cpus": cpus, "memory": memory},
    )
    return [shard.options(name=f"Shard{index}").bind() for index in range(count or 1)]
