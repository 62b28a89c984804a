"""Embedding in increments: only what is new is embedded, what was removed stays removed."""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lib.database.compaction import compact_database
from lib.database.embed import embed_database
from lib.database.opening import open_database
from lib.database.removal import remove_images
from lib.embedder.model import Embedder
from lib.embedder.space import save_semantic_space
from lib.schemas import Provenance, descriptor_schema, vectors_to_column
from lib.storage import join, write_table_atomic
from lib.text.encoder import Idf, TextEncoder
from lib.text.word_vectors import PACKAGED, load_word_vectors, word_vectors_digest

PROVENANCE = Provenance("resnet18", "random", "none", "float32", 8)


def write_descriptors(db: str, name: str, ids: list[str]) -> None:
    vectors = np.random.default_rng(len(name)).standard_normal((len(ids), 8)).astype(np.float32)
    columns = [pa.array(ids)] * 3 + [pa.array([9] * len(ids), pa.int32())] * 2
    columns += [pa.array([1] * len(ids)), *[pa.array(ids)] * 2, vectors_to_column(vectors)]
    table = pa.table(columns, schema=descriptor_schema(PROVENANCE))
    write_table_atomic(table, join(db, "descriptors", name))


def save_embedder(db: str, seed: int) -> None:
    vectors = load_word_vectors()
    matrix = np.random.default_rng(seed).standard_normal((8, 50)).astype(np.float32)
    save_semantic_space(
        db,
        TextEncoder(vectors, Idf({}, 1)),
        Embedder.from_arrays(matrix, np.zeros(50, np.float32)),
        {
            "descriptors": dataclasses.asdict(PROVENANCE),
            "word_vectors": {
                "source": PACKAGED,
                "digest": word_vectors_digest(vectors),
                "dimension": 50,
            },
        },
    )


@pytest.mark.usefixtures("ray_local")
def test_only_new_files_are_embedded_and_removed_images_stay_away(tmp_path: Path) -> None:
    db = str(tmp_path)
    save_embedder(db, 0)
    write_descriptors(db, "0.parquet", ["3", "1"])
    first = embed_database(db)
    assert (first.version, first.images, first.files_embedded) == (1, 2, 1)
    assert embed_database(db) == dataclasses.replace(first, files_embedded=0)

    write_descriptors(db, "1.parquet", ["2", "4"])
    second = embed_database(db)
    assert (second.version, second.images, second.files_embedded) == (2, 4, 1)

    remove_images(db, ["3"])
    compact_database(db)
    assert embed_database(db).files_embedded == 0
    before = open_database(db)
    assert list(before.image_ids) == ["1", "2", "4"]

    save_embedder(db, 1)
    assert embed_database(db).files_embedded == 2
    after = open_database(db)
    assert list(after.image_ids) == ["1", "2", "4"]
    assert after.embedder_digest != before.embedder_digest
    assert not np.allclose(after.embeddings, before.embeddings)
