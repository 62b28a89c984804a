"""Opening a version of the embedded collection: small ones in memory, large ones memory-mapped."""

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lib.database.local import COLUMNS, LocalCollection
from lib.database.manifest import (
    Manifest,
    ManifestFile,
    embeddings_file,
    latest_version,
    read_live,
    read_manifest,
)
from lib.database.ordering import in_natural_order
from lib.database.tombstones import table_digest
from lib.descriptors.store import named_images
from lib.errors import BadInputError, MissingError
from lib.parquet import read_schema
from lib.schemas import column_to_vectors
from lib.storage import (
    absolute,
    cache_directory,
    digest_of,
    is_local,
    locked,
    make_directory,
    sync_directory,
    write_json_atomic,
)
from lib.topk.scores import largest_norm

MAPPED_ROWS = 500_000  # a smaller version is read from Parquet in less than a second
_READERS = 4  # files read at a time
_UNFINISHED = ".tmp-"
_COPIED = ("images.arrow", "embeddings.npy")

_log = logging.getLogger(__name__)


def open_database(db: str | os.PathLike[str]) -> LocalCollection:
    """The current version. Raises MissingError where there is none.

    A version is immutable: its manifest names its files. Where it was replaced and its files were
    deleted meanwhile, the new version is opened instead.
    """
    db = os.fspath(db)
    while True:
        manifest = read_manifest(db)
        try:
            return load_version(db, manifest)
        except MissingError:
            if latest_version(db) == manifest.version:
                raise


def searchable_names(db: str) -> Iterator[tuple[str, str]]:
    """Id and path of each image that can be searched; before the first version, of each described.

    Raises BadInputError where a file of the version is damaged.
    """
    if not latest_version(db):
        yield from named_images(db)
        return
    manifest = read_manifest(db)
    for file in manifest.files:
        table = read_live(db, manifest, file, ["image_id", "path"])
        yield from zip(table["image_id"].to_pylist(), table["path"].to_pylist(), strict=True)


def load_version(
    db: str, manifest: Manifest, files: Sequence[ManifestFile] | None = None
) -> LocalCollection:
    """Open the version that a manifest describes, or only some of its `files`.

    From MAPPED_ROWS on, rows are put in order once, into files beside the database (for one on an
    object store, into the user's cache directory), which are then memory-mapped: the next process
    opens them at once, several share one copy, and they may be larger than memory.
    Raises MissingError where a file is gone, BadInputError where one is damaged.
    """
    files = manifest.files if files is None else files
    if sum(file.rows for file in files) >= MAPPED_ROWS:
        try:
            return _mapped(db, manifest, files)
        except OSError as error:
            _log.warning("%s is loaded into memory, it cannot be mapped: %s", db, error)
    return _in_memory(db, manifest, files)


def _in_memory(db: str, manifest: Manifest, files: Sequence[ManifestFile]) -> LocalCollection:
    images, places = _read_images(db, manifest, files)
    embeddings = np.empty((len(images), dimension_of(db, files[0])), np.float32)
    norm = _read_embeddings(db, manifest, files, places, embeddings)
    return LocalCollection(manifest.version, manifest.embedder_digest, images, embeddings, norm)


def _mapped(db: str, manifest: Manifest, files: Sequence[ManifestFile]) -> LocalCollection:
    """Open the ordered copy of some files of a version; make it where it is not there, or wrong."""
    copies = _copies_directory(db)
    make_directory(copies)
    # A copy for each set of files: actors of one machine may hold a part each.
    copy = copies / part_key(manifest, files)
    if not _is_whole(copy):
        with locked(f"{copy}.lock"):  # processes that start together make it once
            if not _is_whole(copy):
                for wrong in (copy, *copies.glob(f"{copy.name}{_UNFINISHED}*")):
                    shutil.rmtree(wrong, ignore_errors=True)
                _make_copy(db, manifest, files, copy)
        _delete_others(copies, _version_key(manifest))
    images = pa.ipc.open_file(pa.memory_map(str(copy / "images.arrow"))).read_all()
    embeddings = np.load(copy / "embeddings.npy", mmap_mode="r")
    norm = float(json.loads((copy / "copy.json").read_text())["norm"])
    return LocalCollection(
        manifest.version, manifest.embedder_digest, images, np.asarray(embeddings), norm
    )


def _copies_directory(db: str) -> Path:
    if is_local(db):
        return Path(absolute(db)) / "mapped"
    return cache_directory() / "databases" / _digest(db)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def part_key(manifest: Manifest, files: Sequence[ManifestFile]) -> str:
    """What stands for the rows that some files of a version have: equal ones, equal rows."""
    return f"{_version_key(manifest)}-{_digest([file.name for file in files])}"


def _version_key(manifest: Manifest) -> str:
    """What the rows of a version follow from."""
    files = [(file.name, file.sha256) for file in manifest.files]
    hidden = table_digest(manifest.tombstones.table)
    return _digest([manifest.embedder_digest, files, hidden, COLUMNS])


