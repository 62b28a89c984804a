"""A source listed in tasks: the same images and counts as in one process, part by part."""

import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lib.descriptors import listing
from lib.descriptors.plan import make_plan, resolve
from lib.descriptors.shards import ExtractionSettings
from lib.images import containers, listed
from lib.images.listed import ListedImage, rows_of
from lib.images.listing import list_images

pytestmark = pytest.mark.ray
SETTINGS = ExtractionSettings()


@pytest.fixture(autouse=True)
def from_the_first_part_on(ray_local: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks list all but the first part, each a few images at a time."""
    monkeypatch.setattr(listing, "_HERE_ROWS", 1)
    monkeypatch.setattr(listing, "_HERE_S", 0)
    monkeypatch.setattr(listing, "_TASK_ROWS", 10)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with folders, archives and tables below it, and with what is left out."""
    root = tmp_path_factory.mktemp("tree")
    for number in range(40):
        folder = root / f"{number % 5}" / ("deep" if number % 2 else ".") / f"{number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.jpg").write_bytes(bytes([number]))
    (root / "1" / "._1.jpg").write_bytes(b"")
    (root / "2" / "film.mov").write_bytes(b"")
    (root / "3" / "up").symlink_to(root)
    (root / "4" / "broken.zip").write_bytes(b"PK no zip")
    (root / "tables").mkdir()
    for shard in range(3):
        with tarfile.open(root / f"{shard:03}.tar", "w") as archive:
            for picture in sorted((root / "2").rglob("*.jpg")):
                archive.add(picture, f"{shard}-{picture.name}")
        rows = [f"s3://x/{shard}/{row}.jpg" for row in range(5)]
        pq.write_table(pa.table({"url": rows}), root / "tables" / f"{shard}.parquet")
    (root / "packed").mkdir()
    with zipfile.ZipFile(root / "packed.zip", "w") as packed:
        packed.writestr("a.jpg", b"a")
    return root


def in_tasks(source: str) -> tuple[list[ListedImage], Counter[str]]:
    skipped: Counter[str] = Counter()
    tables = list(listing.list_source(source, SETTINGS, skipped))
    assert [part.rows for part in tables] == [len(resolve(part.table)) for part in tables]
    return list(rows_of(resolve(part.table) for part in tables)), skipped


def in_one_process(source: str) -> tuple[list[ListedImage], Counter[str]]:
    skipped: Counter[str] = Counter()
    return list(list_images(source, skipped)), skipped


@pytest.mark.parametrize("source", ["", "*.tar", "tables", "{000..003}.tar", "*", "**/*.jpg"])
def test_parts_together_are_the_whole(tree: Path, source: str) -> None:
    whole, skipped = in_one_process(f"{tree}/{source}")
    assert len(whole) >= 15
    assert in_tasks(f"{tree}/{source}") == (whole, skipped)  # in the same order, too
    if source == "":
        assert len(whole) == 40 + 3 * 8 + 3 * 5
        assert skipped == {
            "hidden": 1,
            ".mov": 1,
            "links to a folder above": 1,
            f"unreadable {tree}/4/broken.zip: File is not a zip file": 1,
            "archives beside a folder of their name": 1,
        }
    if source.startswith("{"):
        assert skipped == {f"unreadable {tree}/003.tar: No such file or directory": 1}


def test_prefixes_and_archives_of_a_bucket(tree: Path, s3_bucket: str) -> None:
    from s3fs import S3FileSystem

    for pattern in ("*.tar", "2/**/*.*", "4/*.zip"):
        for file in tree.glob(pattern):
            S3FileSystem().pipe_file(f"{s3_bucket}/{file.relative_to(tree)}", file.read_bytes())
    for source, count in (("", 32), ("/*.tar", 24)):
        whole, skipped = in_one_process(s3_bucket + source)
        assert len(whole) == count
        assert in_tasks(s3_bucket + source) == (whole, skipped)
    # What was written after a listing is in the next.
    S3FileSystem().pipe_file(f"{s3_bucket}/2/new.jpg", b"x")
    assert "2/new.jpg" in {image.path for image in in_tasks(s3_bucket)[0]}


def test_row_groups_of_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (containers, listed):
        monkeypatch.setattr(module, "TABLE_ROWS", 20)
    monkeypatch.setattr(listing, "_HERE_S", 60)
    names = [f"{number}.jpg" for number in range(100)]
    uris = [f"s3://x/{name}" for name in names]
    uris[7], names[9] = "", None  # type: ignore[call-overload]
    pq.write_table(pa.table({"uri": uris, "path": names}), tmp_path / "a.parquet", row_group_size=9)
    rows, _ = in_tasks(f"{tmp_path}/a.parquet")
    assert rows == list(list_images(f"{tmp_path}/a.parquet"))
    assert [row.uri for row in rows] == uris[:7] + uris[8:]
    assert rows[8] == ListedImage(uris[9], uris[9], -1, "", uris[9])  # named by its address
    assert len(list(listing.list_source(f"{tmp_path}/a.parquet", SETTINGS, Counter()))) > 3
    no_text = pa.array([b"\xff.jpg"]).view(pa.string())
    texts = pa.concat_arrays([pa.array(uris), no_text])
    pq.write_table(pa.table({"uri": texts}), tmp_path / "a.parquet", row_group_size=9)
    rows, _ = in_tasks(f"{tmp_path}/a.parquet")
    assert [row.path for row in rows] == [*uris[:7], *uris[8:], "\\xff.jpg"]


def test_a_plan_is_the_same_however_its_source_was_listed(tree: Path, tmp_path: Path) -> None:
    there = make_plan(listing.list_source(str(tree), SETTINGS, Counter()), str(tmp_path / "db"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing, "_HERE_ROWS", 1_000)
        patch.setattr(listing, "_HERE_S", 60)
        here = list(listing.list_source(str(tree), SETTINGS, Counter()))
        assert [isinstance(part.table, pa.Table) for part in here] == [True]
    assert list(make_plan(iter(here), str(tmp_path / "db")).pending) == list(there.pending)
