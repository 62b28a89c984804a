"""Opening a version of the embedded collection: small ones in memory, large ones memory-mapped."""

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lib.database.interface import natural_order
from lib.database.local import COLUMNS, LocalCollection
from lib.database.manifest import read_live, read_manifest
from lib.errors import BadInputError, MissingError
from lib.schemas import column_to_vectors
from lib.storage import absolute, cache_directory, is_local, join, locked, read_schema
from lib.topk.scan import largest_norm

MAPPED_ROWS = 500_000  # a smaller version is read from Parquet in less than a second
_READERS = 4  # files read at a time

_log = logging.getLogger(__name__)


def open_database(db: str) -> LocalCollection:
    """The current version. Raises MissingError where there is none.

    A version is immutable: its manifest names its files. Where a writer committed another and
    deleted files of this one meanwhile, the new version is opened instead.
    """
    while True:
        manifest = read_manifest(db)
        try:
            return load_version(db, manifest)
        except MissingError:
            if read_manifest(db)["version"] == manifest["version"]:
                raise


def load_version(
    db: str, manifest: dict[str, Any], files: Sequence[dict[str, Any]] | None = None
) -> LocalCollection:
    """Open the version that a manifest describes, or only some of its `files`.

    From MAPPED_ROWS on, rows are put in order once, into files beside the database (for one on an
    object store, into the user's cache directory), which are then memory-mapped: the next process
    opens them at once, several share one copy, and they may be larger than memory.
    Raises MissingError where a file is gone, BadInputError where one is damaged.
    """
    files = manifest["files"] if files is None else files
    names = [file["name"] for file in files]
    if sum(file["rows"] for file in files) >= MAPPED_ROWS:
        try:
            return _mapped(db, manifest, names)
        except OSError as error:
            _log.warning("%s is loaded into memory, it cannot be mapped: %s", db, error)
    return _in_memory(db, manifest, names)


def _in_memory(db: str, manifest: dict[str, Any], names: Sequence[str]) -> LocalCollection:
    images, places = _read_images(db, manifest, names)
    embeddings = np.empty((len(images), dimension_of(db, names[0])), np.float32)
    norm = _read_embeddings(db, manifest, names, places, embeddings)
    return LocalCollection(
        manifest["version"], manifest["embedder_digest"], images, embeddings, norm
    )


def _mapped(db: str, manifest: dict[str, Any], names: Sequence[str]) -> LocalCollection:
    """Open the ordered copy of some files of a version; make it where it is not there yet."""
    copies = _copies_directory(db)
    # A copy for each set of files: actors of one machine may hold a part each.
    version = _digest(manifest)
    copy = copies / f"{version}-{_digest(names)}"
    if not copy.is_dir():
        with locked(f"{copy}.lock"):  # processes that start together make it once
            if not copy.is_dir():
                _make_copy(db, manifest, names, copy)
        for other in copies.iterdir():
            if not other.name.startswith(version):  # whoever has it open keeps it
                shutil.rmtree(other, ignore_errors=True)
    images = pa.ipc.open_file(pa.memory_map(str(copy / "images.arrow"))).read_all()
    embeddings = np.load(copy / "embeddings.npy", mmap_mode="r")
    norm = float(json.loads((copy / "norm.json").read_text()))
    return LocalCollection(
        manifest["version"], manifest["embedder_digest"], images, np.asarray(embeddings), norm
    )


def _copies_directory(db: str) -> Path:
    if is_local(db):
        return Path(absolute(db)) / "mapped"
    return cache_directory() / "databases" / _digest(db)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _make_copy(db: str, manifest: dict[str, Any], names: Sequence[str], copy: Path) -> None:
    """Ordered images and embeddings of some files; holds what is known of the images in memory."""
    made = Path(tempfile.mkdtemp(prefix=f"{copy.name}.tmp-", dir=copy.parent))
    try:
        made.chmod(0o755)
        images, places = _read_images(db, manifest, names)
        with (
            pa.OSFile(str(made / "images.arrow"), "wb") as file,
            pa.ipc.new_file(file, images.schema) as writer,
        ):
            writer.write_table(images)
        shape = (len(images), dimension_of(db, names[0]))
        del images
        norm = 0.0
        if shape[0]:
            out = np.lib.format.open_memmap(made / "embeddings.npy", "w+", np.float32, shape)
            norm = _read_embeddings(db, manifest, names, places, out)
            out.flush()
        else:  # nothing cannot be mapped for writing
            np.save(made / "embeddings.npy", np.empty(shape, np.float32))
        (made / "norm.json").write_text(json.dumps(norm))
        made.rename(copy)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def dimension_of(db: str, name: str) -> int:
    """d of the embeddings in a file, from its footer."""
    return int(read_schema(join(db, "embeddings", name)).field("embedding").type.list_size)


def _read_images(
    db: str, manifest: dict[str, Any], names: Sequence[str]
) -> tuple[pa.Table, list[np.ndarray]]:
    """COLUMNS of some files in natural order, and the rows where each file's images went."""
    with ThreadPoolExecutor(_READERS) as pool:
        tables = list(pool.map(lambda name: read_live(db, manifest, name, COLUMNS), names))
    images = pa.concat_tables(tables)
    # 64-bit offsets: one chunk may hold more than 2 GB of strings.
    wide = [
        pa.field(field.name, pa.large_string() if pa.types.is_string(field.type) else field.type)
        for field in images.schema
    ]
    images = images.cast(pa.schema(wide))
    order = natural_order(images["image_id"])
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    if (order[1:] < order[:-1]).any():
        images = images.take(pa.array(order))
    ends = np.cumsum([len(table) for table in tables])[:-1]
    return images.combine_chunks(), np.split(ranks, ends)


def _read_embeddings(
    db: str,
    manifest: dict[str, Any],
    names: Sequence[str],
    places: Sequence[np.ndarray],
    out: np.ndarray,
) -> float:
    """Put the embeddings of some files in their rows of `out`, (N, d); returns the largest norm.

    Holds few files at a time in memory. Raises BadInputError where one is not finite.
    """

    def read(name: str, rows: np.ndarray) -> float:
        vectors = column_to_vectors(read_live(db, manifest, name, ["embedding"])["embedding"])
        try:
            norm = largest_norm(vectors)
        except BadInputError as error:
            file = join(db, "embeddings", name)
            raise BadInputError(f"{file}: {error}; delete it, run jobs.embed_database") from error
        if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all():
            out[rows[0] : rows[-1] + 1] = vectors
        else:
            out[rows] = vectors
        return norm

    with ThreadPoolExecutor(_READERS) as pool:
        return max(pool.map(read, names, places), default=0.0)
