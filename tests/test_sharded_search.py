from pathlib import Path

import numpy as np
import pytest

from lib.database import manifest_file, open_database, remove_images
from lib.errors import BadArgumentError, MismatchError
from lib.sharded_search import ShardedSearch, shard_count, split_evenly
from lib.storage import write_json_atomic
from tests.test_database import write_file


@pytest.fixture
def db(tmp_path: Path) -> str:
    made = str(tmp_path / "db")
    # The same seed in two files: equal vectors, so equal scores, in different shards.
    files = [
        write_file(made, f"{number}.parquet", [str(row * 5 + number) for row in range(40)], seed)
        for number, seed in enumerate([0, 1, 0, 2, 3])
    ]
    manifest = {"version": 1, "embedder_digest": "e", "files": files}
    write_json_atomic(manifest_file(made), manifest)
    remove_images(made, ["3", "11"])
    return made


def test_shards_answer_as_one_process_does(db: str, ray_local: None) -> None:
    queries = np.random.default_rng(9).standard_normal((6, 4)).astype(np.float32)
    database = open_database(db)
    rows, scores = database.search(queries, 70)
    for shards in (1, 3):
        search = ShardedSearch(db, 4, shards)
        assert len(search) == shards
        found = search.search(queries, 70)
        search.close()
        for query in range(len(queries)):
            assert [hit.image_id for hit in found[query]] == [
                database.image_ids[row] for row in rows[query]
            ]
            assert [hit.score for hit in found[query]] == scores[query].tolist()


def test_the_number_of_shards_comes_from_size_and_memory(db: str) -> None:
    assert shard_count(10_000, 50, 10, 24 * 2**30) == 1
    assert shard_count(10**9, 50, 1_000, 64 * 2**30) == 24
    assert shard_count(10**9, 50, 5, 64 * 2**30) == 5
    files = [{"name": str(number), "rows": number} for number in range(10)]
    parts = split_evenly(files, 3)
    assert [sum(file["rows"] for file in part) for part in parts] == [16, 15, 14]
    assert len(ShardedSearch(db, 4)) == 1


def test_bad_arguments(db: str) -> None:
    with pytest.raises(BadArgumentError, match="shards"):
        ShardedSearch(db, 4, 0)
    with pytest.raises(MismatchError, match="4 values"):
        ShardedSearch(db, 5)
