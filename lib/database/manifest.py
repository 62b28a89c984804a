"""Versions of a database: numbered files under DB/versions, each made by the creation of one."""

import dataclasses
import json
import logging
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import pyarrow as pa

from lib.database.ordering import first_and_last
from lib.database.tombstones import IDENTITY, NONE_REMOVED, Tombstones, table_digest, with_digest
from lib.errors import (
    BadInputError,
    ConflictError,
    ImageSearchError,
    MissingError,
    UnsupportedStoreError,
)
from lib.parquet import read_table, write_table_atomic
from lib.storage import (
    FileDigest,
    create_bytes,
    delete,
    is_file_there,
    is_local,
    join,
    list_stored,
    read_bytes,
    read_json,
    require_exclusive_creation,
    stored,
)

FORMAT = 2

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ManifestFile:
    """A Parquet file of embeddings that belongs to a version."""

    name: str  # below DB/embeddings
    rows: int
    sources: tuple[str, ...] = ()  # `content_of` the descriptor files whose rows it holds
    sources_seen: tuple[str, ...] = ()  # name and state of each source when it was read
    bytes: int = -1  # -1 and "" where an older program wrote it
    sha256: str = ""
    state: str = ""  # what its store said of it when it was written: `StoredFile.state`
    hidden: int = 0  # rows that tombstones hide; -1 where not known
    dropped: int = 0  # rows of its sources that compaction took out
    first_id: str | None = None  # of the images in it, in natural order
    last_id: str | None = None

    @property
    def digest(self) -> FileDigest | None:
        """What it must hold."""
        return FileDigest(self.bytes, self.sha256) if self.sha256 else None


@dataclass(frozen=True)
class Manifest:
    """A version: everything that belongs to it, by name and digest. Immutable once committed."""

    version: int  # 0: nothing is committed yet
    embedder_digest: str  # of `DB/embedder/<digest>.npz`, which made the embeddings
    files: tuple[ManifestFile, ...]
    tombstones: Tombstones = NONE_REMOVED

    @property
    def images(self) -> int:
        """How many can be searched."""
        return sum(file.rows - max(file.hidden, 0) for file in self.files)


_NOTHING = Manifest(0, "", ())


def embeddings_file(db: str, name: str) -> str:
    """URL of a file of embeddings."""
    return join(db, "embeddings", name)


def version_file(db: str, version: int) -> str:
    """Where a version is committed: who creates this file has made the version."""
    return join(db, "versions", f"{version:012d}.json")


def list_versions(db: str) -> list[int]:
    """Numbers of the versions that are there, ascending."""
    names = [file.name.removesuffix(".json") for file in list_stored(join(db, "versions"), ".json")]
    return sorted(int(name) for name in names if name.isdecimal())


def latest_version(db: str, known: int = 0) -> int:
    """Number of the newest version; 0 where there is none.

    From a version that is `known`, the next one is asked for: where nothing is new, two requests of
    less than 1 KB, whatever the size of the collection.
    """
    newest = known
    while newest and is_file_there(version_file(db, newest + 1)):
        newest += 1
    # The oldest versions go first: where this one is still there, none after it has gone.
    if newest and (newest > known or is_file_there(version_file(db, newest))):
        return newest
    numbers = list_versions(db)
    return numbers[-1] if numbers else _legacy_version(db)


def read_manifest(db: str, version: int | None = None) -> Manifest:
    """A version of a database, the newest unless its number is given.

    Raises MissingError before `jobs.embed_database` has run, BadInputError where it is damaged.
    """
    if version is None:
        numbers = list_versions(db)
        if not numbers:
            return _read_legacy(db)
        version = numbers[-1]
    try:
        content = _read_version(db, version)
        files = _read_files(db, content["files"])
        tombstones = read_tombstones(db, content["tombstones"])
        return Manifest(content["version"], content["embedder_digest"], files, tombstones)
    except (TypeError, KeyError, MissingError, BadInputError) as error:
        raise BadInputError(
            f"version {version} of {db} is damaged ({error}); run jobs.embed_database, which "
            "commits a whole one"
        ) from error


def _read_version(db: str, version: int) -> dict[str, Any]:
    url = version_file(db, version)
    content: dict[str, Any] = read_json(url)
    if content["format"] != FORMAT:
        raise ImageSearchError(
            f"{url} has format {content['format']}, and this program reads {FORMAT}: another "
            "release of it wrote that; use that one"
        )
    return content


