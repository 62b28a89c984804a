"""Bring ready-made descriptors into a database, as if they had been extracted here."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lib.datasets.captions import CaptionedImage, Captions
from lib.descriptors.import_formats import Batch
from lib.descriptors.store import DESCRIPTOR_WRITING, descriptor_files, provenance
from lib.errors import BadInputError
from lib.schemas import (
    FAILURES,
    Precision,
    Provenance,
    descriptor_schema,
    require_same,
    vectors_to_column,
)
from lib.storage import join, read_table, write_table_atomic

UNRECORDED = "not recorded"


@dataclass
class ImportReport:
    """What an import did, in images."""

    imported: int = 0
    already_described: int = 0
    failed: int = 0  # descriptor of another length, or with values that are not finite
    without_caption: int = 0  # not in the captions given
    descriptor_size: int = 0


def import_descriptors(
    batches: Iterable[Batch],
    db: str,
    captions: Captions | None = None,
    backbone: str = "imported",
    precision: Precision = "float32",
) -> ImportReport:
    """Write descriptors under `DB/descriptors`, a file a batch; an image that is there is kept.

    An image found in `captions` gets its file name as path and its URL (`coco_url`) as uri, so that
    results link to it. A descriptor that differs in length from the first, or is not finite, goes
    to `DB/failures`. Raises MismatchError where the database holds descriptors of another origin,
    BadInputError for an image that comes twice, or where nothing could be imported.
    """
    report, seen = ImportReport(), _described_ids(db)
    there, origin = frozenset(seen), None
    for ids, vectors in batches:
        fresh = [row for row, image_id in enumerate(ids) if image_id not in there]
        report.already_described += len(ids) - len(fresh)
        for row in fresh:
            if ids[row] in seen:
                raise BadInputError(f"image {ids[row]} has two descriptors; which one is meant?")
            seen.add(ids[row])
        if not fresh:
            continue
        if origin is None:
            origin = _origin(db, backbone, precision, [np.asarray(v).size for v in vectors])
            report.descriptor_size = origin.descriptor_size
        _import_batch(
            [ids[r] for r in fresh], [vectors[r] for r in fresh], db, captions, origin, report
        )
    if report.imported == 0 and report.already_described == 0:
        raise BadInputError("no descriptor could be imported; see DB/failures for the reasons")
    return report


def _described_ids(db: str) -> set[str]:
    return {
        image_id
        for file in descriptor_files(db)
        for image_id in read_table(file, ["image_id"])["image_id"].to_pylist()
    }


def _origin(db: str, backbone: str, precision: Precision, sizes: Sequence[int]) -> Provenance:
    """The origin to record; raises MismatchError where the database has another."""
    there = provenance(db)
    size = there.descriptor_size if there and there.descriptor_size in sizes else sizes[0]
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
    good: list[int] = []
    bad: list[tuple[int, str, str]] = []
    rows = [np.asarray(vector).reshape(-1) for vector in vectors]
    dtype = np.float16 if origin.precision == "float16" else np.float32
    for at, row in enumerate(rows):
        if row.size != origin.descriptor_size:
            message = f"{row.size} values where the first descriptor has {origin.descriptor_size}"
            bad.append((at, "wrong_length", message))
        elif row.dtype.kind not in "fiu" or not _is_finite(row, dtype):
            bad.append((at, "not_finite", f"not all values are finite numbers of {dtype.__name__}"))
        else:
            good.append(at)
    if good:
        matrix = np.stack([rows[at] for at in good]).astype(dtype)
        table = _table([ids[at] for at in good], matrix, captions, origin)
        url = join(db, "descriptors", _file_name([ids[at] for at in good]))
        write_table_atomic(table, url, **DESCRIPTOR_WRITING)
    if bad:
        url = join(db, "failures", _file_name([ids[at] for at, *_ in bad]))
        write_table_atomic(_failures([(ids[at], *why) for at, *why in bad], captions), url)
    report.imported += len(good)
    report.failed += len(bad)
    if captions is not None:
        report.without_caption += len(ids) - len(_captioned(ids, captions))


def _is_finite(row: np.ndarray, dtype: type[np.floating]) -> bool:
    with np.errstate(over="ignore"):
        return bool(np.isfinite(row.astype(dtype)).all())


def _file_name(ids: Sequence[str]) -> str:
    """The same for the same images, so that a repeated import writes over itself."""
    digest = hashlib.sha256("\n".join(ids).encode()).hexdigest()
    return f"imported-{digest[:16]}.parquet"


def _names(ids: Sequence[str], captions: Captions | None) -> tuple[list[str], list[str]]:
    """URI and path of each image, as far as the captions tell."""
    known = {} if captions is None else _captioned(ids, captions)
    uris = [known[i].url if i in known else "" for i in ids]
    paths = [(known[i].file_name if i in known else "") or i for i in ids]
    return uris, paths


def _captioned(ids: Sequence[str], captions: Captions) -> dict[str, CaptionedImage]:
    """What the captions say of each image that they name."""
    own = captions.match((image_id, image_id) for image_id in ids).image_ids
    return {image_id: captions.images[name] for name, image_id in own.items()}


def _table(
    ids: Sequence[str], matrix: np.ndarray, captions: Captions | None, origin: Provenance
) -> pa.Table:
    uris, paths = _names(ids, captions)
    unknown = np.zeros(len(ids), np.int32)
    columns = [
        pa.array(ids, pa.string()),
        pa.array(uris, pa.string()),
        pa.array(paths, pa.string()),
        pa.array(unknown),
        pa.array(unknown),
        pa.array(unknown.astype(np.int64) - 1),
        *[pa.array([""] * len(ids), pa.string())] * 2,
        vectors_to_column(matrix),
    ]
    return pa.Table.from_arrays(columns, schema=descriptor_schema(origin))


def _failures(failed: Sequence[tuple[str, ...]], captions: Captions | None) -> pa.Table:
    uris, paths = _names([row[0] for row in failed], captions)
    return pa.Table.from_pylist(
        [
            {
                "image_id": image_id,
                "uri": uri,
                "path": path,
                "reason": reason,
                "message": message,
                "sha256": "",
                "bytes": -1,
                "etag": "",
            }
            for (image_id, reason, message), uri, path in zip(failed, uris, paths, strict=True)
        ],
        schema=FAILURES,
    )
