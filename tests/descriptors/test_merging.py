"""Small files become large ones: every row once, the embeddings kept, killed or not."""

import os
from pathlib import Path

import pytest

from lib.database.embed import embed_database
from lib.database.opening import open_database
from lib.descriptors import merging, store
from lib.descriptors.merging import merge_files
from lib.descriptors.store import EDITS, apply_edits, known_images, shard_states
from lib.errors import BadInputError, ConflictError
from lib.storage import read_json, write_json_atomic
from tests.database.test_embed import save_embedder, write_descriptors

FILES = 5


@pytest.fixture
def db(tmp_path: Path) -> str:
    """Five files of four images each, and an embedder."""
    db = str(tmp_path / "db")
    save_embedder(db, 0)
    for number in range(FILES):
        photos = {str(number * 4 + row): f"photo {number} {row}" for row in range(4)}
        write_descriptors(db, f"{number}.parquet", photos)
    return db


def paths(db: str) -> list[str]:
    states = list(shard_states(db))
    return sorted(known_images(states, range(len(states)))["path"].to_pylist())


def names(db: str) -> set[str]:
    return {file.name for file in Path(db, "descriptors").iterdir()}


def test_neighbours_are_merged_and_what_is_left_over_stays(db: str) -> None:
    before = paths(db)
    apart = names(db)
    merge_files(db, file_rows=8, grace_s=0)
    assert paths(db) == before
    assert store.count_rows(db) == (4 * FILES, 0)
    merged = names(db)
    assert (len(apart - merged), len(merged - apart), len(merged)) == (4, 2, 3)
    merge_files(db, file_rows=8, grace_s=0)
    assert names(db) == merged


def test_embeddings_of_merged_files_are_kept(db: str) -> None:
    first = embed_database(db)
    merge_files(db, file_rows=8, grace_s=0)
    again = embed_database(db)
    assert again.files_embedded == 0
    assert again.images == first.images == 4 * FILES
    assert embed_database(db).version == again.version
    write_descriptors(db, "9.parquet", {"90": "one more"})
    assert embed_database(db).files_embedded == 1


def test_a_merged_file_without_all_of_its_embeddings_is_embedded_whole(db: str) -> None:
    embed_database(db)
    min(Path(db, "embeddings").glob("1-*.parquet")).unlink()
    merge_files(db, file_rows=8, grace_s=0)
    report = embed_database(db)
    assert (report.files_embedded, report.images) == (1, 4 * FILES)
    assert len(open_database(db)) == 4 * FILES
    assert embed_database(db).files_embedded == 0


def test_a_row_taken_out_of_a_merged_file_is_searched_no_more(db: str) -> None:
    embed_database(db)
    merge_files(db, file_rows=8, grace_s=0)
    states = shard_states(db)
    known = known_images(list(states), range(len(states)))
    gone = known.slice(0, 1).set_column(1, "uri", [[None]]).select(EDITS.names).cast(EDITS)
    apply_edits(states, range(len(states)), gone)
    report = embed_database(db)
    assert (report.files_embedded, report.images) == (1, 4 * FILES - 1)


def test_old_files_stay_for_those_who_have_listed_them(db: str) -> None:
    merge_files(db, file_rows=8)
    assert {f"{number}.parquet" for number in range(FILES)} <= names(db)
    assert store.count_rows(db) == (4 * FILES, 0)
    merge_files(db, file_rows=8, grace_s=0)
    assert {f"{number}.parquet" for number in range(FILES)} & names(db) == {"4.parquet"}


def test_a_change_to_a_file_that_is_merged_is_refused_or_takes_the_merge_back(
    db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = shard_states(db)
    known = known_images(list(states), range(len(states)))
    gone = known.slice(0, 1).set_column(1, "uri", [[None]]).select(EDITS.names).cast(EDITS)
    merged = merging._merge_group

    def changed_meanwhile(*arguments: object) -> None:
        merged(*arguments)  # type: ignore[arg-type]
        monkeypatch.setattr(merging, "_merge_group", merged)
        apply_edits(states, range(len(states)), gone)

    monkeypatch.setattr(merging, "_merge_group", changed_meanwhile)
    with pytest.raises(ConflictError, match="meanwhile"):
        merge_files(db, file_rows=8, grace_s=0)
    assert store.count_rows(db) == (4 * FILES - 1, 0)
    states = shard_states(db)
    merge_files(db, file_rows=8)
    with pytest.raises(ConflictError, match="merged with others"):
        apply_edits(states, range(len(states)), gone)


def test_a_merge_that_was_killed_while_it_was_written_leaves_nothing(
    db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []

    def kill_at_the_second(url: str, content: object) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(url)
        write_json_atomic(url, content)

    monkeypatch.setattr(merging, "write_json_atomic", kill_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        merge_files(db, file_rows=8)
    monkeypatch.undo()
    assert len(names(db)) == FILES + 3
    assert store.count_rows(db) == (4 * FILES, 0)
    os.utime(written[0], (1, 1))
    merge_files(db, file_rows=1_000)
    assert names(db) == {f"{number}.parquet" for number in range(FILES)}


def test_a_merged_file_that_is_gone_is_said(db: str) -> None:
    merge_files(db, file_rows=8)
    (record,) = Path(db, "descriptors").glob("merge-*.json")
    Path(db, "descriptors", min(read_json(str(record))["files"])).unlink()
    with pytest.raises(BadInputError, match=r"lacks .*, which a merge wrote there"):
        store.count_rows(db)
