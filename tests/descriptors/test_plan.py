"""A listing compared with a database: here and in tasks the same, whatever the ranges."""

import itertools
import random
import shutil
from bisect import bisect_right
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lib.descriptors import comparison, plan, store
from lib.descriptors.comparison import Counts, compare
from lib.descriptors.listing import ListedTable
from lib.images.listed import ListedImage, tabulate
from lib.parquet import write_table_atomic
from lib.schemas import FAILURES, Provenance, content_digest, descriptor_schema, vectors_to_column
from lib.storage import join

COUNT = 3_000


def listed(number: int, etag: str = "1", size: int = 5) -> ListedImage:
    # A name in no order that the numbers have.
    path = f"{number * 7919 % 10_007:05}.jpg"
    return ListedImage(path, f"/p/{path}", size, etag, path)


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Images 0 to 1,999 described, 2,000 to 2,099 failed, the first 10 described twice."""
    url = str(tmp_path_factory.mktemp("plan") / "db")
    schema = descriptor_schema(Provenance("toy", "0" * 64, "none", "float32", 2))
    groups = [range(at, at + 500) for at in range(0, 2_000, 500)] + [range(10), range(2_000, 2_100)]
    for position, numbers in enumerate(groups):
        images = [listed(number) for number in numbers]
        kind = "failures" if numbers.start == 2_000 else "descriptors"
        fields = FAILURES if kind == "failures" else schema
        values = {name: [getattr(i, name) for i in images] for name in ListedImage._fields}
        values["descriptor"] = vectors_to_column(np.zeros((len(images), 2), np.float32))
        texts, sizes = [""] * len(images), [1] * len(images)
        columns = [
            values.get(field.name, texts if field.type == pa.string() else sizes)
            for field in fields
        ]
        table = pa.table(
            [pa.array(c, f.type) for c, f in zip(columns, fields, strict=True)], fields
        )
        write_table_atomic(table, join(url, kind, f"{position}.parquet"))
    return url


def listing() -> list[ListedImage]:
    """Images 100 to 2,999, some changed, some at a new address, some twice or elsewhere."""
    images = [listed(number) for number in range(100, COUNT)]
    images[:50] = [image._replace(etag="2", bytes=6) for image in images[:50]]
    images[50:70] = [image._replace(uri=f"/new/{image.path}") for image in images[50:70]]
    return images + images[500:530] + [image._replace(uri="/else") for image in images[500:505]]


def planned(db: str, prune: bool = False, retry_failed: bool = False) -> plan.ExtractionPlan:
    whole = pa.concat_tables(tabulate(listing()))
    parts = (whole.slice(at, 700) for at in range(0, len(whole), 700))
    return plan.make_plan(map(ListedTable.of, parts), db, prune, retry_failed)


def test_all_that_is_listed_and_known_is_accounted_for(db: str) -> None:
    counts = planned(db)
    assert (counts.listed, counts.repeated, counts.namesakes) == (2_905, 30, 5)
    assert (counts.described, counts.failed, counts.changed) == (1_850, 100, 50)
    assert (counts.moved, counts.doubled) == (20, 0)
    assert counts.removed == 110  # the first 100, ten of them twice
    pending = list(counts.pending)
    assert counts.pending.count == len(pending) == 955
    images = listing()
    elsewhere = {f"{image.path}#{content_digest(b'/else')}" for image in images[-5:]}
    assert elsewhere <= {image.path for _, image in pending if image.uri == "/else"}
    expected = sorted(elsewhere.union(image.path for image in images))
    assert [(expected[position], position) for position, _ in pending] == [
        (image.path, position) for position, image in pending
    ]
    assert pending == sorted(pending)


def compared(
    listed: list[ListedImage], there: list[ListedImage]
) -> tuple[Counts, list[dict[str, object]]]:
    """A comparison with a database of these images, and the rows that are pending."""
    rows = [{**i._asdict(), "digest": "", "failed": False, "file": 0, "row": 0} for i in there]
    known = pa.Table.from_pylist(rows, store.KNOWN)
    whole = pa.concat_tables(tabulate(listed))
    counts, pending, _ = compare(whole, known, prune=False, retry_failed=False)
    return counts, pending.select(["path", "uri", "image_id"]).to_pylist()


def test_images_of_one_name_at_several_addresses_are_all_described() -> None:
    """Whatever the order of the list, and what the database has keeps its name."""
    addresses = ["/1/a.jpg", "/2/a.jpg", "/3/a.jpg"]
    images = [ListedImage("a.jpg", uri, -1, "", "a.jpg") for uri in addresses]
    images[2] = images[2]._replace(image_id="17")  # an id of its own, as in COCO
    suffixes = ["", *(f"#{content_digest(uri.encode())}" for uri in addresses[1:])]
    expected = [
        image._replace(path=f"a.jpg{suffix}", image_id=image_id)
        for image, suffix, image_id in zip(
            images, suffixes, ["a.jpg", f"a.jpg{suffixes[1]}", "17"], strict=True
        )
    ]
    for order in itertools.permutations([*images, images[1]]):
        counts, pending = compared([*order], [])
        assert (counts.listed, counts.namesakes, counts.repeated) == (3, 2, 1)
        assert {tuple(row.values()) for row in pending} == {
            (image.path, image.uri, image.image_id) for image in expected
        }
        assert compared([*order], expected)[0].described == 3
    # A database of the time when one was described.
    counts, pending = compared(images, [images[1]])
    assert (counts.described, counts.namesakes, counts.removed) == (1, 2, 0)
    assert {row["uri"] for row in pending} == {"/1/a.jpg", "/3/a.jpg"}
    # One whose address sorts before the others', and the first one gone.
    earlier = images[0]._replace(uri="/0/a.jpg")
    counts, pending = compared([earlier, *images], expected)
    assert (counts.described, [row["uri"] for row in pending]) == (3, ["/0/a.jpg"])
    counts, pending = compared(images[1:], expected)
    assert (counts.described, counts.removed, pending) == (2, 1, [])


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 199])
def test_each_path_falls_in_the_range_that_its_bytes_say(count: int) -> None:
    draw = random.Random(count)
    words = ["".join(draw.choices("ab/éx", k=draw.randrange(6))) for _ in range(1_000 + count)]
    splitters = sorted(words[:count], key=str.encode)  # some may be equal
    expected = [bisect_right([*map(str.encode, splitters)], word.encode()) for word in words]
    paths = pa.chunked_array([words[:400], words[400:]])
    assert plan._ranges(paths, splitters).tolist() == expected


def test_images_of_one_name_fall_in_one_range() -> None:
    paths = ["a.jpg", f"a.jpg#{content_digest(b'/else')}", "a.jpg", "b.jpg"]
    table = pa.table({"path": pa.chunked_array([paths])})
    ranges = plan._cut(["a.jpg", "a.jpg!", "a.jpg#0", "b"], table)
    assert [part["path"].to_pylist() for part in ranges] == [[], paths[:3], [], [], paths[3:]]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
@pytest.mark.parametrize("options", [{}, {"prune": True, "retry_failed": True}])
def test_ranges_in_tasks_come_to_the_same(
    db: str, options: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = planned(db, **options)
    for name, value in (("_HERE_ROWS", 0), ("_PART_ROWS", 1_000), ("_RANGE_ROWS", 900)):
        monkeypatch.setattr(plan, name, value)
    monkeypatch.setattr(plan, "_FILES_A_TASK", 2)
    there = planned(db, **options)
    assert len(there.pending.tables) > 3
    for name in vars(Counts()):
        assert getattr(here, name) == getattr(there, name)
    assert list(here.pending) == list(there.pending)

    def edits(planned: plan.ExtractionPlan) -> list[dict[str, object]]:
        tables = [plan.resolve(table) for table in planned.edits]
        return sorted(pa.concat_tables(tables).to_pylist(), key=lambda e: (e["file"], e["row"]))

    assert edits(here) == edits(there)


@pytest.mark.usefixtures("ray_local")
def test_ranges_share_names_in_capitals_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("_HERE_ROWS", 0), ("_PART_ROWS", 1_000), ("_RANGE_ROWS", 900)):
        monkeypatch.setattr(plan, name, value)
    names = [f"DCIM/IMG_{number:05}.JPG" for number in range(4_000)]
    images = [ListedImage(name, f"/p/{name}", 5, "1", name) for name in names]
    made = plan.make_plan(map(ListedTable.of, tabulate(images)), str(tmp_path))
    assert sum(made.pending.counts) == 4_000
    assert max(made.pending.counts) < 2_000


def test_edits_drop_and_move_rows(db: str, tmp_path: Path) -> None:
    import shutil

    copy = str(shutil.copytree(db, tmp_path / "db"))
    plan.carry_out(planned(copy, prune=True, retry_failed=True))
    again = planned(copy)
    assert (again.described, again.failed, again.removed) == (1_850, 0, 0)
    assert (again.moved, again.changed, again.pending.count) == (0, 0, 1_055)
    assert store.count_rows(copy) == (1_850, 0)


def test_planning_reads_no_descriptor(s3_bucket: str, s3_requests: list[tuple[str, int]]) -> None:
    """Which are most of a file: on an object store a rerun would fetch the whole collection."""
    schema = descriptor_schema(Provenance("toy", "0" * 64, "none", "float32", 1_000))
    texts, sizes = ["a"] * 500, [1] * 500
    vectors = vectors_to_column(np.zeros((500, 1_000), np.float32))
    columns = [
        vectors if field.name == "descriptor" else texts if field.type == pa.string() else sizes
        for field in schema
    ]
    arrays = [pa.array(c, f.type) for c, f in zip(columns[:-1], schema, strict=False)]
    file = f"{s3_bucket}/db/descriptors/0.parquet"
    table = pa.table([*arrays, vectors], schema=schema)
    assert write_table_atomic(table, file, **store.DESCRIPTOR_WRITING).bytes > 2_000_000
    s3_requests.clear()
    assert len(store.known_images([file], range(1))) == 500
    read = [size for method, size in s3_requests if method == "get_object"]
    assert sum(read) < 100_000
    assert len(s3_requests) <= 4


def test_copies_keep_the_names_that_the_database_has() -> None:
    """Accents composed or not, capitals or small ones; another file of such a name is another."""
    there = [listed_as(path) for path in ("Café/a.jpg", "IMG_1.JPG", "B.jpg", "b.jpg", "c.jpg")]
    copies = [listed_as(path, "/new/") for path in ("Cafe\u0301/a.jpg", "img_1.jpg", "C.jpg")]
    copies[2] = copies[2]._replace(bytes=6)
    # Which of two a third one is nobody knows.
    copies.append(listed_as("B.JPG", "/new/"))
    counts, pending = compared(copies, there)
    assert (counts.described, counts.moved, counts.removed) == (2, 2, 3)
    assert [row["path"] for row in pending] == ["B.JPG", "C.jpg"]
    both = [*there, listed_as("Cafe\u0301/a.jpg")]  # two files in one folder
    assert compared(both, both)[0].described == compared(both, [])[0].listed == 6


def test_a_folder_above_or_below_the_source_keeps_names() -> None:
    whole = [listed_as(path) for path in ("a.jpg", "deep/b.jpg", "deep/c.jpg")]
    below = [image._replace(path=image.path[5:], image_id=image.path[5:]) for image in whole[1:]]
    new = ListedImage("d.jpg", "/p/deep/d.jpg", 5, "1", "d.jpg")
    counts, pending = compared([*below, new], whole)
    assert (counts.described, counts.moved, counts.removed) == (2, 0, 1)
    assert [row["path"] for row in pending] == ["d.jpg"]
    counts, pending = compared(whole, below)
    assert (counts.described, counts.removed) == (2, 0)
    assert [row["path"] for row in pending] == ["a.jpg"]
    # Without a version an address may show another image by now.
    unknown = [image._replace(etag="", bytes=-1) for image in below]
    assert compared(unknown, whole)[0].described == 0


def listed_as(path: str, root: str = "/p/") -> ListedImage:
    return ListedImage(path, root + path, 5, "1", path)


@pytest.mark.parametrize("how", ["empty", "link"])
def test_a_drive_that_is_not_mounted_is_not_pruned(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fstab = tmp_path / "fstab"
    monkeypatch.setattr(comparison, "_MOUNTS", fstab)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.jpg").touch()
    mounted = tmp_path / "photos/drive"
    (tmp_path / "photos/c.zip").touch()
    paths = ("a.jpg", "b.jpg", "c.zip/d/e.jpg", "drive/x/y.jpg")
    there = [listed_as(path, f"{tmp_path}/photos/") for path in paths]
    rows = [{**i._asdict(), "digest": "", "failed": False, "file": 0, "row": 0} for i in there]
    known = pa.Table.from_pylist(rows, store.KNOWN)
    whole = pa.concat_tables(tabulate(there[:1]))
    if how == "empty":
        mounted.mkdir()
        compared = compare(whole, known, True, False, f"{tmp_path}/photos")
        assert not compared[0].clash  # people empty folders, too
        fstab.write_text(f"# what\nnas:/photos {mounted} nfs defaults 0 0\n")
        (mounted / ".DS_Store").touch()
    else:
        mounted.symlink_to(tmp_path / "gone")
    (tmp_path / "moved").symlink_to("photos")  # the same is so where all was mounted elsewhere
    for source, prune in (("photos", False), ("photos", True), ("moved", True), ("moved/", True)):
        counts, _, _ = compare(whole, known, prune, False, f"{tmp_path}/{source}")
        assert ("drive is empty or leads nowhere" in counts.clash) == prune
    mounted.unlink() if how == "link" else shutil.rmtree(mounted)
    for source in (f"{tmp_path}/photos", f"{tmp_path}/moved", "s3://photos"):
        counts, _, _ = compare(whole, known, prune=True, retry_failed=False, source=source)
        assert (counts.clash, counts.removed) == ("", 3)
