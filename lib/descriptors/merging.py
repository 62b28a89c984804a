"""Small files that extraction leaves, merged into files of a useful size.

A merge is one record, `merge-ID.json`, beside the files. While it says that the merge is being
written, readers pass over its new files; from the moment it says that they are there, over the
files that they replace. So a row counts once, whatever is killed. The old files stay for a grace
period, for readers that have listed them.
"""

import hashlib
import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import pyarrow as pa

from lib.descriptors.store import (
    KINDS,
    PARTS_KEY,
    MergeRecord,
    merge_records,
    parts_of,
    row_counts,
    stored_files,
    writing,
)
from lib.errors import ConflictError
from lib.parquet import read_table, write_table_atomic
from lib.schemas import Computation
from lib.storage import (
    StoredFile,
    delete_all,
    join,
    list_stored,
    sweep_temporary,
    write_json_atomic,
)
from lib.tasks import Runner, run_here

FILE_ROWS = 50_000
GRACE_S = 24 * 3600.0
_ABANDONED_S = 24 * 3600.0  # a merge that is still being written after so long was killed


def merge_files(
    db: str, file_rows: int = FILE_ROWS, run: Runner = run_here, grace_s: float = GRACE_S
) -> None:
    """Merge neighbours among files of descriptors, and of failures, to `file_rows` rows or more.

    A task holds the rows of one new file. What is left over, fewer than `file_rows` rows, stays as
    it is until there are more. Files that were replaced longer than `grace_s` seconds ago go away.
    Raises ConflictError where another run changed one of the files meanwhile: nothing is merged.
    """
    for kind in KINDS:
        sweep_temporary(join(db, kind))
        _finish(db, kind, grace_s)
        if groups := _groups(db, kind, file_rows):
            _merge(db, kind, groups, run)
            _finish(db, kind, grace_s)


@dataclass(frozen=True)
class _Group:
    """Files that become one."""

    files: list[StoredFile]
    parts: list[str]  # contents of the files that the new one replaces

    @property
    def name(self) -> str:
        """In the place of the first, named for what it holds: a repeat has the same name."""
        first = self.files[0].name.partition("-")[0].removesuffix(".parquet")
        digest = hashlib.sha256("\n".join(self.parts).encode()).hexdigest()
        return f"{first}-m{digest[:15]}.parquet"


def _groups(db: str, kind: str, file_rows: int) -> list[_Group]:
    """Neighbours in the order of their names that have `file_rows` rows together."""
    groups: list[_Group] = []
    open_group: list[StoredFile] = []
    rows = 0
    files = stored_files(db, kind)
    counts = row_counts([join(db, kind, file.name) for file in files])
    for file, count in zip(files, counts, strict=True):
        if count >= file_rows:
            continue
        open_group.append(file)
        rows += count
        if rows >= file_rows:
            parts = [part for each in open_group for part in parts_of(join(db, kind, each.name))]
            groups.append(_Group(open_group, parts))
            open_group, rows = [], 0
    return groups


def _merge(db: str, kind: str, groups: Sequence[_Group], run: Runner) -> None:
    record = MergeRecord(
        url=join(db, kind, f"merge-{uuid.uuid4().hex[:16]}.json"),
        written=False,
        files={group.name: [file.name for file in group.files] for group in groups},
    )
    write_json_atomic(record.url, record.content())
    for _ in run(_merge_group, (db, kind), groups):
        pass
    write_json_atomic(record.url, record.content(written=True))
    now = {file.name: file.state for file in list_stored(join(db, kind), ".parquet")}
    if any(now.get(file.name) != file.state for group in groups for file in group.files):
        write_json_atomic(record.url, record.content())
        _end(db, kind, record)
        raise ConflictError(f"another run changed {db}/{kind} meanwhile; run this one again")


def _merge_group(db: str, kind: str, group: _Group) -> None:
    tables = [read_table(join(db, kind, file.name)) for file in group.files]
    schema = tables[0].schema
    table = pa.concat_tables([each.select(schema.names).cast(schema) for each in tables])
    metadata = {**(schema.metadata or {}), PARTS_KEY: json.dumps(group.parts).encode()}
    computations = [Computation.from_schema(each.schema) for each in tables]
    if known := [each for each in computations if each is not None]:
        metadata |= reduce(Computation.of_both, known).to_metadata()
    table = table.replace_schema_metadata(metadata)
    write_table_atomic(table, join(db, kind, group.name), **writing(kind))


def _finish(db: str, kind: str, grace_s: float) -> None:
    """Delete what merges that are done have replaced, and what killed ones have left."""
    now = time.time()
    for record in merge_records(join(db, kind)):
        if now - record.changed >= (grace_s if record.written else min(_ABANDONED_S, grace_s)):
            _end(db, kind, record)


def _end(db: str, kind: str, record: MergeRecord) -> None:
    """Delete what the record keeps from being read, and only then the record."""
    delete_all([join(db, kind, name) for name in record.passed])
    delete_all([record.url])