def names_of(db: str, version: int) -> set[str]:
    """The files, below `db`, that a version needs. Raises MissingError, BadInputError."""
    try:
        content = _read_version(db, version)
        files, removed = content["files"], content["tombstones"]
        lists = [f"versions/{name}" for name in (files, removed) if name]
        data = [f"embeddings/{file.name}" for file in _read_files(db, files)]
        return {*lists, *data, f"embedder/{content['embedder_digest']}.npz"}
    except (TypeError, KeyError) as error:
        raise BadInputError(f"version {version} of {db} is damaged ({error!r})") from error


def read_base(db: str) -> Manifest:
    """The version that the next one is made from, of number 0 where there is none.

    Where the newest is damaged: the newest whole one, with the number of the newest, so that the
    next commit mends it; and no image that was ever removed comes back.
    """
    numbers = list_versions(db)
    for version in reversed(numbers):
        try:
            base = read_manifest(db, version)
        except BadInputError as error:
            _log.warning("%s", error)
            continue
        return base if version == numbers[-1] else _mended(db, base, numbers[-1])
    if numbers:
        return _mended(db, _NOTHING, numbers[-1])
    try:
        return _read_legacy(db)
    except MissingError:
        return _NOTHING
    except BadInputError as error:
        _log.warning("%s", error)
        return _NOTHING


def _mended(db: str, base: Manifest, version: int) -> Manifest:
    tombstones = base.tombstones
    for listed in list_stored(join(db, "versions"), ".parquet"):
        if listed.name.startswith("removed-"):
            try:
                tombstones = tombstones.with_rows(read_tombstones(db, listed.name).table)
            except BadInputError as error:
                _log.warning("%s", error)
    files: list[ManifestFile] = []
    for file in base.files:
        with suppress(MissingError, BadInputError):  # one that is lost need not be kept
            hidden = tombstones.hides(read_rows(db, file, IDENTITY))
            files.append(dataclasses.replace(file, hidden=int(hidden.sum())))
    return dataclasses.replace(base, version=version, files=tuple(files), tombstones=tombstones)


def _legacy_file(db: str) -> str:
    """Where older programs kept the one version that there was."""
    return join(db, "embeddings", "manifest.json")


def _read_legacy(db: str) -> Manifest:
    try:
        content = read_json(_legacy_file(db))
        removed = Tombstones.of_ids(content.get("removed", []))
        files = [
            ManifestFile(each["name"], each["rows"], hidden=-1 if len(removed) else 0)
            for each in content["files"]
        ]
        version, digest = int(content.get("version", 1)), content["embedder_digest"]
    except MissingError as error:
        raise MissingError(f"{db} has no embeddings; run jobs.embed_database first") from error
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise BadInputError(
            f"{_legacy_file(db)} is not the list of a version's files ({error}); run "
            "jobs.embed_database, which commits a whole one"
        ) from error
    return Manifest(version, digest, tuple(files), removed)


def _legacy_version(db: str) -> int:
    try:
        return _read_legacy(db).version
    except (MissingError, BadInputError):
        return 0


@lru_cache(maxsize=4)
def _read_files(db: str, name: str) -> tuple[ManifestFile, ...]:
    rows = read_table(join(db, "versions", name)).to_pylist()
    for row in rows:
        row["sources"], row["sources_seen"] = tuple(row["sources"]), tuple(row["sources_seen"])
    return tuple(ManifestFile(**row) for row in rows)


@lru_cache(maxsize=4)
def read_tombstones(db: str, name: str) -> Tombstones:
    """Tombstones from their file; none for an empty name."""
    return Tombstones(read_table(join(db, "versions", name))) if name else NONE_REMOVED


