"""Versions of a database: loading, removing, compacting, filters, a writer beside a reader."""

import errno
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.database import opening as loading
from lib.database.compaction import compact_database
from lib.database.copies import copied_rows, without_copies
from lib.database.interface import IMAGE_COLUMNS, Filter, Hits, merge_hits
from lib.database.manifest import (
    Manifest,
    ManifestFile,
    commit_version,
    read_manifest,
    write_embeddings,
)
from lib.database.opening import load_version, open_database
from lib.database.ordering import natural_key, natural_order
from lib.database.removal import remove_images
from lib.database.tombstones import Tombstones
from lib.errors import BadArgumentError, BadInputError, ConflictError, MissingError
from lib.schemas import content_digest, embedding_schema, vectors_to_column
from lib.storage import join, locked


def write_file(db: str, name: str, ids: list[str], seed: int) -> ManifestFile:
    vectors = np.random.default_rng(seed).standard_normal((len(ids), 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    sizes = pa.array([int(each) if each.isdecimal() else 7 for each in ids], pa.int32())
    digests = pa.array([content_digest(vector.tobytes()) for vector in vectors])
    columns = [pa.array(ids)] * 3 + [sizes] * 2
    columns += [pa.array([1] * len(ids)), pa.array(ids), digests]
    table = pa.table([*columns, vectors_to_column(vectors)], schema=embedding_schema(4, {}))
    return write_embeddings(db, name, table)


@pytest.fixture
def db(tmp_path: Path) -> str:
    db = str(tmp_path / "db")
    files = [
        write_file(db, "a.parquet", ["10", "b/1.jpg", "9"], 0),
        write_file(db, "b.parquet", ["100", "a/1.jpg", "2"], 1),
        write_file(db, "c.parquet", ["30", "31"], 2),
    ]
    commit_version(db, Manifest(0, "e", tuple(files)))
    return db


def vectors_by_id(db: str) -> dict[str, list[float]]:
    database = open_database(db)
    return dict(zip(database.image_ids, database.embeddings.tolist(), strict=True))


def test_rows_are_in_natural_order_with_their_own_vectors(db: str) -> None:
    database = open_database(db)
    assert list(database.image_ids) == ["2", "9", "10", "30", "31", "100", "a/1.jpg", "b/1.jpg"]
    assert list(database.image_ids) == sorted(database.image_ids, key=natural_key)
    assert database.images["width"].to_pylist()[:6] == [2, 9, 10, 30, 31, 100]
    files = read_manifest(db).files
    alone = load_version(db, read_manifest(db), files[1:2])
    assert alone.embeddings.tolist()[0] == vectors_by_id(db)["2"]
    assert [database.row_of(image_id) for image_id in ("100", "no", "99")] == [5, None, None]
    assert all(database.row_of(image_id) == row for row, image_id in enumerate(database.image_ids))
    rows, scores = database.search(database.embeddings[[3]], 1)
    assert rows.tolist() == [[3]]
    assert scores[0, 0] == pytest.approx(1)


def test_numbers_too_long_for_a_number_are_names() -> None:
    ids = pa.chunked_array([["9" * 30, "x", "12", "٣", "2"]])
    ordered = [ids[int(row)].as_py() for row in natural_order(ids)]
    assert ordered == sorted(ids.to_pylist(), key=natural_key)
    assert ordered[:2] == ["2", "12"]


def test_removed_images_are_gone_and_stay_gone(db: str) -> None:
    before = vectors_by_id(db)
    assert remove_images(db, ["9", "a/1.jpg"]).changed == 2
    assert remove_images(db, ["9"]).changed == 0
    database = open_database(db)
    assert database.version == 2
    assert vectors_by_id(db) == {
        name: vector for name, vector in before.items() if name not in ("9", "a/1.jpg")
    }
    for name in ("nowhere", "caf\udce9"):  # as a shell gives a name that is not UTF-8
        with pytest.raises(BadInputError, match=r"1 ids are not in .*; nothing was changed"):
            remove_images(db, ["10", name])
    assert open_database(db).version == 2


def test_compaction_keeps_what_is_found(db: str) -> None:
    remove_images(db, ["31"])
    before = vectors_by_id(db)
    report = compact_database(db, grace_s=0)
    assert (report.files_before, report.files_after, report.rows_dropped) == (3, 1, 1)
    assert vectors_by_id(db) == before
    assert len(list(Path(db, "embeddings").glob("*.parquet"))) == 1
    again = compact_database(db)
    assert (again.version, again.files_after) == (report.version, 1)
    assert compact_database(db, file_rows=3).files_after == 1
    remove_images(db, ["10"])
    assert compact_database(db).rows_dropped == 1
    assert "10" not in vectors_by_id(db)


def test_a_reader_whose_files_went_loads_the_new_version(
    db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale = read_manifest(db)
    compact_database(db, grace_s=0)
    manifests = [stale]
    monkeypatch.setattr(
        loading,
        "read_manifest",
        lambda db: manifests.pop() if manifests else read_manifest(db),
    )
    assert len(open_database(db)) == 8


def test_of_two_writers_the_second_is_refused_and_loses_nothing(db: str) -> None:
    stale = read_manifest(db)
    remove_images(db, ["9"])
    with pytest.raises(ConflictError, match=r"version 2 .* started from version 1"):
        commit_version(db, replace(stale, tombstones=Tombstones.of_ids(["10"])))
    assert read_manifest(db).tombstones.image_ids == ["9"]


def test_writers_at_the_same_moment_never_overwrite_one_another(db: str) -> None:
    ids = ["2", "9", "10", "30", "31", "100"]

    def remove(image_id: str) -> None:
        assert remove_images(db, [image_id]).changed == 1

    with ThreadPoolExecutor(len(ids)) as pool:
        list(pool.map(remove, ids))
    assert read_manifest(db).tombstones.image_ids == sorted(ids)
    assert read_manifest(db).version == 1 + len(ids)


def test_a_commit_leaves_files_that_another_job_is_about_to_commit(db: str) -> None:
    file = write_file(db, "d.parquet", ["77"], 3)
    compact_database(db)
    manifest = read_manifest(db)
    commit_version(db, replace(manifest, files=(*manifest.files, file)))
    assert "77" in vectors_by_id(db)


def test_a_lost_file_is_named(db: str) -> None:
    Path(db, "embeddings", "b.parquet").unlink()
    with pytest.raises(MissingError, match=r"b\.parquet"):
        open_database(db)


def test_filters(db: str, tmp_path: Path) -> None:
    database = open_database(db)
    ids = np.array(list(database.image_ids))
    wide = database.where((pc.field("width") > 9) & (pc.field("width") < 100))
    assert ids[wide].tolist() == ["10", "30", "31"]
    more = pa.table({"image_id": ["2", "30", "30"], "licence": ["free", "no", "free"]})
    assert ids[database.where(pc.field("licence") == "free", more)].tolist() == ["2", "30"]
    assert ids[database.among(["100", "2", "no"])].tolist() == ["2", "100"]
    rows, _ = database.search(database.embeddings[[0]], 9, wide)
    assert set(rows[0]) == set(np.flatnonzero(wide))
    with pytest.raises(BadArgumentError, match="nope"):
        database.where(pc.field("nope") == 1)


def test_an_empty_version_finds_nothing(db: str) -> None:
    remove_images(db, list(vectors_by_id(db)))
    database = open_database(db)
    assert len(database) == 0
    assert database.search(np.ones((2, 4), np.float32), 3)[0].shape == (2, 0)
    assert commit_version(db, read_manifest(db)).version == 3


def test_a_large_version_is_mapped_from_one_ordered_copy(
    db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = np.random.default_rng(3).standard_normal((3, 4)).astype(np.float32)
    in_memory = open_database(db).search_images(queries, 5)
    monkeypatch.setattr(loading, "MAPPED_ROWS", 1)
    with ThreadPoolExecutor(4) as pool:  # one makes the copy, the others wait for it
        databases = list(pool.map(open_database, [db] * 4))
    for database in databases:
        assert not database.embeddings.flags.owndata
        hits = database.search_images(queries, 5)
        assert hits.images.to_pylist() == in_memory.images.to_pylist()
        np.testing.assert_array_equal(hits.scores, in_memory.scores)
    (copy,) = (each for each in Path(db, "mapped").iterdir() if each.suffix != ".lock")
    written_at = (copy / "embeddings.npy").stat().st_mtime_ns
    assert open_database(db).norm == pytest.approx(1)
    assert (copy / "embeddings.npy").stat().st_mtime_ns == written_at
    manifest = read_manifest(db)
    part = load_version(db, manifest, manifest.files[:1])
    assert list(part.image_ids) == ["9", "10", "b/1.jpg"]
    remove_images(db, ["30"])
    assert len(open_database(db)) == 7
    assert not copy.exists()  # nothing of an old version stays
    assert databases[0].look_up("30")[0].image_id == "30"  # whoever has it open keeps it
    kept = {path.name for path in Path(db, "mapped").iterdir()}
    assert len(kept) == 2  # a copy and its lock
    remove_images(db, list(open_database(db).image_ids))
    assert len(open_database(db)) == 0


def test_where_no_copy_can_be_kept_it_is_loaded_into_memory(
    db: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loading, "MAPPED_ROWS", 1)
    Path(db, "mapped").write_text("a file where the directory would be")
    assert len(open_database(db)) == 8
    assert "cannot be mapped" in caplog.text


def test_an_embedding_that_is_not_finite_is_refused_and_its_file_named(db: str) -> None:
    write_file(db, "d.parquet", ["77", "78"], 3)
    vectors = np.full((2, 4), np.nan, np.float32)
    table = pq.read_table(join(db, "embeddings", "d.parquet"))
    place = table.schema.get_field_index("embedding")
    table = table.set_column(place, "embedding", vectors_to_column(vectors))
    file = write_embeddings(db, "d.parquet", table)
    manifest = read_manifest(db)
    commit_version(db, replace(manifest, files=(*manifest.files, file)))
    with pytest.raises(BadInputError, match=r"d\.parquet: the embedding of row 0"):
        open_database(db)


def test_of_copies_the_first_that_may_be_found_is(db: str) -> None:
    """An album holds the pictures of 9, 10 and b/1.jpg once more."""
    album = write_file(db, "album.parquet", ["b/album 10.jpg", "b/album b.jpg", "1"], 0)
    manifest = read_manifest(db)
    commit_version(db, replace(manifest, files=(*manifest.files, album)))
    database = open_database(db)
    queries = np.random.default_rng(3).standard_normal((3, 4)).astype(np.float32)

    def ids(image_filter: Filter) -> list[str]:
        hits = database.search_images(queries, 20, image_filter)
        each = [[image.image_id for image in hits.of(query)] for query in range(3)]
        assert all(sorted(names) == sorted(each[0]) for names in each)
        return sorted(each[0], key=natural_key)

    once = ["1", "2", "10", "30", "31", "100", "a/1.jpg", "b/1.jpg"]
    assert ids(Filter(distinct=True)) == once
    assert ids(Filter(distinct=True, path_prefix="b/album")) == ["b/album 10.jpg", "b/album b.jpg"]
    assert ids(Filter(distinct=True, image_ids=("1", "9", "b/album b.jpg"))) == [
        "1",
        "b/album b.jpg",
    ]
    every = database.search_images(queries, 20)
    for query, best in enumerate(every.of(query)[0] for query in range(3)):
        assert database.search_images(queries, 1, Filter(distinct=True)).of(query) == [best]
    assert len(every.of(0)) == 11
    for k in (1, 2, 3, 4):  # the first of them are three times as many and fewer than all
        cut = database.search_images(queries, k, Filter(distinct=True))
        whole = database.search_images(queries, 20, Filter(distinct=True))
        assert [cut.of(query) for query in range(3)] == [whole.of(q)[:k] for q in range(3)]
    remove_images(db, ["1"])
    database = open_database(db)
    assert ids(Filter(distinct=True)) == sorted({*once} - {"1"} | {"9"}, key=natural_key)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=30), st.booleans())
def test_of_each_content_one_stays(images: list[tuple[int, bool]], chunked: bool) -> None:
    """0 is not known, and so nobody's copy."""
    digests = [content_digest(bytes([content])) if content else "" for content, _ in images]
    middle = len(digests) // 2 if chunked else 0
    column = pa.chunked_array([digests[:middle], digests[middle:]], pa.large_string())
    allowed = np.array([each for _, each in images], bool)
    shown = without_copies(allowed, *copied_rows(column)).tolist()
    seen: set[str] = set()
    for digest, may, shows in zip(digests, allowed, shown, strict=True):
        assert shows == (may and (not digest or digest not in seen))
        seen |= {digest} if may else set()


def test_of_copies_in_several_parts_the_first_by_id_stays() -> None:
    """As in one process, also where another machine's descriptor of a copy differs in a bit."""

    def part(*images: tuple[str, str, float]) -> Hits:
        rows = [{"image_id": i, "digest": digest} for i, digest, _ in images]
        schema = pa.schema([(name, pa.large_string()) for name in IMAGE_COLUMNS])
        scores = np.array([[score for *_, score in images]], np.float32)
        return Hits(pa.Table.from_pylist(rows, schema), scores)

    parts = [part(("10", "a", 0.9), ("3", "", 0.5)), part(("2", "a", 0.8), ("4", "", 0.6))]
    merged = merge_hits(parts, 3, distinct=True)
    assert merged.images["image_id"].to_pylist() == ["2", "4", "3"]
    np.testing.assert_array_equal(merged.scores, np.array([[0.8, 0.6, 0.5]], np.float32))


def test_filters_of_a_request(db: str) -> None:
    database = open_database(db)
    query = database.embeddings[:1]
    narrow = database.search_images(query, 9, Filter(min_width=9, image_ids=("9", "2", "30")))
    assert {image.image_id for image in narrow.of(0)} == {"9", "30"}
    assert narrow.scores.shape == (1, 2)
    assert database.search_images(query, 9, Filter(path_prefix="a/")).of(0)[0].uri == "a/1.jpg"
    assert database.search_images(query, 9, Filter(image_ids=())).of(0) == []


@pytest.fixture
def mapped(db: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The copy that the database is mapped from."""
    monkeypatch.setattr(loading, "MAPPED_ROWS", 1)
    open_database(db)
    (copy,) = (each for each in Path(db, "mapped").iterdir() if each.suffix != ".lock")
    return copy


@pytest.mark.reports
@pytest.mark.parametrize("name", ["embeddings.npy", "images.arrow", "copy.json"])
@pytest.mark.parametrize("harm", ["cut", "zeroed", "lost"])
def test_a_copy_that_is_wrong_is_made_again(db: str, mapped: Path, name: str, harm: str) -> None:
    expected = vectors_by_id(db)
    file = mapped / name
    content = file.read_bytes()
    if harm == "lost":
        file.unlink()
    elif harm == "cut":
        file.write_bytes(content[: len(content) // 2])
    else:
        file.write_bytes(content[:-60] + bytes(60))
    assert vectors_by_id(db) == expected
    assert file.read_bytes()[-60:] == content[-60:] or name == "copy.json"


def test_a_copy_that_was_copied_with_its_database_is_kept(db: str, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "MAPPED_ROWS", 1)
        open_database(db)
        elsewhere = str(shutil.copytree(db, tmp_path / "elsewhere"))
        patch.setattr(loading, "_make_copy", None)  # would fail if it were called
        assert len(open_database(elsewhere)) == 8


@pytest.mark.reports
def test_a_disk_that_is_full_is_noticed_before_anything_is_mapped(
    db: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(handle: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(loading, "MAPPED_ROWS", 1)
    monkeypatch.setattr(os, "posix_fallocate", full)
    assert len(open_database(db)) == 8
    assert "cannot be mapped: [Errno 28] No space left" in caplog.text
    assert [each.suffix for each in Path(db, "mapped").iterdir()] == [".lock"]


@pytest.mark.reports
def test_a_copy_that_another_is_making_is_left_alone(
    db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "MAPPED_ROWS", 1)
    making = Path(db, "mapped", "other-version.tmp-1")
    making.mkdir(parents=True)
    with locked(str(making.parent / "other-version.lock")):
        open_database(db)
        assert making.is_dir()
    remove_images(db, ["30"])
    assert len(open_database(db)) == 7
    assert not making.exists()  # of one who was killed
