"""What a database already says of which images: read, compared with a listing, and cut down."""

import time
from array import array
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from lib.descriptors.external_sort import Spool, sort_bounded
from lib.images.listing import ListedImage
from lib.schemas import Provenance
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


@dataclass
class Comparison:
    """A listing against a database: what is to do, and what is in the way."""

    listed: int = 0
    described: int = 0  # listed, unchanged, and in the database
    failed: int = 0  # listed, unchanged, and a known failure
    changed: int = 0  # listed with another size or version than the database has
    removed: int = 0  # in the database, no longer listed
    repeated: int = 0  # listed again under the same path
    doubled: int = 0  # rows that say the same of an image again
    pending: Spool[tuple[int, ListedImage]] = field(default_factory=Spool)  # position in the list
    stale: dict[str, array] = field(default_factory=dict)  # rows to take out of each file


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


def compare(
    listing: Iterator[ListedImage], db: str, prune: bool = False, retry_failed: bool = False
) -> Comparison:
    """Join a listing in order of path with what the database has; memory stays bounded."""
    result = Comparison()
    known = sort_bounded(records(db), key=attrgetter("path"))
    record = next(known, None)
    last = None
    for image in listing:
        if image.path == last:
            result.repeated += 1
            continue
        last = image.path
        position = result.listed
        result.listed += 1
        while record is not None and record.path < image.path:
            _removed(result, record, prune)
            record = next(known, None)
        found = False
        while record is not None and record.path == image.path:
            found = _met(result, image, record, found, retry_failed)
            record = next(known, None)
        if not found:
            result.pending.append((position, image))
    while record is not None:
        _removed(result, record, prune)
        record = next(known, None)
    return result


def _met(
    result: Comparison, image: ListedImage, record: Record, found: bool, retry_failed: bool
) -> bool:
    """Note one row about a listed image; whether the image has a valid row now."""
    if found:
        result.doubled += 1
    elif _differs(image, record):
        result.changed += 1
    elif record.failed and not retry_failed:
        result.failed += 1
        return True
    elif not record.failed:
        result.described += 1
        return True
    _mark(result, record)
    return found


def _differs(image: ListedImage, record: Record) -> bool:
    size = image.bytes >= 0 and image.bytes != record.bytes
    return size or (bool(image.etag) and image.etag != record.etag)


def _removed(result: Comparison, record: Record, prune: bool) -> None:
    result.removed += 1
    if prune:
        _mark(result, record)


def _mark(result: Comparison, record: Record) -> None:
    result.stale.setdefault(record.file, array("q")).append(record.row)


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
