"""A small world with known truth: images hold things, captions name them, descriptors show them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from gensim.models import KeyedVectors

from lib.datasets.captions import CaptionedImage, Captions
from lib.parquet import write_table_atomic
from lib.schemas import Provenance, descriptor_schema, vectors_to_column
from lib.storage import join

DIMENSION, SIZE = 12, 48
WORDS = [f"thing{i}" for i in range(40)]


def word_vectors(dimension: int = DIMENSION, seed: int = 0) -> KeyedVectors:
    """A vector for each of WORDS and for "the", which every caption has."""
    vectors = KeyedVectors(dimension)
    values = np.random.default_rng(seed).normal(size=(len(WORDS) + 1, dimension))
    vectors.add_vectors([*WORDS, "the"], values.astype(np.float32))
    return vectors


def world(count: int, seed: int = 0, noise: float = 0.5) -> tuple[np.ndarray, Captions]:
    """(count, SIZE) float32 descriptors and three captions an image; ids "0" to "count - 1"."""
    rng = np.random.default_rng(seed)
    things = np.stack([rng.permutation(len(WORDS))[:4] for _ in range(count)])
    shows = np.random.default_rng(99).normal(size=(len(WORDS), SIZE))
    descriptors = shows[things].sum(axis=1) + noise * rng.normal(size=(count, SIZE))
    ids, texts = [], []
    for image, held in enumerate(things):
        for _ in range(3):
            named = rng.permutation(held)[:3]
            ids.append(str(image))
            texts.append("the " + " ".join(WORDS[thing] for thing in named))
    images = {str(i): CaptionedImage(f"{i}.jpg") for i in range(count)}
    return descriptors.astype(np.float32), Captions(ids, texts, images, "toy captions")


def provenance(size: int = SIZE) -> Provenance:
    """Where the toy descriptors say they come from."""
    return Provenance("toy", "0" * 64, "none", "float32", size)


def write_database(db: Path | str, descriptors: np.ndarray, shards: int = 3) -> str:
    """Write descriptors as extraction does; returns the database's path."""
    schema = descriptor_schema(provenance(descriptors.shape[1]))
    for shard, rows in enumerate(np.array_split(np.arange(len(descriptors)), shards)):
        names = [f"{row}.jpg" for row in rows]
        columns = {
            "image_id": [str(row) for row in rows],
            "uri": names,
            "path": names,
            "width": pa.array([1] * len(rows), pa.int32()),
            "height": pa.array([1] * len(rows), pa.int32()),
            "bytes": pa.array([1] * len(rows), pa.int64()),
            "etag": [""] * len(rows),
            "digest": [""] * len(rows),
            "descriptor": vectors_to_column(descriptors[rows]),
        }
        url = join(str(db), "descriptors", f"{shard:03d}.parquet")
        write_table_atomic(pa.table(columns, schema=schema), url)
    return str(db)