def commit_version(db: str, manifest: Manifest) -> Manifest:
    """Make `manifest` the version after the one it was made from; returns it with its number.

    `manifest` has the number of the version it was made from, 0 for none. The commit is the
    creation of one small file that must not be there. Raises ConflictError, changing nothing, where
    another job has committed since, UnsupportedStoreError where the store cannot create on that
    condition.
    """
    require_exclusive_creation(db)
    current = latest_version(db, manifest.version)
    if current != manifest.version:
        raise _conflict(db, current, manifest.version)
    if current and not is_local(db):
        _require_conditions_kept(db, current)
    new = dataclasses.replace(manifest, version=manifest.version + 1)
    rows = [dataclasses.asdict(file) for file in new.files]
    content = {
        "format": FORMAT,
        "version": new.version,
        "embedder_digest": new.embedder_digest,
        "images": new.images,
        "files": _write_named(db, "files", pa.Table.from_pylist(rows, _FILES)),
        "tombstones": _write_named(db, "removed", new.tombstones.table) if new.tombstones else "",
        "committed": datetime.now(UTC).isoformat(timespec="seconds"),
        "writer": uuid.uuid4().hex,
    }
    data = (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()
    try:
        create_bytes(version_file(db, new.version), data)
    except ConflictError:
        # A put that was tried again after its answer was lost meets what it wrote itself.
        if read_bytes(version_file(db, new.version)) != data:
            raise _conflict(db, latest_version(db, new.version), manifest.version) from None
    delete(_legacy_file(db))
    return new


_KINDS: dict[Any, pa.DataType] = {int: pa.int64(), tuple[str, ...]: pa.list_(pa.string())}
_FILES = pa.schema(
    [
        (field.name, _KINDS.get(field.type, pa.string()))
        for field in dataclasses.fields(ManifestFile)
    ]
)


def _write_named(db: str, kind: str, table: pa.Table) -> str:
    """Write a table of a version under a name that follows from its content."""
    name = f"{kind}-{table_digest(table)}.parquet"
    write_table_atomic(table, join(db, "versions", name), compression="zstd")
    return name


@lru_cache(maxsize=64)
def _require_conditions_kept(db: str, version: int) -> None:
    """Raise UnsupportedStoreError where an object store overwrites what it must not.

    Some that speak S3 pass over `If-None-Match`. The newest version is written again, as it is.
    """
    url = version_file(db, version)
    try:
        create_bytes(url, read_bytes(url))
    except (ConflictError, MissingError):  # missing: the newest is an older program's
        return
    raise UnsupportedStoreError(
        f"the store of {db} overwrites a file that was to be created on the condition that it is "
        "not there (If-None-Match), so two jobs could overwrite one another. Update the store, or "
        "keep the database elsewhere"
    )


def _conflict(db: str, current: int, base: int) -> ConflictError:
    return ConflictError(
        f"another job committed version {current} of {db} meanwhile, this one started from version "
        f"{base}; nothing was changed, run it again"
    )


def write_embeddings(db: str, name: str, table: pa.Table, **fields: Any) -> ManifestFile:
    """Write a file of embeddings; what a version must know of it, `fields` included."""
    written = write_table_atomic(table, embeddings_file(db, name))
    return describe_embeddings(db, name, table, written, **fields)


def describe_embeddings(
    db: str, name: str, table: pa.Table, written: FileDigest, **fields: Any
) -> ManifestFile:
    """What a version must know of a file of embeddings that holds a table."""
    first, last = first_and_last(table["image_id"])
    facts = {
        "rows": len(table),
        "bytes": written.bytes,
        "sha256": written.sha256,
        "state": stored(embeddings_file(db, name)).state,
        "first_id": first,
        "last_id": last,
    }
    return ManifestFile(name, **{**facts, **fields})


def read_rows(
    db: str, file: ManifestFile, columns: Sequence[str] | None = None, verify: bool = False
) -> pa.Table:
    """The rows of one file of embeddings, removed ones too; all columns unless given.

    verify: compare the whole file with its digest first. Raises MissingError or BadInputError,
    which say how to restore the file.
    """
    # An older program's file lacks the column `digest`.
    absent = columns is not None and "digest" in columns and not file.sha256
    names = None if columns is None else [n for n in columns if not (absent and n == "digest")]
    try:
        table = read_table(embeddings_file(db, file.name), names, file.digest if verify else None)
    except (MissingError, BadInputError) as error:
        raise type(error)(f"{error}; run jobs.embed_database --check, which restores it") from error
    return table if columns is not None and not absent else with_digest(table)


def read_live(
    db: str,
    manifest: Manifest,
    file: ManifestFile,
    columns: Sequence[str] | None = None,
    verify: bool = False,
) -> pa.Table:
    """The rows of `read_rows` that have not been removed."""
    names = columns
    if columns is not None and file.hidden:
        names = [*columns, *(name for name in IDENTITY if name not in columns)]
    table = read_rows(db, file, names, verify)
    if file.hidden:
        hidden = manifest.tombstones.hides(table)
        table = table.filter(pa.array(~hidden)) if hidden.any() else table
    return table if columns is None else table.select(columns)
