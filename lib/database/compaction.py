"""Rewriting the embeddings as few, large, ordered files without the removed images."""

import dataclasses
import hashlib
import math
import re
import time
from contextlib import suppress
from dataclasses import dataclass

import pyarrow as pa

from lib.database.manifest import (
    Manifest,
    ManifestFile,
    commit_version,
    names_of,
    read_live,
    read_manifest,
    write_embeddings,
)
from lib.database.ordering import first_and_last, natural_key, natural_order
from lib.descriptors.merging import merge_files
from lib.errors import BadInputError, ConflictError, MissingError
from lib.storage import LEFTOVER_AGE_S, absolute, delete, join, list_stored, sweep_temporary
from lib.tasks import Runner, run_here

FILE_ROWS = 1_000_000
GRACE_S = 24 * 3600.0  # that a reader of an old version may take to open its files
_ORPHAN_GRACES = 7  # a file that no version names may be of a run that has not committed yet
# Data before lists.
_SWEPT = {
    "embeddings": r".*\.parquet",
    "embedder": r"[0-9a-f]{16,64}\.npz",
    "versions": r"(files|removed)-[0-9a-f]+\.parquet",
}
_VERSIONS_KEPT = 100  # however old: a number is never used again beside a writer that waited long


@dataclass(frozen=True)
class CompactionReport:
    """What a compaction did."""

    version: int
    files_before: int
    files_after: int
    rows_dropped: int
    files_deleted: int  # that no version needs


def compact_database(
    db: str, file_rows: int = FILE_ROWS, run: Runner = run_here, grace_s: float = GRACE_S
) -> CompactionReport:
    """Merge small files and drop removed rows, as a new version; then delete what none needs.

    The files of descriptors and failures are merged, too; see `merge_files`.

    Each task holds one new file's rows in memory. Files that are large already and lost nothing are
    left as they are, so that a second run changes nothing. Files of versions that were replaced
    longer than `grace_s` seconds ago go away; with 0, only where no other job is at work.
    What other jobs commit meanwhile is built upon. Raises BadInputError or MissingError where a
    file of the version is damaged or lost.
    """
    db = absolute(db)
    merge_files(db, run=run, grace_s=grace_s)
    while True:
        manifest = read_manifest(db)
        groups = _groups(manifest, file_rows)
        merged = dict(run(_merge, (db, manifest), [g for g in groups if _changes(g)]))
        files = tuple(merged[group[0].name] if _changes(group) else group[0] for group in groups)
        new = manifest
        with suppress(ConflictError):
            if files != manifest.files:
                new = commit_version(db, dataclasses.replace(manifest, files=files))
            break
    dropped = sum(f.rows for f in manifest.files) - sum(f.rows for f in files)
    deleted = delete_unneeded(db, grace_s)
    return CompactionReport(new.version, len(manifest.files), len(files), dropped, deleted)


def _groups(manifest: Manifest, file_rows: int) -> list[list[ManifestFile]]:
    """Neighbours in the order of their ids, as many as one new file takes."""
    groups: list[list[ManifestFile]] = []
    for file in sorted(manifest.files, key=lambda f: (natural_key(f.first_id or ""), f.name)):
        if groups and sum(f.rows - max(f.hidden, 0) for f in [*groups[-1], file]) <= file_rows:
            groups[-1].append(file)
        else:
            groups.append([file])
    return groups


def _changes(group: list[ManifestFile]) -> bool:
    return len(group) > 1 or group[0].hidden != 0


def _merge(db: str, manifest: Manifest, group: list[ManifestFile]) -> tuple[str, ManifestFile]:
    """The live rows of some files as one; with the name of the first of them."""
    tables = [read_live(db, manifest, file, verify=True) for file in group]
    table = pa.concat_tables(table.select(tables[0].column_names) for table in tables)
    table = table.take(pa.array(natural_order(table["image_id"])))
    # Named for its content: the rows of the same files differ after another removal.
    content = "\n".join([*(f"{file.name} {file.sha256}" for file in group), str(len(table))])
    name = f"compact-{hashlib.sha256(content.encode()).hexdigest()[:16]}.parquet"
    # The range stays that of all images of its sources: `remove_images --undo` looks for them.
    ends = [end for file in group for end in (file.first_id, file.last_id) if end is not None]
    known = all(file.first_id is not None or not file.rows for file in group)
    first, last = first_and_last(pa.chunked_array([ends], pa.string())) if known else (None, None)
    anew = any(not file.sources for file in group)  # to be embedded again
    merged = write_embeddings(
        db,
        name,
        table,
        sources=() if anew else tuple(source for file in group for source in file.sources),
        sources_seen=() if anew else tuple(seen for file in group for seen in file.sources_seen),
        dropped=sum(file.dropped + file.rows for file in group) - len(table),
        first_id=first,
        last_id=last,
    )
    return group[0].name, merged


def delete_unneeded(db: str, grace_s: float) -> int:
    """Delete the files that no version needs that is the newest, or was within `grace_s` seconds.

    Data goes before the version that names it, so that a run that is killed is taken up by the
    next. A file that no version names stays for seven graces. Returns how many files went.
    """
    now = time.time()
    versions = list_stored(join(db, "versions"), ".json")
    ends = [later.changed for later in versions[1:]] + [math.inf]
    live, past = set[str](), set[str]()
    for version, end in zip(versions, ends, strict=True):
        # Of an old version that is damaged or half deleted, nothing is known to be past.
        with suppress(BadInputError, MissingError):
            names = names_of(db, int(version.name.removesuffix(".json")))
            (live if now - end < grace_s else past).update(names)
    unneeded = [
        f"{directory}/{file.name}"
        for directory, pattern in _SWEPT.items()
        for file in list_stored(join(db, directory), "")
        if re.fullmatch(pattern, file.name)
        and f"{directory}/{file.name}" not in live
        and (f"{directory}/{file.name}" in past or now - file.changed >= _ORPHAN_GRACES * grace_s)
    ]
    unneeded += [
        f"versions/{version.name}"
        for version, end in list(zip(versions, ends, strict=True))[:-_VERSIONS_KEPT]
        if now - end >= grace_s
    ]
    for name in unneeded:
        delete(join(db, name))
    for directory in _SWEPT:
        sweep_temporary(join(db, directory), min(LEFTOVER_AGE_S, grace_s))
    return len(unneeded)
