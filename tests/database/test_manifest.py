"""A commit is the creation of one numbered file: alone, under contention, and on object stores."""

import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from s3fs import S3FileSystem

from lib.database import manifest
from lib.database.compaction import compact_database
from lib.database.manifest import (
    Manifest,
    ManifestFile,
    commit_version,
    latest_version,
    list_versions,
    read_manifest,
    version_file,
    write_embeddings,
)
from lib.database.opening import open_database
from lib.database.removal import remove_images
from lib.database.tombstones import Tombstones
from lib.errors import BadInputError, ConflictError, MissingError, UnsupportedStoreError
from lib.parquet import write_table_atomic
from lib.schemas import embedding_schema
from lib.storage import join, write_json_atomic


def images(ids: list[str]) -> pa.Table:
    columns: dict[str, Any] = dict.fromkeys(("image_id", "uri", "path", "etag", "digest"), ids)
    columns |= {name: [1] * len(ids) for name in ("width", "height", "bytes")}
    columns["embedding"] = [[1.0, 0.0]] * len(ids)
    return pa.Table.from_pydict(columns, schema=embedding_schema(2, {}))


def make_version(db: str) -> Manifest:
    """Version 1, of two files with two images each."""
    files = tuple(write_embeddings(db, f"{a}.parquet", images([a, a + a])) for a in ("1", "2"))
    return commit_version(db, Manifest(0, "e" * 64, files))


@pytest.fixture(params=["local", "memory", "s3"])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "s3":
        return f"{request.getfixturevalue('s3_bucket')}/db"
    return str(tmp_path / "db") if request.param == "local" else f"memory://{tmp_path.name}/db"


@pytest.mark.reports
def test_of_writers_at_the_same_moment_one_commits_each_version(db: str) -> None:
    base = make_version(db)

    def commit(number: int) -> str:
        try:
            commit_version(db, dataclasses.replace(base, embedder_digest=str(number)))
        except ConflictError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(6) as pool:
        errors = list(pool.map(commit, range(6)))
    assert read_manifest(db).embedder_digest == str(errors.index(""))
    lost = [error for error in errors if error]
    assert len(lost) == 5
    assert all("started from version 1; nothing was changed" in error for error in lost)


@pytest.mark.slow
@pytest.mark.reports
def test_removals_at_the_same_moment_are_all_kept(db: str) -> None:
    make_version(db)
    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(lambda i: remove_images(db, [i]), ["1", "11", "2", "22"]))
    assert [report.changed for report in reports] == [1, 1, 1, 1]
    assert list_versions(db) == [1, 2, 3, 4, 5]
    assert read_manifest(db).tombstones.image_ids == ["1", "11", "2", "22"]
    assert (read_manifest(db).images, len(open_database(db))) == (0, 0)


@pytest.mark.reports
def test_a_poll_is_two_small_requests_at_any_size(
    s3_bucket: str, s3_requests: list[tuple[str, int]]
) -> None:
    db = f"{s3_bucket}/db"
    files = tuple(
        ManifestFile(f"{row:012d}-{'f' * 16}.parquet", 1000, (f"{row:064d}",), sha256="a" * 64)
        for row in range(2_000)
    )
    removed = Tombstones.of_ids(str(number) for number in range(5_000))
    commit_version(db, Manifest(0, "e" * 64, files, removed))
    s3_requests.clear()
    assert latest_version(db, 1) == 1
    assert [method for method, _ in s3_requests] == ["get_object", "get_object"]
    assert sum(size for _, size in s3_requests) <= 4096
    assert read_manifest(db) == Manifest(1, "e" * 64, files, removed)
    commit_version(db, read_manifest(db))
    assert latest_version(db, 1) == 2


def test_a_reader_that_slept_finds_the_newest_version(tmp_path: Path) -> None:
    db = str(tmp_path)
    make_version(db)
    for _ in range(3):
        commit_version(db, read_manifest(db))
    for version in (1, 2):
        Path(version_file(db, version)).unlink()
    assert latest_version(db, 1) == 4
    with pytest.raises(ConflictError, match=r"version 4 .* started from version 1"):
        commit_version(db, Manifest(1, "stale", ()))


