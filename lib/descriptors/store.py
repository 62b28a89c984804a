"""The files of descriptors and of failures in a database: listed, read, cut down, swept."""

import time
from array import array
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from lib.errors import MissingError
from lib.schemas import Provenance, column_to_vectors, require_same
from lib.storage import (
    TEMPORARY_PREFIX,
    filesystem,
    join,
    list_files,
    read_schema,
    read_table,
    write_table_atomic,
)

# The values of descriptors do not shrink; read without decompression they cost no time. Names do.
DESCRIPTOR_WRITING = {
    "compression": {
        **dict.fromkeys(("image_id", "uri", "path", "etag"), "zstd"),
        "descriptor.list.element": "none",
    },
    "use_dictionary": False,
    "write_statistics": ["path"],
    "row_group_size": 16_384,
}
# A worker that was killed leaves its unfinished file; a younger one may belong to another run.
_LEFTOVER_AGE_S = 600


class Record(NamedTuple):
    """Where the database has an image."""

    path: str
    bytes: int
    etag: str
    failed: bool
    file: str
    row: int


def shard_files(db: str) -> list[str]:
    """URLs of all finished files of descriptors and of failures."""
    return [*descriptor_files(db), *list_files(join(db, "failures"), ".parquet")]


def descriptor_files(db: str) -> list[str]:
    """URLs of all finished descriptor files."""
    return list_files(join(db, "descriptors"), ".parquet")


def records(db: str) -> Iterator[Record]:
    """Every image that the database has, described or failed, file by file."""
    failures = join(db, "failures")
    for file in shard_files(db):
        failed = file.startswith(failures)
        table = read_table(file, columns=["path", "bytes", "etag"])
        columns = (table[name].to_pylist() for name in ("path", "bytes", "etag"))
        for row, (path, size, etag) in enumerate(zip(*columns, strict=True)):
            yield Record(path, size, etag, failed, file, row)


def count_rows(db: str) -> tuple[int, int]:
    """Rows of descriptors and of failures, from the files' footers only."""

    def rows(file: str) -> int:
        fs, path = filesystem(file)
        return pq.read_metadata(path, filesystem=fs).num_rows

    with ThreadPoolExecutor(16) as pool:
        described = sum(pool.map(rows, descriptor_files(db)))
        failed = sum(pool.map(rows, list_files(join(db, "failures"), ".parquet")))
    return described, failed


def provenance(db: str) -> Provenance | None:
    """Origin of the descriptors that are there; None where there are none."""
    files = descriptor_files(db)
    return Provenance.from_schema(read_schema(files[0]), files[0]) if files else None


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
    files = descriptor_files(db)
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


def drop_rows(stale: dict[str, array]) -> None:
    """Write the named files again without the named rows; a file left empty goes away."""
    for file, rows in stale.items():
        table = read_table(file)
        keep = np.ones(table.num_rows, bool)
        keep[np.asarray(rows)] = False
        if keep.any():
            write_table_atomic(table.filter(pa.array(keep)), file, **writing(file))
        else:
            fs, path = filesystem(file)
            fs.rm_file(path)


def remove_leftovers(db: str) -> None:
    """Delete unfinished files of runs that were killed, where the database is a directory."""
    for kind in ("descriptors", "failures"):
        fs, path = filesystem(join(db, kind))
        if not isinstance(fs, LocalFileSystem):
            return
        for leftover in Path(path).glob(f"{TEMPORARY_PREFIX}*"):
            if time.time() - leftover.stat().st_mtime > _LEFTOVER_AGE_S:
                leftover.unlink(missing_ok=True)


def writing(file: str) -> dict[str, object]:
    """Options of the Parquet writer for a file of the database."""
    return DESCRIPTOR_WRITING if "/descriptors/" in file else {}
