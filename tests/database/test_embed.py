"""Embedding in increments: what a file holds decides, and nothing is done twice or lost."""

import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lib.database.compaction import compact_database
from lib.database.embed import embed_database
from lib.database.manifest import read_manifest, version_file
from lib.database.opening import open_database
from lib.database.removal import RemovalReport, remove_images
from lib.embedder.model import Embedder
from lib.embedder.space import load_semantic_space, save_semantic_space
from lib.errors import BadInputError, MissingError
from lib.parquet import write_table_atomic
from lib.schemas import Provenance, descriptor_schema, vectors_to_column
from lib.storage import join
from lib.tasks import run_on_workers
from lib.text.encoder import Idf, TextEncoder
from lib.text.word_vectors import word_vectors_digest
from tests import toy_world

PROVENANCE = Provenance("resnet18", "random", "none", "float32", 8)


def write_descriptors(db: str, name: str, photos: dict[str, str]) -> None:
    """A descriptor file of images by id; what is seen on a photo follows from its digest."""
    vectors = [np.random.default_rng(list(d.encode())).normal(size=8) for d in photos.values()]
    ids, count = list(photos), len(photos)
    columns = [pa.array(ids)] * 3 + [pa.array([9] * count, pa.int32())] * 2
    columns += [pa.array([1] * count), pa.array(["etag"] * count), pa.array(list(photos.values()))]
    values = vectors_to_column(np.array(vectors, np.float32))
    table = pa.table([*columns, values], schema=descriptor_schema(PROVENANCE))
    write_table_atomic(table, join(db, "descriptors", name))


def save_embedder(db: str, seed: int, words: Path | None = None) -> str:
    """An embedder drawn by `seed`, with the toy world's words; returns its digest.

    words: their file, beside a local database unless given.
    """
    words = words or Path(db).parent / "words.txt"
    if not words.exists():
        toy_world.word_vectors().save_word2vec_format(str(words))
    vectors = toy_world.word_vectors()
    matrix = np.random.default_rng(seed).standard_normal((8, toy_world.DIMENSION))
    embedder = Embedder(matrix.astype(np.float32), np.zeros(12, np.float32))
    metadata = {
        "descriptors": dataclasses.asdict(PROVENANCE),
        "word_vectors": {
            "source": str(words),
            "digest": word_vectors_digest(vectors),
            "dimension": toy_world.DIMENSION,
        },
    }
    return save_semantic_space(db, TextEncoder(vectors, Idf({}, 1)), embedder, metadata)


def rows(db: str) -> dict[str, list[float]]:
    """What can be searched: embeddings by id."""
    database = open_database(db)
    return dict(zip(database.image_ids, database.embeddings.tolist(), strict=True))


@pytest.fixture
def db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    db = str(tmp_path / "db")
    save_embedder(db, 0)
    write_descriptors(db, "0.parquet", {"3": "c", "1": "a"})
    write_descriptors(db, "1.parquet", {"2": "b", "4": "d"})
    return db


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
def test_only_new_files_are_embedded_and_removed_images_stay_away(db: str) -> None:
    first = embed_database(db, run_on_workers)
    assert (first.version, first.images, first.files, first.files_embedded) == (1, 4, 2, 2)
    assert embed_database(db, run_on_workers) == dataclasses.replace(first, files_embedded=0)

    write_descriptors(db, "2.parquet", {"5": "e"})
    second = embed_database(db, run_on_workers)
    assert (second.version, second.images, second.files_embedded) == (2, 5, 1)

    remove_images(db, ["3"])
    compact_database(db, run=run_on_workers)
    assert embed_database(db, run_on_workers).files_embedded == 0
    before = open_database(db)
    assert list(before.image_ids) == ["1", "2", "4", "5"]

    save_embedder(db, 1)
    third = embed_database(db, run_on_workers)
    assert (third.images, third.removed, third.files_embedded) == (4, 1, 3)
    after = open_database(db)
    assert list(after.image_ids) == ["1", "2", "4", "5"]
    assert after.embedder_digest != before.embedder_digest
    assert not np.allclose(after.embeddings, before.embeddings)


@pytest.mark.reports
def test_a_database_that_moved_embeds_nothing_again(db: str, tmp_path: Path) -> None:
    embed_database(db)
    elsewhere = str(shutil.copytree(db, tmp_path / "elsewhere", copy_function=shutil.copyfile))
    for file in Path(elsewhere, "descriptors").iterdir():
        file.chmod(0o600)
    again = embed_database(elsewhere)
    assert (again.version, again.files_embedded) == (1, 0)
    assert rows(elsewhere) == rows(db)


@pytest.mark.reports
def test_files_that_were_finished_before_a_kill_are_taken_over(db: str) -> None:
    undisturbed = (embed_database(db), rows(db), read_manifest(db))
    shutil.rmtree(Path(db, "versions"))  # as where the job is killed just before it commits
    assert embed_database(db) == dataclasses.replace(undisturbed[0], files_embedded=0)
    assert (rows(db), read_manifest(db)) == undisturbed[1:]
    assert remove_images(db, ["1"]).changed == 1


