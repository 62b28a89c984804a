"""Which images of an evaluation the embedder has seen in training, or copies of them."""

import hashlib
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lib.datasets.captions import Captions
from lib.datasets.matching import Matches
from lib.descriptors.store import DescriptorIndex, read_contents, read_descriptors
from lib.errors import MissingError
from lib.parquet import read_table, write_table_atomic
from lib.storage import join
from lib.text.encoder import unit_rows

COPY = 0.9999  # cosine of descriptors from which two images are the same
_CHUNK = 4096


def captions_digest(parts: Iterable[Captions]) -> str:
    """SHA-256, hexadecimal, of pairs of image and text, in whatever order and parts they come."""
    pairs = {
        f"{image_id}\n{text}\n"
        for part in parts
        for image_id, text in zip(part.image_ids, part.texts, strict=True)
    }
    return hashlib.sha256("".join(sorted(pairs)).encode("utf-8", "surrogatepass")).hexdigest()


def keep_training_images(db: str, embedder: str, image_ids: list[str]) -> None:
    """Note which images of a database taught the embedder of this digest."""
    table = pa.table({"image_id": pa.array(image_ids, pa.large_string())})
    table = table.replace_schema_metadata({"embedder": embedder})
    write_table_atomic(table, _file(db), compression="zstd")


def training_rows(db: str, embedder: str, index: DescriptorIndex) -> np.ndarray:
    """Rows, sorted, of the images that taught the embedder of this digest; none where unknown."""
    try:
        table = read_table(_file(db))
    except MissingError:
        return np.zeros(0, np.int64)
    if (table.schema.metadata or {}).get(b"embedder") != embedder.encode():
        return np.zeros(0, np.int64)
    taught = table["image_id"].combine_chunks().cast(pa.large_string())
    return np.flatnonzero(pc.is_in(index.image_ids, taught).to_numpy())


def copies(index: DescriptorIndex, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(len(rows),) bool: which of these rows show an image that is among the `others`, too.

    By the same bytes, or by descriptors whose cosine is COPY or more: scaled or compressed anew.
    Both kinds of rows are sorted.
    """
    if not len(rows):  # then nothing of the others need be read
        return np.zeros(0, bool)
    originals = _first_copies(index, np.concatenate([others, rows]))[len(others) :]
    same = np.isin(originals, others)
    own = unit_rows(read_descriptors(index.files, rows))
    for start in range(0, len(others), _CHUNK):
        part = unit_rows(read_descriptors(index.files, others[start : start + _CHUNK]))
        for first in range(0, len(own), _CHUNK):
            near = (own[first : first + _CHUNK] @ part.T >= COPY).any(axis=1)
            same[first : first + _CHUNK] |= near
    return same


def merge_copies(index: DescriptorIndex, *parts: Matches) -> list[Matches]:
    """The parts with one row for images of the same bytes: that of the first in their order."""
    rows = np.array([row for part in parts for row in part.rows.values()], np.int64)
    first = dict(zip(rows.tolist(), _first_copies(index, rows).tolist(), strict=True))
    return [
        replace(part, rows={image: first[row] for image, row in part.rows.items()})
        for part in parts
    ]


def _first_copies(index: DescriptorIndex, rows: np.ndarray) -> np.ndarray:
    """(len(rows),) int64: for each of these rows the first of them with the same content."""
    contents = read_contents(index.files, np.unique(rows)) if len(rows) else {}
    first: dict[str, int] = {}
    return np.array(
        [
            row if " " in contents[row] else first.setdefault(contents[row], row)  # no digest
            for row in rows.tolist()
        ],
        np.int64,
    )


def _file(db: str) -> str:
    return join(db, "embedder", "training_images.parquet")
