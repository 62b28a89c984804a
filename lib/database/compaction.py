"""Rewriting the embeddings as few, large, ordered files without the removed images."""

import hashlib
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from lib.database.embed import remove_replaced
from lib.database.interface import natural_order
from lib.database.manifest import commit_version, read_live, read_manifest
from lib.storage import join, write_table_atomic

FILE_ROWS = 1_000_000


@dataclass(frozen=True)
class CompactionReport:
    """What a compaction did."""

    version: int
    files_before: int
    files_after: int
    rows_dropped: int


def compact_database(db: str, file_rows: int = FILE_ROWS) -> CompactionReport:
    """Merge neighbouring small files and drop removed rows; a new version by its manifest alone.

    Holds one new file's rows in memory. Files that are large already and lost nothing are left as
    they are, so that a second run changes nothing. Raises ConflictError, and the files of the
    current version stay, where another job committed meanwhile.
    """
    manifest = read_manifest(db)
    files: list[dict[str, Any]] = []
    group: list[tuple[dict[str, Any], pa.Table]] = []
    for file in manifest["files"]:
        table = read_live(db, manifest, file["name"])
        if group and sum(len(held) for _, held in group) + len(table) > file_rows:
            files.append(_write_group(db, group))
            group = []
        group.append((file, table))
    if group:
        files.append(_write_group(db, group))
    dropped = sum(file["rows"] for file in manifest["files"]) - sum(f["rows"] for f in files)
    version = manifest["version"]
    if files != manifest["files"]:
        version = commit_version(db, {**manifest, "files": files})
        remove_replaced(db, manifest["files"], files)
    return CompactionReport(version, len(manifest["files"]), len(files), dropped)


def _write_group(db: str, group: list[tuple[dict[str, Any], pa.Table]]) -> dict[str, Any]:
    if len(group) == 1 and len(group[0][1]) == group[0][0]["rows"]:
        return group[0][0]
    table = pa.concat_tables([table for _, table in group])
    table = table.take(pa.array(natural_order(table["image_id"])))
    sources = [state for file, _ in group for state in file["sources"]]
    # Named for its content: the rows of the same sources differ after another removal.
    content = "\n".join([*sources, *(file["name"] for file, _ in group), str(len(table))])
    name = f"compact-{hashlib.sha256(content.encode()).hexdigest()[:16]}.parquet"
    write_table_atomic(table, join(db, "embeddings", name))
    return {"name": name, "rows": len(table), "sources": sources}