@pytest.mark.reports
@pytest.mark.parametrize("harm", ["lost", "cut", "flipped", "flipped in silence"])
def test_a_file_of_embeddings_that_is_damaged_is_named_and_restored(db: str, harm: str) -> None:
    embed_database(db)
    before = rows(db)
    file = Path(db, "embeddings", read_manifest(db).files[0].name)
    content, state = bytearray(file.read_bytes()), file.stat()
    content[len(content) // 3] ^= 4
    if harm == "lost":
        file.unlink()
    else:
        file.write_bytes(content[: 50 if harm == "cut" else None])
    if harm == "flipped in silence":
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    with pytest.raises((MissingError, BadInputError), match=f"{file}.*embed_database --check"):
        open_database(db)
    assert embed_database(db, check=True).files_embedded == 1
    assert rows(db) == before
    assert embed_database(db, check=True).files_embedded == 0


@pytest.mark.reports
def test_every_flipped_bit_is_noticed(db: str) -> None:
    embed_database(db)
    file = Path(db, "embeddings", read_manifest(db).files[0].name)
    content = file.read_bytes()
    for bit in np.random.default_rng(0).integers(8 * len(content), size=60):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << (bit % 8)
        file.write_bytes(flipped)
        with pytest.raises(BadInputError, match="damaged"):
            open_database(db)


@pytest.mark.reports
def test_another_photo_under_a_removed_name_is_shown(db: str) -> None:
    embed_database(db)
    remove_images(db, ["3"])
    write_descriptors(db, "0.parquet", {"3": "c", "1": "a", "6": "f"})  # extracted again
    again = embed_database(db)
    assert (again.images, again.removed) == (4, 1)
    assert set(rows(db)) == {"1", "2", "4", "6"}
    write_descriptors(db, "0.parquet", {"3": "another photo", "1": "a"})
    assert embed_database(db).images == 4
    assert set(rows(db)) == {"1", "2", "3", "4"}
    assert remove_images(db, ["3"]) == RemovalReport(1)
    assert set(rows(db)) == {"1", "2", "4"}


@pytest.mark.reports
def test_a_removed_photo_under_another_name_stays_removed(
    db: str, caplog: pytest.LogCaptureFixture
) -> None:
    write_descriptors(db, "2.parquet", {"5": "e", "6": "e"})
    embed_database(db)
    remove_images(db, ["3", "5"])
    write_descriptors(db, "0.parquet", {"moved/3": "c", "1": "a"})  # renamed, and pruned
    write_descriptors(db, "3.parquet", {"7": "e"})  # a photo of which one of two copies is shown
    again = embed_database(db)
    assert (again.images, again.removed) == (5, 2)
    assert set(rows(db)) == {"1", "2", "4", "6", "7"}
    assert "1 new images are photos that were removed under another name, such as moved/3" in (
        caplog.text
    )
    assert remove_images(db, ["moved/3"], undo=True) == RemovalReport(1)
    save_embedder(db, 1)
    assert embed_database(db).images == 6
    assert "moved/3" in rows(db)


@pytest.mark.parametrize("compacted", [False, True])
def test_undo_brings_an_image_back(db: str, compacted: bool) -> None:
    embed_database(db)
    before = rows(db)
    remove_images(db, ["3", "4"])
    if compacted:
        compact_database(db, grace_s=0)
    with pytest.raises(BadInputError, match="'1'; nothing was changed"):
        remove_images(db, ["3", "1"], undo=True)
    assert remove_images(db, ["3"], undo=True) == RemovalReport(1, int(compacted))
    assert embed_database(db).images == 3
    assert rows(db) == {key: value for key, value in before.items() if key != "4"}


@pytest.mark.reports
def test_between_training_and_embedding_a_version_keeps_its_embedder(db: str) -> None:
    embed_database(db)
    old = open_database(db)
    new = save_embedder(db, 1)
    assert load_semantic_space(db).digest == new != old.embedder_digest
    space = load_semantic_space(db, digest=old.embedder_digest)
    assert space.digest == old.embedder_digest
    Path(db, "embedder", f"{old.embedder_digest}.npz").write_bytes(b"damaged")
    with pytest.raises(BadInputError, match=r"damaged.*jobs\.embed_database"):
        load_semantic_space(db, digest=old.embedder_digest)
    save_embedder(db, 0)
    embed_database(db)
    assert load_semantic_space(db, digest=old.embedder_digest).digest == old.embedder_digest


@pytest.mark.reports
def test_a_damaged_version_is_named_and_mended_without_what_was_removed(db: str) -> None:
    embed_database(db)
    remove_images(db, ["3"])
    Path(version_file(db, 2)).write_text("{")
    with pytest.raises(BadInputError, match=r"version 2 .* damaged .*jobs\.embed_database"):
        open_database(db)
    mended = embed_database(db)
    assert (mended.version, mended.images, mended.files_embedded) == (3, 3, 0)
    assert set(rows(db)) == {"1", "2", "4"}


def test_others_commits_meanwhile_are_built_upon(db: str) -> None:
    embed_database(db)
    write_descriptors(db, "2.parquet", {"5": "e"})

    def run(function, shared, items):  # type: ignore[no-untyped-def]
        for item in items:
            yield function(*shared, item)
            if read_manifest(db).version == 1:
                remove_images(db, ["1"])

    report = embed_database(db, run)
    assert (report.version, report.images, report.removed) == (3, 4, 1)
    assert set(rows(db)) == {"2", "3", "4", "5"}
