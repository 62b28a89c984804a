"""Shards of a collection as deployments of Ray Serve, asked by replicas that share them."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from ray import serve

from lib.database.interface import Hits
from lib.database.manifest import Manifest, commit_version
from lib.database.opening import open_database
from lib.database.remote import RemoteCollection
from lib.errors import BadArgumentError
from lib.service.shards import ShardDeployments, bind_shards
from tests.database.test_local import write_file


class Asker:
    """As a front end asks: from a thread, in the loop of its replica."""

    def __init__(self, db: str, shards: list[Any]) -> None:
        self.db, self.shards = db, ShardDeployments(shards)
        self.collection: RemoteCollection | None = None

    async def search(self, queries: np.ndarray, k: int) -> tuple[Hits, int, int]:
        return await asyncio.to_thread(self._search, queries, k)

    def _search(self, queries: np.ndarray, k: int) -> tuple[Hits, int, int]:
        if self.collection is None:
            self.collection = RemoteCollection(self.db, self.shards)
        hits = self.collection.search_images(queries, k)
        return hits, self.collection.shard_count, len(self.collection)


@pytest.fixture
def db(tmp_path: Path) -> str:
    db = str(tmp_path / "db")
    files = [
        write_file(db, f"{number}.parquet", [str(row * 2 + number) for row in range(60)], number)
        for number in range(2)
    ]
    commit_version(db, Manifest(0, "e", tuple(files)))
    return db


@pytest.fixture
def served(ray_local: None) -> Iterator[None]:
    serve.start(proxy_location="Disabled")
    yield
    serve.shutdown()


@pytest.mark.long
@pytest.mark.usefixtures("served")
def test_front_ends_share_shards_that_answer_as_one_process_does(db: str) -> None:
    deployment: Any = serve.deployment(Asker)
    asker = deployment.options(num_replicas=2, ray_actor_options={"num_cpus": 0})
    # More shards than files: one stays empty until there are more.
    handle = serve.run(asker.bind(db, bind_shards(db, 3, cpus=0.1)), route_prefix=None)
    queries = np.random.default_rng(5).standard_normal((6, 4)).astype(np.float32)
    expected = open_database(db).search_images(queries, 7)
    for _ in range(6):  # whichever replica answers
        hits, shards, images = handle.search.remote(queries, 7).result(timeout_s=60)
        assert (shards, images) == (2, 120)
        assert hits.images.to_pylist() == expected.images.to_pylist()
        np.testing.assert_array_equal(hits.scores, expected.scores)
    actors = [actor["name"] for actor in ray.util.list_named_actors(all_namespaces=True)]
    assert sum("#Shard" in name for name in actors) == 3


def test_no_shards_are_a_bad_argument(db: str) -> None:
    with pytest.raises(BadArgumentError, match="at least 1"):
        bind_shards(db, 0, cpus=1)