def _make_copy(db: str, manifest: Manifest, files: Sequence[ManifestFile], copy: Path) -> None:
    """Ordered images and embeddings of some files; holds what is known of the images in memory.

    Raises OSError where the disk has no room for it: a file that is mapped before it is all there
    would end the process instead.
    """
    unfinished = Path(tempfile.mkdtemp(prefix=f"{copy.name}{_UNFINISHED}", dir=copy.parent))
    try:
        unfinished.chmod(0o755)
        images, places = _read_images(db, manifest, files)
        with (
            pa.OSFile(str(unfinished / "images.arrow"), "wb") as file,
            pa.ipc.new_file(file, images.schema) as writer,
        ):
            writer.write_table(images)
        embeddings = unfinished / "embeddings.npy"
        shape = (len(images), dimension_of(db, files[0]))
        del images
        norm = 0.0
        if shape[0]:
            _allocate(embeddings, shape)
            out = np.lib.format.open_memmap(embeddings, "r+")
            norm = _read_embeddings(db, manifest, files, places, out)
            out.flush()
            del out
        else:  # nothing cannot be mapped for writing
            np.save(embeddings, np.empty(shape, np.float32))
        for name in _COPIED:
            with (unfinished / name).open("rb") as file:
                os.fsync(file.fileno())
        write_json_atomic(str(unfinished / "copy.json"), {"norm": norm, **_describe(unfinished)})
        sync_directory(unfinished)
        unfinished.rename(copy)
        sync_directory(copy.parent)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _allocate(file: Path, shape: tuple[int, int]) -> None:
    """A .npy of float32 zeros with its place on disk taken. Raises OSError where there is none."""
    with file.open("wb") as out:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(out, header)
        out.flush()
        if hasattr(os, "posix_fallocate"):  # macOS lacks it
            os.posix_fallocate(out.fileno(), 0, out.tell() + 4 * shape[0] * shape[1])
        else:
            out.truncate(out.tell() + 4 * shape[0] * shape[1])


def _describe(copy: Path) -> dict[str, Any]:
    """Size, digest and stamp of each file of a copy."""
    with ThreadPoolExecutor() as pool:
        digests = pool.map(digest_of, [str(copy / name) for name in _COPIED])
        return {
            name: {**asdict(digest), "stamp": _stamp(copy / name)}
            for name, digest in zip(_COPIED, digests, strict=True)
        }


def _stamp(file: Path) -> list[int]:
    """What changes with every change of a file, whoever makes it."""
    state = file.stat()
    return [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino]


def _is_whole(copy: Path) -> bool:
    """Whether a copy is as it was made; its digests are compared where its stamps have changed."""
    try:
        noted = json.loads((copy / "copy.json").read_text())
        if all(noted[name]["stamp"] == _stamp(copy / name) for name in _COPIED):
            return True
        now = _describe(copy)
        whole = all(noted[name]["sha256"] == now[name]["sha256"] for name in _COPIED)
        if whole:  # copied with the database, say: the next process need not read it through
            with suppress(OSError):
                write_json_atomic(str(copy / "copy.json"), {**noted, **now})
        return whole
    except (OSError, MissingError, ValueError, KeyError, TypeError):
        return False


def _delete_others(copies: Path, version: str) -> None:
    """Delete the copies of other versions; whoever has one open keeps it, and whoever makes one."""
    for name in {path.name.split(".")[0] for path in copies.iterdir()}:
        lock = copies / f"{name}.lock"
        if not name.startswith(version):
            with suppress(OSError), locked(str(lock), wait=False):
                for other in (copies / name, *copies.glob(f"{name}{_UNFINISHED}*"), lock):
                    shutil.rmtree(other, ignore_errors=True)


def dimension_of(db: str, file: ManifestFile) -> int:
    """d of the embeddings in a file, from its footer."""
    return int(read_schema(embeddings_file(db, file.name)).field("embedding").type.list_size)


def _read_images(
    db: str, manifest: Manifest, files: Sequence[ManifestFile]
) -> tuple[pa.Table, list[np.ndarray]]:
    """COLUMNS of some files in natural order, and the rows where each file's images went."""
    with ThreadPoolExecutor(_READERS) as pool:
        # The whole file is compared with its digest here; the second reading trusts checksums.
        tables = list(pool.map(lambda f: read_live(db, manifest, f, COLUMNS, verify=True), files))
    images, order = in_natural_order(tables)
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    ends = np.cumsum([len(table) for table in tables])[:-1]
    return images, np.split(ranks, ends)


def _read_embeddings(
    db: str,
    manifest: Manifest,
    files: Sequence[ManifestFile],
    places: Sequence[np.ndarray],
    out: np.ndarray,
) -> float:
    """Put the embeddings of some files in their rows of `out`, (N, d); returns the largest norm.

    Holds few files at a time in memory. Raises BadInputError where one is not finite.
    """

    def read(file: ManifestFile, rows: np.ndarray) -> float:
        vectors = column_to_vectors(read_live(db, manifest, file, ["embedding"])["embedding"])
        try:
            norm = largest_norm(vectors)
        except BadInputError as error:
            url = embeddings_file(db, file.name)
            raise BadInputError(
                f"{url}: {error}; extract the descriptors again, or train again, and then run "
                "jobs.embed_database"
            ) from error
        if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all():
            out[rows[0] : rows[-1] + 1] = vectors
        else:
            out[rows] = vectors
        return norm

    with ThreadPoolExecutor(_READERS) as pool:
        return max(pool.map(read, files, places), default=0.0)
