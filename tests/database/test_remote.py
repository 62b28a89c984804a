from pathlib import Path

import numpy as np
import pytest
import ray

from lib.database.interface import Filter, Hits, UnknownImageError
from lib.database.manifest import Manifest, ManifestFile, commit_version, read_manifest
from lib.database.opening import open_database
from lib.database.remote import (
    RemoteCollection,
    ShardActors,
    choose_shards,
    shards_needed,
    split_evenly,
)
from lib.database.removal import remove_images
from lib.errors import BadArgumentError, MissingError
from tests.cluster_process import RunningCluster
from tests.database.test_local import write_file
from tests.serving_database import make_database


@pytest.fixture
def db(tmp_path: Path) -> str:
    db = str(tmp_path / "db")
    # The same seed in two files: equal vectors, so equal scores, in different shards.
    files = [
        write_file(db, f"{number}.parquet", [str(row * 5 + number) for row in range(40)], seed)
        for number, seed in enumerate([0, 1, 0, 2, 3])
    ]
    commit_version(db, Manifest(0, "e", tuple(files)))
    remove_images(db, ["3", "11"])
    return db


def assert_equal(hits: Hits, expected: Hits) -> None:
    assert hits.images.to_pylist() == expected.images.to_pylist()
    np.testing.assert_array_equal(hits.scores, expected.scores)


@pytest.mark.usefixtures("ray_local")
def test_shards_answer_as_one_process_does_also_after_one_died(db: str) -> None:
    queries = np.random.default_rng(9).standard_normal((6, 4)).astype(np.float32)
    database = open_database(db)
    collection = RemoteCollection(db, 2)
    assert collection.shard_count == 2
    assert len(collection) == len(database) == 198
    assert (collection.version, collection.embedder_digest) == (2, "e")
    for k in (1, 70, 500):
        filters = (None, Filter(min_width=90), Filter(image_ids=("4", "5", "no")))
        for image_filter in (*filters, Filter(distinct=True)):
            hits = collection.search_images(queries, k, image_filter)
            assert_equal(hits, database.search_images(queries, k, image_filter))
    image, embedding = collection.look_up("17")
    assert image == database.look_up("17")[0]
    np.testing.assert_array_equal(embedding, database.look_up("17")[1])
    for absent in ("11", "nowhere"):
        with pytest.raises(UnknownImageError, match=absent):
            collection.look_up(absent)
    assert isinstance(collection._shards, ShardActors)
    ray.kill(collection._shards.actors[0], no_restart=False)
    assert_equal(collection.search_images(queries, 5), database.search_images(queries, 5))


@pytest.mark.long
@pytest.mark.usefixtures("ray_local")
def test_a_lost_file_is_named(db: str) -> None:
    Path(db, "embeddings", "1.parquet").unlink()
    with pytest.raises(MissingError, match=r"1\.parquet"):
        RemoteCollection(db, 1)
    with pytest.raises(BadArgumentError, match="at least 1"):
        RemoteCollection(db, 0)


@pytest.mark.usefixtures("ray_local")
def test_the_number_of_shards_comes_from_size_and_memory(db: str) -> None:
    assert choose_shards(db, read_manifest(db)) == 1
    assert shards_needed(10_000, 50, 24 * 2**30) == 1
    by_hand = 10**9 * (200 * 1.84 + 125) / (32 * 2**30)
    assert shards_needed(10**9, 50, 64 * 2**30) == int(by_hand) + 1
    files = [ManifestFile(str(number), number) for number in range(10)]
    parts = split_evenly(files, 3)
    assert [sum(file.rows for file in part) for part in parts] == [16, 15, 14]


ON_ITS_NODES = """
import sys
import numpy as np
from lib.cluster import choose_token, connect

choose_token()
with connect():
    import ray
    from lib.database.opening import open_database
    from lib.database.remote import RemoteCollection

    where = lambda shard: ray.get_runtime_context().get_node_id()
    collection = RemoteCollection(sys.argv[1], 2)
    nodes = ray.get([shard.__ray_call__.remote(where) for shard in collection._shards.actors])
    assert len(set(nodes)) == 2, nodes
    (alone,) = RemoteCollection(sys.argv[1], 1)._shards.actors
    here = ray.get_runtime_context().get_node_id()
    assert ray.get(alone.__ray_call__.remote(where)) == here
    queries = np.eye(4, dtype=np.float32)
    remote, local = (c.search_images(queries, 9) for c in (collection, open_database(sys.argv[1])))
    assert remote.images.to_pylist() == local.images.to_pylist()
"""


def test_shards_lie_on_nodes_of_their_own_and_a_job_searches_on_its_cluster(
    db: str, cluster: RunningCluster, tmp_path: Path
) -> None:
    cluster.run("-c", ON_ITS_NODES, db, timeout=400, RAY_ADDRESS=cluster.address)
    job_db = make_database(tmp_path / "drawn", images=8)
    query = ("-m", "jobs.query", "--db", job_db, "--k", 2, "red ball")
    printed = cluster.run(*query, timeout=400, RAY_ADDRESS=cluster.address)
    assert "1 queries over 8 images" in printed
    assert "WARNING" not in printed  # of what Ray leaves out of the working directory
