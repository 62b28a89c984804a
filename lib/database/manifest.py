"""Versions of an embedded collection: files under DB/embeddings; the manifest is the truth."""

import hashlib
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lib.errors import BadInputError, ConflictError, MissingError
from lib.storage import exists, join, locked, read_bytes, read_json, read_table, write_json_atomic


def manifest_file(db: str) -> str:
    """Where a database lists the files of its current version."""
    return join(db, "embeddings", "manifest.json")


def read_manifest(db: str) -> dict[str, Any]:
    """The current manifest. Raises MissingError before `jobs.embed_database` has run."""
    try:
        return read_json(manifest_file(db))
    except MissingError as error:
        raise MissingError(f"{db} has no embeddings; run jobs.embed_database first") from error


def manifest_state(db: str) -> str:
    """A digest that changes whenever a new version is committed."""
    return hashlib.sha256(read_bytes(manifest_file(db))).hexdigest()


def read_live(
    db: str, manifest: dict[str, Any], name: str, columns: Sequence[str] | None = None
) -> pa.Table:
    """The rows of one file of embeddings that have not been removed; all columns unless given."""
    removed = manifest.get("removed", [])
    wanted = None if columns is None else list(columns)
    if wanted is not None and removed and "image_id" not in wanted:
        wanted.append("image_id")
    table = without(read_table(join(db, "embeddings", name), wanted), removed)
    return table if columns is None else table.select(columns)


def without(table: pa.Table, removed: Sequence[str]) -> pa.Table:
    """The rows of a table whose image_id is not among the `removed`."""
    if not removed:
        return table
    gone = pc.is_in(table["image_id"], value_set=pa.array(removed, pa.string()))
    return table.filter(pc.invert(gone)) if pc.any(gone).as_py() else table


def remove_images(db: str, image_ids: Sequence[str]) -> int:
    """Take images out of the database with a tombstone each; returns how many were in it.

    Files stay as they are until `lib.database.compaction` rewrites them; the tombstones stay for
    good, so that embedding the descriptors anew brings no removed image back.
    Raises BadInputError where an id was never in the database and ConflictError where another job
    committed meanwhile; nothing is removed then.
    """
    manifest = read_manifest(db)
    removed = set(manifest.get("removed", []))
    present = pa.chunked_array(
        [
            chunk
            for file in manifest["files"]
            for chunk in read_table(join(db, "embeddings", file["name"]), ["image_id"])[0].chunks
        ],
        pa.string(),
    )
    wanted = set(image_ids) - removed
    found = pc.is_in(pa.array(sorted(wanted), pa.string()), value_set=present).to_pylist()
    unknown = [name for name, known in zip(sorted(wanted), found, strict=True) if not known]
    if unknown:
        raise BadInputError(
            f"{len(unknown)} ids are not in {db}, such as {unknown[0]!r}; nothing was removed"
        )
    if wanted:
        commit_version(db, {**manifest, "removed": sorted(removed | wanted)})
    return len(wanted)


def commit_version(db: str, manifest: dict[str, Any]) -> int:
    """Make `manifest` the version after the one it was made from; returns its number.

    `manifest` has the number of the version it was made from, 0 for none. Raises ConflictError,
    changing nothing, where another job has committed since. Local writers exclude one another; on
    an object store two that commit within the same instant may both pass the check.
    """
    version: int = manifest["version"] + 1
    with locked(join(db, "embeddings")):
        current = read_json(manifest_file(db))["version"] if exists(manifest_file(db)) else 0
        if current != manifest["version"]:
            raise ConflictError(
                f"another job committed version {current} of {db} meanwhile, this one started from "
                f"version {manifest['version']}; nothing was changed, run it again"
            )
        write_json_atomic(manifest_file(db), {**manifest, "version": version})
    return version