def test_a_put_whose_answer_was_lost_and_that_was_tried_again_has_committed(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = f"{s3_bucket}/db"
    make_version(db)
    put = S3FileSystem._pipe_file

    async def twice(self: Any, path: str, data: bytes, **named: Any) -> Any:
        await put(self, path, data, **named)
        return await put(self, path, data, **named)

    monkeypatch.setattr(S3FileSystem, "_pipe_file", twice)
    assert commit_version(db, read_manifest(db)).version == 2


@pytest.mark.reports
def test_a_store_that_overwrites_on_any_condition_is_refused(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = f"{s3_bucket}/db"
    make_version(db)
    manifest._require_conditions_kept.cache_clear()  # found good for this name by other tests
    call = S3FileSystem._call_s3

    async def unconditional(self: Any, method: str, *arguments: Any, **named: Any) -> Any:
        named.pop("IfNoneMatch", None)
        return await call(self, method, *arguments, **named)

    monkeypatch.setattr(S3FileSystem, "_call_s3", unconditional)
    with pytest.raises(UnsupportedStoreError, match="overwrites a file"):
        remove_images(db, ["1"])
    assert list_versions(db) == [1]


@pytest.mark.reports
def test_a_store_without_conditions_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedStoreError, match="two jobs could overwrite one another"):
        commit_version("http://localhost/db", Manifest(0, "e", ()))


@pytest.mark.reports
@pytest.mark.parametrize("removed", [[], ["11"]])
def test_a_database_of_an_older_program_opens_and_is_upgraded_by_the_next_commit(
    tmp_path: Path, removed: list[str]
) -> None:
    db, legacy = str(tmp_path), tmp_path / "embeddings" / "manifest.json"
    for a in ("1", "2"):  # without the column `digest`
        table = images([a, a + a]).drop_columns(["digest"])
        write_table_atomic(table, join(db, "embeddings", f"{a}.parquet"))
    files = [{"name": f"{a}.parquet", "rows": 2, "source": a} for a in ("1", "2")]
    content = {"version": 7, "embedder_digest": "e", "files": files, "removed": removed}
    write_json_atomic(str(legacy), content)
    database = open_database(db)
    assert (database.version, latest_version(db, 7)) == (7, 7)
    assert list(database.image_ids) == [i for i in ("1", "2", "11", "22") if i not in removed]
    assert remove_images(db, ["2"]).changed == 1
    assert not legacy.exists()
    assert list(open_database(db).image_ids) == [i for i in database.image_ids if i != "2"]
    assert compact_database(db).version == 9
    assert open_database(db).version == 9
    assert list(open_database(db).image_ids) == [i for i in database.image_ids if i != "2"]
    assert compact_database(db).version == 9


@pytest.mark.reports
@pytest.mark.parametrize("content", ["[]", "null", '{"version": 1}', "{", '{"files": 3}'])
def test_a_manifest_that_is_none_says_what_to_run(tmp_path: Path, content: str) -> None:
    db = str(tmp_path)
    with pytest.raises(MissingError, match=r"run jobs\.embed_database first"):
        read_manifest(db)
    for file in (tmp_path / "embeddings" / "manifest.json", Path(version_file(db, 1))):
        file.parent.mkdir(exist_ok=True)
        file.write_text(content)
        with pytest.raises(BadInputError, match=r"jobs\.embed_database"):
            read_manifest(db)


def test_old_files_go_after_a_grace_and_none_that_is_needed(tmp_path: Path) -> None:
    db = str(tmp_path)
    first = make_version(db)
    (tmp_path / "embeddings" / "of-a-run-at-work.parquet").write_bytes(b"")
    (tmp_path / "embeddings" / ".tmp-of-a-writer-at-work").write_bytes(b"")
    assert compact_database(db).files_deleted == 0
    assert len(open_database(db)) == 4
    for file in first.files:
        assert (tmp_path / "embeddings" / file.name).exists()
    assert compact_database(db, grace_s=0).files_deleted == 4  # two, their list, and another
    left = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()}
    (lists,) = (name for name in left if name.startswith("versions/files-"))
    (data,) = (name for name in left if name.startswith("embeddings/compact-"))
    versions = {f"versions/{number:012d}.json" for number in (1, 2)}
    assert left == {lists, data, *versions}
    assert len(open_database(db)) == 4


def test_a_version_says_in_json_what_it_holds(tmp_path: Path) -> None:
    db = str(tmp_path)
    make_version(db)
    remove_images(db, ["1"])
    content = json.loads(Path(version_file(db, 2)).read_text())
    assert (content["format"], content["version"], content["images"]) == (2, 2, 3)
