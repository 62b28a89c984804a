"""Bring ready-made descriptors into a database, as if they had been extracted here."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from lib.datasets.captions import CaptionedImage, Captions
from lib.descriptors.import_formats import Batch
from lib.descriptors.store import (
    DescribedImage,
    Failure,
    descriptor_table,
    named_images,
    provenance,
    writing,
)
from lib.errors import BadInputError, left_out
from lib.images.listed import ListedImage
from lib.parquet import write_table_atomic
from lib.schemas import FAILURES, Precision, Provenance, descriptor_schema, require_same
from lib.storage import join

UNRECORDED = "not recorded"


@dataclass
class ImportReport:
    """What an import did, in images."""

    imported: int = 0
    already_described: int = 0
    failed: int = 0  # descriptor of another length, or with values that are not finite
    without_caption: int = 0  # not in the captions given
    descriptor_size: int = 0
    repeated: int = 0  # of an image that came before, with the same values
    notes: list[str] = field(default_factory=list)  # of descriptors of no image, or of two


def import_descriptors(
    batches: Iterable[Batch],
    db: str,
    captions: Captions | None = None,
    backbone: str = "imported",
    precision: Precision = "float32",
) -> ImportReport:
    """Write descriptors under `DB/descriptors`, a file a batch; an image that is there is kept.

    An image found in `captions` gets its file name as path and its URL (`coco_url`) as uri, so that
    results link to it. A descriptor of another length than most of the first batch, or that is not
    finite, goes to `DB/failures`. One without an id, or with other values than an earlier one of
    its image, is left out with a note. Raises MismatchError where the database holds descriptors of
    another origin, BadInputError where more than a tenth are left out, before the batch that has
    them is written, or where nothing could be imported.
    """
    report, there = ImportReport(), {image_id for image_id, _ in named_images(db)}
    seen: dict[str, int] = {}
    problems: list[str] = []
    origin, rows = None, 0
    for ids, vectors in batches:
        fresh = []
        for row, (image_id, vector) in enumerate(zip(ids, vectors, strict=True)):
            if not image_id:
                problems.append(
                    f"descriptor {rows + row + 1} has no image id, a text or whole number"
                )
            elif image_id in there:
                report.already_described += 1
            elif image_id not in seen:
                seen[image_id] = hash(np.asarray(vector).tobytes())
                fresh.append(row)
            elif seen[image_id] == hash(np.asarray(vector).tobytes()):
                report.repeated += 1
            else:
                problems.append(f"image {image_id} comes again with other values")
        rows += len(ids)
        report.notes = left_out(problems, rows - len(problems))
        if not fresh:
            continue
        if origin is None:
            origin = _origin(db, backbone, precision, [np.asarray(v).size for v in vectors])
            report.descriptor_size = origin.descriptor_size
        _import_batch(
            [ids[r] for r in fresh], [vectors[r] for r in fresh], db, captions, origin, report
        )
    if report.imported == 0 and report.already_described == 0:
        raise BadInputError(
            f"no descriptor could be imported; {join(db, 'failures')} says why"
            if report.failed
            else "; ".join(["there is no descriptor to import: the file holds none", *report.notes])
        )
    return report


def _origin(db: str, backbone: str, precision: Precision, sizes: Sequence[int]) -> Provenance:
    """The origin to record; raises MismatchError where the database has another."""
    there = provenance(db)
    if there and there.descriptor_size in sizes:
        size = there.descriptor_size
    else:  # the first alone may be the one that is wrong
        size = max(Counter(sizes).items(), key=lambda item: (item[0] > 0, item[1]))[0]
    if size == 0:
        raise BadInputError("there is no descriptor to import: each holds no values")
    imported = Provenance(backbone, UNRECORDED, UNRECORDED, precision, size)
    if there is not None:
        require_same(
            f"the origins of the descriptors in {db} and of those to import",
            there,
            imported,
            "Import them into a database of their own (--db), or name the same --backbone",
        )
    return imported


def _import_batch(
    ids: Sequence[str],
    vectors: Sequence[np.ndarray],
    db: str,
    captions: Captions | None,
    origin: Provenance,
    report: ImportReport,
) -> None:
    known = {} if captions is None else _captioned(ids, captions)
    images: list[DescribedImage] = []
    rows: list[np.ndarray] = []
    failures: list[dict[str, Any]] = []
    dtype = np.float16 if origin.precision == "float16" else np.float32
    for image_id, vector in zip(ids, vectors, strict=True):
        named = known.get(image_id, CaptionedImage("", ""))
        image = ListedImage(named.file_name or image_id, named.url, -1, "", image_id)
        row = np.asarray(vector).reshape(-1)
        if row.size != origin.descriptor_size:
            message = f"{row.size} values, not {origin.descriptor_size} as the other descriptors"
            failures.append(Failure("wrong_length", message).row(image))
        elif row.dtype.kind not in "fiu" or not _is_finite(row, dtype):
            message = f"not all values are finite numbers of {dtype.__name__}"
            failures.append(Failure("not_finite", message).row(image))
        else:
            images.append(DescribedImage(image, 0, 0, -1, ""))
            rows.append(row)
    if images:
        table = descriptor_table(images, np.stack(rows).astype(dtype), descriptor_schema(origin))
        _write(table, db, "descriptors")
    if failures:
        _write(pa.Table.from_pylist(failures, schema=FAILURES), db, "failures")
    report.imported += len(images)
    report.failed += len(failures)
    if captions is not None:
        report.without_caption += len(ids) - len(known)


def _is_finite(row: np.ndarray, dtype: type[np.floating]) -> bool:
    with np.errstate(over="ignore"):
        return bool(np.isfinite(row.astype(dtype)).all())


def _write(table: pa.Table, db: str, kind: str) -> None:
    """Under a name that is the same for the same images: a repeated import writes over itself."""
    digest = hashlib.sha256("\n".join(table["image_id"].to_pylist()).encode()).hexdigest()
    write_table_atomic(table, join(db, kind, f"imported-{digest[:16]}.parquet"), **writing(kind))


def _captioned(ids: Sequence[str], captions: Captions) -> dict[str, CaptionedImage]:
    """What the captions say of each image that they name."""
    own = captions.match((image_id, image_id) for image_id in ids).image_ids
    return {image_id: captions.images[name] for name, image_id in own.items()}
