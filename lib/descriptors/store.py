"""Reading descriptors back from a database: which image each row is, and the rows one wants."""

from dataclasses import dataclass

import numpy as np

from lib.errors import MissingError
from lib.schemas import Provenance, column_to_vectors, require_same
from lib.storage import join, list_files, read_schema, read_table


@dataclass(frozen=True)
class DescriptorIndex:
    """Which image each row of `DB/descriptors/*.parquet` is, files in sorted order."""

    files: list[str]
    image_ids: list[str]
    paths: list[str]
    provenance: Provenance


def index_descriptors(db: str) -> DescriptorIndex:
    """Ids and paths of all descriptors, without the descriptors themselves.

    Raises MissingError where there are none and MismatchError where two files have different
    origins.
    """
    files = list_files(join(db, "descriptors"), ".parquet")
    if not files:
        raise MissingError(f"{db} holds no descriptors; run jobs.extract_descriptors first")
    provenance = Provenance.from_schema(read_schema(files[0]), files[0])
    image_ids: list[str] = []
    paths: list[str] = []
    for file in files:
        require_same(
            f"the descriptors in {files[0]} and {file}",
            provenance,
            Provenance.from_schema(read_schema(file), file),
            "Extract one of them again with jobs.extract_descriptors",
        )
        table = read_table(file, ["image_id", "path"])
        image_ids += table["image_id"].to_pylist()
        paths += table["path"].to_pylist()
    return DescriptorIndex(files, image_ids, paths, provenance)


def read_descriptors(files: list[str], rows: np.ndarray) -> np.ndarray:
    """(len(rows), descriptor_size) float32: the descriptors of sorted rows over all files.

    One file at a time is held, so memory is bounded by a shard and the result.
    """
    parts, first = [], 0
    for file in files:
        vectors = column_to_vectors(read_table(file, ["descriptor"])["descriptor"])
        start, end = np.searchsorted(rows, [first, first + len(vectors)])
        parts.append(vectors[rows[start:end] - first].astype(np.float32))
        first += len(vectors)
    return np.concatenate(parts)


def read_uris(files: list[str], rows: np.ndarray) -> list[str]:
    """What opens the images of sorted rows over all files."""
    uris: list[str] = []
    first = 0
    for file in files:
        column = read_table(file, ["uri"])["uri"]
        start, end = np.searchsorted(rows, [first, first + len(column)])
        uris += column.take(rows[start:end] - first).to_pylist()
        first += len(column)
    return uris
