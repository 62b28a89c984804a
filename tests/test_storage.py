"""Whole writes, listings and tables, on the local disk and on a filesystem in memory."""

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fsspec.exceptions import FSTimeoutError
from s3fs import S3FileSystem

from lib.errors import (
    BadInputError,
    ConflictError,
    FileInTheWayError,
    MismatchError,
    MissingError,
    StoreError,
)
from lib.parquet import parquet_bytes, read_schema, read_table, whole_digest, write_table_atomic
from lib.schemas import (
    Provenance,
    column_to_vectors,
    descriptor_schema,
    require_same,
    vectors_to_column,
)
from lib.storage import (
    create_bytes,
    digest_of,
    exists,
    is_file_there,
    join,
    keep_in_cache,
    list_stored,
    read_bytes,
    read_json,
    replace_bytes,
    stored,
    sweep_temporary,
    write_bytes_atomic,
    write_json_atomic,
)

PROVENANCE = Provenance("resnet18", "ab12", "resize 256, crop 224", "float32", 4)


@pytest.fixture(params=["local", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "db") if request.param == "local" else f"memory://{tmp_path.name}/db"


def test_bytes_and_json_come_back(root: str) -> None:
    write_bytes_atomic(join(root, "a", "b.bin"), b"one")
    write_bytes_atomic(join(root, "a", "b.bin"), b"two")
    assert read_bytes(join(root, "a", "b.bin")) == b"two"
    write_json_atomic(join(root, "a", "c.json"), {"x": [1]})
    assert read_json(join(root, "a", "c.json")) == {"x": [1]}
    assert [file.name for file in list_stored(join(root, "a"), ".json")] == ["c.json"]
    assert list_stored(join(root, "absent"), ".json") == []


def test_a_table_comes_back_with_its_provenance(root: str) -> None:
    vectors = np.arange(8, dtype=np.float32).reshape(2, 4)
    schema = descriptor_schema(PROVENANCE)
    columns: dict[str, object] = {
        field.name: pa.nulls(2, field.type) for field in schema if field.name != "descriptor"
    }
    table = pa.table({**columns, "descriptor": vectors_to_column(vectors)}, schema=schema)
    write_table_atomic(table, join(root, "t.parquet"))
    read = read_table(join(root, "t.parquet"), ["descriptor"])
    np.testing.assert_array_equal(column_to_vectors(read["descriptor"]), vectors)
    provenance = Provenance.from_schema(read_schema(join(root, "t.parquet")), "t.parquet")
    assert provenance == PROVENANCE


def test_a_write_that_fails_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "kept.bin"
    write_bytes_atomic(str(target), b"old")
    with pytest.raises(TypeError):
        write_bytes_atomic(str(target), "not bytes")  # type: ignore[arg-type]
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["kept.bin"]


def test_what_is_no_file_is_written_to_and_stays(tmp_path: Path) -> None:
    pipe, (file, link) = tmp_path / "pipe", (tmp_path / "file", tmp_path / "link")
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_bytes_atomic(str(pipe), b"read")
    assert os.read(reader, 9) == b"read"
    os.close(reader)
    assert pipe.is_fifo()
    link.symlink_to(file)
    write_bytes_atomic(str(link), b"behind it")
    assert link.is_symlink()
    assert file.read_bytes() == b"behind it"
    with pytest.raises(IsADirectoryError, match=str(tmp_path)):
        write_bytes_atomic(str(tmp_path), b"")


def test_files_being_written_are_not_listed(tmp_path: Path) -> None:
    (tmp_path / ".tmp-1.parquet").write_bytes(b"half")
    assert list_stored(str(tmp_path), ".parquet") == []


def test_absent_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="absent"):
        read_json(str(tmp_path / "absent.json"))
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(BadInputError, match="deep"):
        read_json(str(tmp_path / "deep.json"))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(BadInputError, match="broken"):
        read_table(str(tmp_path / "broken.parquet"))
    with pytest.raises(BadInputError, match="broken"):
        read_schema(str(tmp_path / "broken.parquet"))
    below = str(tmp_path / "deep.json" / "a" / "b")
    write = partial(write_bytes_atomic, data=b"")
    asked = (read_bytes, stored, is_file_there, partial(list_stored, suffix=""), write)
    for ask in (
        *asked,
        partial(replace_bytes, data=b"", state=""),
        partial(write_json_atomic, content={}),
    ):
        with pytest.raises(BadInputError, match=r"deep\.json is a file, where a directory"):
            ask(below)


def test_a_table_without_provenance_says_what_to_run() -> None:
    with pytest.raises(BadInputError, match=r"jobs\.extract_descriptors"):
        Provenance.from_schema(pa.schema([]), "x.parquet")


def test_a_mismatch_names_both_sides() -> None:
    require_same("backbones", "resnet18", "resnet18", "")
    with pytest.raises(MismatchError, match=r"'resnet18' and 'resnet50'.*jobs\.train_embedder"):
        require_same("backbones", "resnet18", "resnet50", "Run jobs.train_embedder")
    halves = replace(PROVENANCE, precision="float16")
    with pytest.raises(
        MismatchError, match=r"^both disagree: precision 'float32' and 'float16'\. "
    ):
        require_same("both", PROVENANCE, halves, "Use another --db")


