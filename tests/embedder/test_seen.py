"""Images of an evaluation that training has seen are found, under whatever name."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from lib.datasets.captions import Captions
from lib.descriptors.store import index_descriptors
from lib.embedder.seen import captions_digest, copies, keep_training_images, training_rows
from lib.parquet import read_table, write_table_atomic
from tests.database.test_embed import write_descriptors


def test_training_images_and_copies_of_them_are_found(tmp_path: Path) -> None:
    db = str(tmp_path)
    photos = {"dog": "d0", "cat": "c0", "cat too": "c0", "bird": "b0"}  # digests of their content
    write_descriptors(db, "photos.parquet", photos)
    table = read_table(f"{db}/descriptors/photos.parquet")
    anew = [  # the same pictures in other files
        row
        | {"image_id": f"{row['image_id']} anew", "digest": f"{row['digest']}9"}
        | {"descriptor": [3 * value for value in row["descriptor"]]}
        for row in table.to_pylist()
    ]
    table = pa.Table.from_pylist(anew, table.schema)
    write_table_atomic(table, f"{db}/descriptors/anew.parquet")
    index = index_descriptors(db)
    assert training_rows(db, "digest", index).tolist() == []
    keep_training_images(db, "digest", ["dog", "cat"])
    taught = training_rows(db, "digest", index)
    assert index.ids_of(taught) == ["dog", "cat"]
    assert training_rows(db, "of another embedder", index).tolist() == []
    others = np.setdiff1d(np.arange(len(index)), taught)
    copied = others[copies(index, others, taught)]
    same = {"cat too", "dog anew", "cat anew", "cat too anew"}
    assert set(index.ids_of(copied)) == same


def test_captions_are_known_again_in_any_order_and_parts() -> None:
    whole = Captions(["1", "2", "2"], ["a dog", "a cat", "a cat asleep"], {})
    parts = [Captions(["2", "2"], ["a cat asleep", "a cat"], {}), Captions(["1"], ["a dog"], {})]
    assert captions_digest(parts) == captions_digest([whole])
    assert captions_digest(parts[:1]) != captions_digest([whole])
