"""What a run has to do: a listing compared with what a database already has."""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import attrgetter

from lib.descriptors.external_sort import SpooledRows, sort_bounded
from lib.descriptors.store import Record, records
from lib.images.listing import ListedImage


@dataclass
class ExtractionPlan:
    """A listing against a database: what is to do, and what is in the way."""

    listed: int = 0
    described: int = 0  # listed, unchanged, and in the database
    failed: int = 0  # listed, unchanged, and a known failure
    changed: int = 0  # listed with another size or version than the database has
    removed: int = 0  # in the database, no longer listed
    repeated: int = 0  # listed again under the same path
    doubled: int = 0  # rows that say the same of an image again
    pending: SpooledRows[tuple[int, ListedImage]] = field(
        default_factory=SpooledRows
    )  # position in the list
    stale: dict[str, array] = field(default_factory=dict)  # rows to take out of each file


def compare(
    listing: Iterator[ListedImage], db: str, prune: bool = False, retry_failed: bool = False
) -> ExtractionPlan:
    """Join a listing in order of path with what the database has; memory stays bounded."""
    result = ExtractionPlan()
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
    result: ExtractionPlan, image: ListedImage, record: Record, found: bool, retry_failed: bool
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


def _removed(result: ExtractionPlan, record: Record, prune: bool) -> None:
    result.removed += 1
    if prune:
        _mark(result, record)


def _mark(result: ExtractionPlan, record: Record) -> None:
    result.stale.setdefault(record.file, array("q")).append(record.row)