@pytest.fixture(params=["local", "s3"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "db")
    return f"{request.getfixturevalue('s3_bucket')}/db"


def test_of_those_who_create_a_file_one_succeeds(anywhere: str) -> None:
    create_bytes(join(anywhere, "a"), b"first")
    with pytest.raises(ConflictError, match="is there already"):
        create_bytes(join(anywhere, "a"), b"second")
    assert read_bytes(join(anywhere, "a")) == b"first"


@pytest.mark.reports
def test_a_file_is_written_again_only_in_the_state_in_which_it_was_read(anywhere: str) -> None:
    url = join(anywhere, "a")
    write_bytes_atomic(url, b"one")
    seen = stored(url).state
    replace_bytes(url, b"two", seen)
    for change in (b"three", None):
        with pytest.raises(ConflictError, match=r"another run has changed .*/a"):
            replace_bytes(url, change, seen)
    assert read_bytes(url) == b"two"
    replace_bytes(url, None, stored(url).state)
    assert not is_file_there(url)
    with pytest.raises(ConflictError):
        replace_bytes(url, b"three", seen)


@pytest.mark.reports
def test_what_another_process_wrote_is_there_after_a_listing(s3_bucket: str) -> None:
    """A file system may keep listings: what is not in them would be said to be gone."""
    table, directory = pa.table({"x": [1, 2]}), join(s3_bucket, "files")
    write_table_atomic(table, join(directory, "a.parquet"))
    assert len(list_stored(directory, ".parquet")) == 1
    other = S3FileSystem(skip_instance_cache=True)
    name = join(directory, "b.parquet")
    other.pipe_file(name, bytes(parquet_bytes(table)))
    assert exists(name)
    assert read_schema(name) == table.schema
    assert read_table(name) == table
    assert read_bytes(name) == parquet_bytes(table)


@pytest.mark.slow
@pytest.mark.parametrize("error", [FSTimeoutError(), PermissionError("Access Denied")])
@pytest.mark.parametrize("ask", [read_table, read_schema, stored, exists])
def test_a_store_that_does_not_answer_is_named_and_has_damaged_nothing(
    ask: Callable[[str], object],
    error: OSError,
    s3_bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither error has a number, as Arrow's of a damaged page has none."""
    url = f"{s3_bucket}/t.parquet"
    write_table_atomic(pa.table({"x": [1]}), url)

    async def refuse(self: Any, method: str, *arguments: Any, **named: Any) -> Any:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(S3FileSystem, "_call_s3", refuse)
        patch.setattr(S3FileSystem, "_lsdir", refuse)
        with pytest.raises(StoreError, match=f"{url}: (FSTimeoutError|Access Denied)"):
            ask(url)
    assert read_table(url).num_rows == 1


def test_of_a_stored_table_the_columns_that_are_asked_for_are_read(
    s3_bucket: str, s3_requests: list[tuple[str, int]]
) -> None:
    """fsspec by itself reads up to 50 MB on behind each part: planning so fetched descriptors."""
    vectors = vectors_to_column(np.zeros((1_000, 500), np.float32))
    table = pa.table({"path": [str(row) for row in range(1_000)], "descriptor": vectors})
    write_table_atomic(table, f"{s3_bucket}/t.parquet", compression="none", use_dictionary=False)
    s3_requests.clear()
    assert read_table(f"{s3_bucket}/t.parquet", ["path"]) == table.select(["path"])
    read = [size for method, size in s3_requests if method == "get_object"]
    assert sum(read) < 100_000


def test_s3_itself_compares_the_state(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url = join(s3_bucket, "a")
    write_bytes_atomic(url, b"one")
    entry = S3FileSystem().info(url)
    write_bytes_atomic(url, b"of another, just now")
    monkeypatch.setattr(S3FileSystem, "info", lambda self, path: entry)
    with pytest.raises(ConflictError):
        replace_bytes(url, b"two", f"{entry['size']} {entry['ETag']}")
    assert read_bytes(url) == b"of another, just now"


def test_leftovers_of_writers_go_once_they_are_old(tmp_path: Path) -> None:
    old, young = tmp_path / ".tmp-old", tmp_path / ".tmp-young"
    for file in (old, young):
        file.write_bytes(b"half")
    os.utime(old, (0, 0))
    sweep_temporary(str(tmp_path))
    assert [file.name for file in tmp_path.iterdir()] == [".tmp-young"]
    sweep_temporary(str(tmp_path), 0)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_has_become_empty_is_not_what_was_written(tmp_path: Path) -> None:
    url = str(tmp_path / "a.parquet")
    written = write_table_atomic(pa.table({"x": [1]}), url)
    Path(url).write_bytes(b"")
    with pytest.raises(BadInputError, match="does not hold what was written there"):
        read_table(url, expected=written)


@pytest.mark.reports
def test_a_flipped_bit_in_a_page_is_noticed(tmp_path: Path) -> None:
    url = str(tmp_path / "a.parquet")
    written = write_table_atomic(pa.table({"x": np.arange(1000)}), url, compression="none")
    assert whole_digest(url) == digest_of(url) == written
    content = bytearray(Path(url).read_bytes())
    content[len(content) // 3] ^= 1
    Path(url).write_bytes(content)
    for read in (read_table, whole_digest):
        with pytest.raises(BadInputError, match=r"a\.parquet"):
            read(url)


def test_a_file_where_the_cache_would_be_costs_time_no_more(tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    keep_in_cache(tmp_path / "cache/kept/it.npz", b"what is kept")
    with pytest.raises(FileInTheWayError, match="cache is a file, where a directory was expected"):
        write_bytes_atomic(str(tmp_path / "cache/it.npz"), b"what must be")
