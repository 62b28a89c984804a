"""The extraction run on a real local Ray: resume, change, failures, refusals, accounting."""

import io
import shutil
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lib.backbones import graphs
from lib.backbones.backbone import Backbone, as_batch, load_backbone
from lib.backbones.engines import LEAST_COSINE
from lib.datasets.captions import CaptionedImage, Captions
from lib.descriptors import extraction, listing, store
from lib.descriptors.calibration import choose_forms
from lib.descriptors.extraction import Run, extract
from lib.descriptors.extractor import _ahead, _bytes, _chunks
from lib.descriptors.shards import (
    ExtractionSettings,
    FailureLimit,
    Shard,
    cut_shards,
    suitable_shard_size,
)
from lib.errors import BadInputError, ImageSearchError, MismatchError
from lib.images.listed import ListedImage
from lib.images.listing import list_images
from lib.schemas import Computation
from lib.storage import write_bytes_atomic
from tests.http_server import FileServer

pytestmark = pytest.mark.usefixtures("ray_local")
SETTINGS = ExtractionSettings(shard_size=7)


@pytest.fixture(scope="session")
def backbone() -> Backbone:
    return load_backbone("resnet18", "random")


def jpeg(seed: int, size: int = 64) -> bytes:
    """A picture of coloured blobs, another one for every seed."""
    blobs = np.random.default_rng(seed).integers(0, 256, (4, 4, 3)).astype(np.uint8)
    sink = io.BytesIO()
    Image.fromarray(blobs).resize((size, size)).save(sink, "JPEG")
    return sink.getvalue()


def make_images(folder: Path, count: int, first: int = 0) -> Path:
    (folder / "deep").mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        below = "deep/" if number % 3 == 0 else ""
        (folder / f"{below}{number:05}.jpg").write_bytes(jpeg(number))
    return folder


def rows(db: Path, kind: str = "descriptors") -> list[dict[str, object]]:
    """All rows of a database in order of path."""
    tables = [pq.read_table(file) for file in sorted((db / kind).glob("*.parquet"))]
    records = pa.concat_tables(tables).to_pylist() if tables else []
    return sorted(records, key=lambda row: str(row["path"]))


@pytest.fixture
def run(backbone: Backbone, tmp_path: Path) -> Callable[..., Run]:
    def extracted(images: Path | str, db: Path | str = tmp_path / "db", **options: object) -> Run:
        settings = options.pop("settings", SETTINGS)
        return extract(str(images), str(db), backbone, settings, **options)  # type: ignore[arg-type]

    return extracted


def test_every_image_has_its_row(
    run: Callable[..., Run], backbone: Backbone, tmp_path: Path
) -> None:
    images = make_images(tmp_path / "images", 20)
    captions = Captions(["17"], ["a dog"], {"17": CaptionedImage("val/00017.jpg")})
    done = run(images, captions=[captions])
    assert (done.listed, done.described, done.failed, done.shards) == (20, 20, 0, 3)
    records = rows(tmp_path / "db")
    assert [row["path"] for row in records] == sorted(
        str(file.relative_to(images)) for file in images.rglob("*.jpg")
    )
    assert {row["image_id"] for row in records if str(row["path"]).endswith("17.jpg")} == {"17"}
    assert all(row["width"] == row["height"] == 64 for row in records)
    first = records[0]
    content = Path(str(first["uri"])).read_bytes()
    assert len(content) == first["bytes"]
    from lib.images.preprocessing import decode

    pixels = decode(content, backbone.preprocessing).pixels
    reference = backbone.extract(as_batch(pixels))[0].numpy()
    value = np.array(first["descriptor"])
    cosine = reference @ value / np.linalg.norm(reference) / np.linalg.norm(value)
    assert cosine > 0.999
    file = next((tmp_path / "db" / "descriptors").glob("*.parquet"))
    assert pq.read_schema(file).field("descriptor").type == pa.list_(pa.float32(), 512)


def test_a_rerun_does_only_what_is_missing_and_gives_the_same_rows(
    run: Callable[..., Run], tmp_path: Path
) -> None:
    images = make_images(tmp_path / "images", 30)
    run(images)
    undisturbed = rows(tmp_path / "db")
    names = sorted(file.name for file in (tmp_path / "db" / "descriptors").iterdir())
    for name in names[1:4:2]:
        (tmp_path / "db" / "descriptors" / name).unlink()
    again = run(images)
    assert (again.already_described, again.described) == (16, 14)
    assert rows(tmp_path / "db") == undisturbed
    assert sorted(file.name for file in (tmp_path / "db" / "descriptors").iterdir()) == names
    nothing = run(images)
    assert (nothing.already_described, nothing.described, nothing.shards) == (30, 0, 0)


def test_rows_do_not_depend_on_shards(run: Callable[..., Run], tmp_path: Path) -> None:
    images = make_images(tmp_path / "images", 25)
    run(images, tmp_path / "a", settings=ExtractionSettings(shard_size=25))
    run(images, tmp_path / "b", settings=ExtractionSettings(shard_size=3))
    assert rows(tmp_path / "a") == rows(tmp_path / "b")


def test_added_changed_and_removed_images(run: Callable[..., Run], tmp_path: Path) -> None:
    images = make_images(tmp_path / "images", 20)
    run(images)
    before = {row["path"]: row for row in rows(tmp_path / "db")}
    make_images(images, 3, first=100)
    (images / "00001.jpg").write_bytes(jpeg(999))
    (images / "00002.jpg").unlink()
    done = run(images)
    assert (done.listed, done.described, done.changed, done.removed) == (22, 4, 1, 1)
    after = {row["path"]: row for row in rows(tmp_path / "db")}
    assert len(rows(tmp_path / "db")) == len(after) == 23
    assert after["00001.jpg"]["descriptor"] != before["00001.jpg"]["descriptor"]
    assert after["00002.jpg"] == before["00002.jpg"]
    assert after["00004.jpg"] == before["00004.jpg"]
    pruned = run(images, prune=True)
    assert (pruned.pruned, pruned.described) == (1, 0)
    assert "00002.jpg" not in {row["path"] for row in rows(tmp_path / "db")}


def test_a_moved_folder_and_new_times_are_taken_over(
    run: Callable[..., Run], tmp_path: Path
) -> None:
    """Nothing is extracted again: what a file holds decides, its address and time follow."""
    images = make_images(tmp_path / "images", 12)
    (images / "bad.jpg").write_bytes(b"<html>")
    run(images)
    before = rows(tmp_path / "db")
    images.rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "00001.jpg").touch()
    shutil.copytree(tmp_path / "elsewhere", tmp_path / "copied", copy_function=shutil.copyfile)
    for place in ("elsewhere", "copied"):
        done = run(tmp_path / place)
        assert (done.described, done.moved, done.changed, done.already_failed) == (0, 13, 0, 1)
        after = rows(tmp_path / "db")
        assert all(Path(str(row["uri"])).parent.is_relative_to(tmp_path / place) for row in after)
        assert [row["descriptor"] for row in after] == [row["descriptor"] for row in before]
        assert Path(str(rows(tmp_path / "db", "failures")[0]["uri"])).exists()
        assert run(tmp_path / place).moved == 0


def test_another_source_with_the_same_names_is_refused(
    run: Callable[..., Run], tmp_path: Path
) -> None:
    first = make_images(tmp_path / "first", 3)
    run(first)
    before = rows(tmp_path / "db")
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "00001.jpg").write_bytes(jpeg(77))
    with pytest.raises(MismatchError, match=r"00001\.jpg is another image.*another --db"):
        run(tmp_path / "second")
    assert rows(tmp_path / "db") == before
    (first / "00001.jpg").unlink()  # then it is the same collection, moved and changed
    assert run(tmp_path / "second").changed == 1


def test_a_list_that_gives_other_addresses(run: Callable[..., Run], tmp_path: Path) -> None:
    """No size or time tells there whether it is the same image: its content does."""
    images = make_images(tmp_path / "first", 12)
    for folder in ("second", "third"):
        shutil.copytree(images, tmp_path / folder)
    other = make_images(tmp_path / "other", 12, first=100)
    names = sorted(str(file.relative_to(images)) for file in images.rglob("*.jpg"))

    def listed(places: list[Path]) -> Path:
        lines = [f"{place / name},{name}" for place, name in zip(places, names, strict=True)]
        (tmp_path / "list.csv").write_text("\n".join(["url,path", *lines]))
        return tmp_path / "list.csv"

    run(listed([images] * 12))
    before = rows(tmp_path / "db")
    moved = run(listed([tmp_path / "second"] * 12))
    assert (moved.moved, moved.changed, moved.described) == (12, 0, 0)
    assert [row["descriptor"] for row in rows(tmp_path / "db")] == [
        row["descriptor"] for row in before
    ]
    shutil.copyfile(other / "00100.jpg", tmp_path / "third" / names[0])
    changed = run(listed([tmp_path / "third"] * 12))
    assert (changed.moved, changed.changed, changed.described) == (11, 1, 1)
    after = rows(tmp_path / "db")
    assert [a["descriptor"] == b["descriptor"] for a, b in zip(after, before, strict=True)] == [
        False,
        *[True] * 11,
    ]
    for at, name in enumerate(names):
        shutil.copyfile(sorted(other.rglob("*.jpg"))[at], tmp_path / "second" / name)
    with pytest.raises(MismatchError, match=r"is another image.*another --db"):
        run(listed([tmp_path / "second"] * 12))
    assert rows(tmp_path / "db") == after


def test_images_of_one_name_in_a_list_are_all_described(
    run: Callable[..., Run], tmp_path: Path
) -> None:
    files = sorted(make_images(tmp_path / "images", 6).rglob("*.jpg"))
    table = tmp_path / "list.csv"

    def listed(order: list[Path]) -> Path:
        lines = [f"{file},photo.jpg" for file in order]
        table.write_text("\n".join(["url,file_name", *lines]))
        return table

    done = run(listed(files))
    assert (done.listed, done.described, done.namesakes, done.repeated) == (6, 6, 5, 0)
    described = rows(tmp_path / "db")
    assert {row["uri"] for row in described} == {str(file) for file in files}
    assert len({row["path"] for row in described} & {row["image_id"] for row in described}) == 6
    again = run(listed(files[::-1]))
    assert (again.described, again.already_described, again.changed) == (0, 6, 0)


@pytest.mark.long
def test_extraction_begins_while_the_listing_goes_on(
    run: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last of three archives is listed when images of the first are described."""
    for name, value in (("_HERE_ROWS", 1), ("_HERE_S", 0), ("_TASK_ROWS", 10)):
        monkeypatch.setattr(listing, name, value)
    monkeypatch.setattr(extraction, "_EARLY_IMAGES", 1)
    files = {}
    for number in range(3):
        sink = io.BytesIO()
        with tarfile.open(fileobj=sink, mode="w") as archive:
            for image in range(20):
                member = tarfile.TarInfo(f"{number}-{image}.jpg")
                content = jpeg(20 * number + image) if image else b"<html>"
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        files[f"{number}.tar"] = sink.getvalue()
    finished = tmp_path / "db" / "descriptors"
    seen: list[int] = []
    with FileServer(files) as server, ThreadPoolExecutor(1) as pool:
        server.held["2.tar"] = threading.Event()

        def let_go() -> None:
            deadline = time.monotonic() + 50
            while time.monotonic() < deadline and not [*finished.glob("[!.]*.parquet")]:
                time.sleep(0.05)
            seen.append(len([*finished.glob("[!.]*.parquet")]))
            server.held["2.tar"].set()

        pool.submit(let_go)
        settings = ExtractionSettings(shard_size=7, private_addresses=True)
        done = run(f"{server.url}/{{0..2}}.tar", settings=settings)
        server.held.clear()
        assert seen[0] > 0
        assert (done.listed, done.described, done.failed) == (60, 57, 3)
        assert (done.already_described, done.already_failed, done.changed) == (0, 0, 0)
        monkeypatch.undo()
        undisturbed = run(f"{server.url}/{{0..2}}.tar", tmp_path / "other", settings=settings)
        assert (undisturbed.listed, undisturbed.described, undisturbed.failed) == (60, 57, 3)
        for kind in ("descriptors", "failures"):
            assert rows(tmp_path / "db", kind) == rows(tmp_path / "other", kind)
        again = run(f"{server.url}/{{0..2}}.tar", settings=settings)
        assert (again.already_described, again.already_failed, again.shards) == (57, 3, 0)


def test_bad_images_become_failures_and_are_tried_again_on_request(
    run: Callable[..., Run], tmp_path: Path
) -> None:
    images = make_images(tmp_path / "images", 10)
    (images / "empty.jpg").write_bytes(b"")
    (images / "page.jpg").write_bytes(b"<html>not found</html>")
    (images / "half.jpg").write_bytes(jpeg(1, 256)[:1500])
    done = run(images)
    assert (done.described, done.failed) == (10, 3)
    failures = {row["path"]: row for row in rows(tmp_path / "db", "failures")}
    assert {path: row["reason"] for path, row in failures.items()} == {
        "empty.jpg": "empty",
        "half.jpg": "truncated",
        "page.jpg": "not_an_image",
    }
    assert len(str(failures["half.jpg"]["sha256"])) == 64
    assert failures["half.jpg"]["bytes"] == 1500
    assert run(images).already_failed == 3
    retried = run(images, retry_failed=True)
    assert (retried.already_described, retried.failed, retried.already_failed) == (10, 3, 0)
    (images / "page.jpg").write_bytes(jpeg(5))
    mended = run(images)
    assert (mended.changed, mended.described, mended.already_failed) == (1, 1, 2)
    assert len(rows(tmp_path / "db")) == 11
    assert len(rows(tmp_path / "db", "failures")) == 2


def test_too_many_failures_stop_the_run(run: Callable[..., Run], tmp_path: Path) -> None:
    images = make_images(tmp_path / "images", 4)
    for number in range(6):
        (images / f"bad{number}.jpg").write_bytes(b"")
    with pytest.raises(ImageSearchError, match=r"empty \d.*--max-failures"):
        run(images, limit=FailureLimit(count=2))
    assert FailureLimit(share=0.5).exceeded(60, 100)
    assert not FailureLimit(share=0.5).exceeded(50, 99)


def test_rows_written_twice_are_found_and_dropped(run: Callable[..., Run], tmp_path: Path) -> None:
    images = make_images(tmp_path / "images", 10)
    run(images)
    undisturbed = rows(tmp_path / "db")
    folder = tmp_path / "db" / "descriptors"
    file = min(folder.iterdir())
    (folder / "999999999999-late.parquet").write_bytes(file.read_bytes())
    assert run(images).described == 0
    assert rows(tmp_path / "db") == undisturbed


def test_descriptors_of_another_origin_are_refused(run: Callable[..., Run], tmp_path: Path) -> None:
    images = make_images(tmp_path / "images", 3)
    run(images)
    with pytest.raises(MismatchError, match="another --db"):
        run(images, settings=ExtractionSettings(stored="float16"))


def test_what_computed_descriptors_is_recorded_and_kept(
    run: Callable[..., Run], tmp_path: Path
) -> None:
    images, db = make_images(tmp_path / "images", 3), str(tmp_path / "db")
    run(images, settings=ExtractionSettings(fidelity="float32"))
    first = store.computation(db)
    assert first is not None
    assert first.fidelity == "float32"
    assert "float32" in first.engine
    make_images(images, 2, first=100)
    assert run(images).described == 2  # nothing is asked for: as the database is
    with pytest.raises(MismatchError, match="Leave out --precision"):
        run(images, settings=ExtractionSettings(fidelity="fast"))


def test_fast_descriptors_are_judged_by_pictures_of_the_collection(
    run: Callable[..., Run],
    backbone: Backbone,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A driver that has nothing to choose, on a cluster of its own, would look at no pictures.
    monkeypatch.setattr("lib.backbones.graphs.has_bfloat16", lambda: True)
    monkeypatch.setattr("lib.backbones.preparation._LEAST", 50)
    images, db = make_images(tmp_path / "images", 60), str(tmp_path / "db")
    (images / "00001.jpg").write_bytes(b"not a picture")  # and the sample begins with it
    done = run(images, settings=ExtractionSettings(shard_size=30))
    assert (done.described, done.failed) == (59, 1)
    computed = store.computation(db)
    assert computed is not None
    assert computed.fidelity == "fast"
    assert computed.least_cosine >= LEAST_COSINE
    assert 16 <= computed.pictures <= 32
    (images / "00001.jpg").write_bytes(jpeg(1))
    assert run(images).described == 1  # few: in float32, of the same collection
    mixed = Computation.of_both(computed, Computation("fast", "OpenVINO float32"))
    assert mixed.least_cosine == computed.least_cosine
    assert store.index_descriptors(db).provenance == backbone.provenance("float32")


def test_where_only_gpus_work_nothing_is_searched_on_the_driver(
    backbone: Backbone, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    images = make_images(tmp_path / "images", 12)
    (images / "00001.jpg").write_bytes(b"not a picture")
    listed = list(list_images(str(images)))
    bad = [image for image in listed if image.path == "00001.jpg"]
    few = choose_forms(backbone, None, 100, 0, True, lambda count: listed)
    assert (few.reference, few.pictures) == (None, [])
    exact = choose_forms(backbone, "float32", 10_000, 0, True, lambda count: listed)
    assert exact.reference is None
    forms = choose_forms(backbone, None, 10_000, 0, True, lambda count: listed)
    assert (forms.float32, forms.int8, forms.fidelity) == (None, None, "fast")
    assert forms.reference is not None
    assert len(forms.pictures) == len(forms.reference) == len(forms.jpegs) == 11
    assert all(jpeg is not None for jpeg in forms.jpegs)
    assert "each GPU's worker judges its own" in capfd.readouterr().err
    beside = choose_forms(backbone, None, 500, 9.0, True, lambda count: listed)
    assert (beside.float32 is None) == (graphs.openvino is None)
    assert len(beside.pictures) == len(beside.jpegs) == 11
    none = choose_forms(backbone, None, 10_000, 0, True, lambda count: bad)
    assert none.reference is None


def test_float16_halves_the_values(run: Callable[..., Run], tmp_path: Path) -> None:
    images = make_images(tmp_path / "images", 3)
    run(images, tmp_path / "half", settings=ExtractionSettings(stored="float16"))
    run(images)
    half, full = (
        np.array([row["descriptor"] for row in rows(tmp_path / name)], np.float32)
        for name in ("half", "db")
    )
    np.testing.assert_allclose(half, full, rtol=1e-3, atol=1e-4)


def test_nothing_to_describe_is_an_error(run: Callable[..., Run], tmp_path: Path) -> None:
    (tmp_path / "void").mkdir()
    with pytest.raises(BadInputError, match="holds no image"):
        run(tmp_path / "void")


FULL_DISK = """
import resource, signal, sys
from lib.storage import write_bytes_atomic
from tests.http_server import FileServer
# As a disk that fills while a file grows: the write stops part of the way with an OSError.
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_bytes_atomic(sys.argv[1], b"x" * 100_000)
except OSError as error:
    print(error)
"""


def test_a_file_that_outgrows_the_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    target = tmp_path / "descriptors" / "shard.parquet"
    command = [sys.executable, "-c", FULL_DISK, str(target)]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    assert "File too large" in done.stdout
    assert str(target) in done.stdout
    assert list(target.parent.iterdir()) == []


def test_a_full_disk_is_a_clear_error_and_the_run_goes_on_later(
    run: Callable[..., Run], tmp_path: Path
) -> None:
    """A file system of 64 KiB fills after a few shards; the rest comes once it has grown."""
    db = tmp_path / "db"
    db.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(db)]
    if subprocess.run(mounted, capture_output=True).returncode:
        pytest.skip("only root may mount a small file system")
    try:
        images = make_images(tmp_path / "images", 40)
        with pytest.raises(OSError, match=r"No space left on device.*descriptors"):
            run(images)
        there = rows(db)
        assert 0 < len(there) < 40
        assert not list(db.rglob(".tmp-*"))
        subprocess.run(["mount", "-o", "remount,size=10m", str(db)], check=True)
        done = run(images)
        assert (done.already_described, done.described) == (len(there), 40 - len(there))
        assert len(rows(db)) == 40
    finally:
        subprocess.run(["umount", "--lazy", str(db)], check=True)


def test_a_bucket_that_refuses_is_a_clear_error(s3_bucket: str) -> None:
    absent = f"{s3_bucket}-absent/db/descriptors/a.parquet"
    with pytest.raises(OSError, match="bucket"):
        write_bytes_atomic(absent, b"x")


def test_zip_in_place_equals_the_directory(run: Callable[..., Run], tmp_path: Path) -> None:
    images = make_images(tmp_path / "images", 9)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for file in images.rglob("*.jpg"):
            archive.write(file, file.relative_to(images))
    run(images, tmp_path / "a")
    run(tmp_path / "all.zip", tmp_path / "b")
    same = ("path", "bytes", "descriptor")
    assert [[row[name] for name in same] for row in rows(tmp_path / "a")] == [
        [row[name] for name in same] for row in rows(tmp_path / "b")
    ]


def test_shards_are_a_function_of_the_list_and_halves_cover_all() -> None:
    listed = [ListedImage(f"{n:03}", f"/{n}", n, "", str(n)) for n in range(10)]
    shards = list(cut_shards(enumerate(listed), 4))
    assert [len(shard.images) for shard in shards] == [4, 4, 2]
    assert [shard.name for shard in shards] == [
        shard.name for shard in cut_shards(enumerate(listed), 4)
    ]
    halves = Shard(0, listed).halves()
    assert [image for half in halves for image in half.images] == listed


@pytest.mark.parametrize(
    ("images", "size"),
    [(1, 32), (1_024, 32), (1_025, 33), (32_000, 1_000), (10**9, 1_000)],
)
def test_a_small_collection_is_cut_for_several_workers(images: int, size: int) -> None:
    assert suitable_shard_size(images) == size


def test_a_comparison_reads_all_kinds_of_rows(run: Callable[..., Run], tmp_path: Path) -> None:
    images = make_images(tmp_path / "images", 5)
    (images / "bad.jpg").write_bytes(b"")
    run(images)
    files = list(store.shard_states(str(tmp_path / "db")))
    known = store.known_images(files, range(len(files))).to_pylist()
    assert len(known) == 6
    assert [row["path"] for row in known if row["failed"]] == ["bad.jpg"]
    assert store.count_rows(str(tmp_path / "db")) == (5, 1)


@pytest.mark.reports
def test_large_files_are_read_ahead_by_their_bytes() -> None:
    """16 readers take 128 small images ahead, and no more than 512 MB of large ones."""

    def most_in_flight(size: int) -> int:
        started: list[int] = []
        images = [ListedImage(str(n), str(n), size, "", str(n)) for n in range(400)]

        def read(chunk: list[ListedImage]) -> list[str]:
            started.append(sum(image.bytes for image in chunk))
            return [image.path for image in chunk]

        used, most, paths = 0, 0, list[str]()
        with ThreadPoolExecutor(16) as pool:
            for chunk in _ahead(pool, 16, read, _chunks(images), _bytes):
                most = max(most, sum(started) - used)
                used += size * len(chunk)
                paths += chunk
        assert paths == [image.path for image in images]
        return most

    assert most_in_flight(100_000) <= 17 * 8 * 100_000
    assert most_in_flight(250_000_000) <= 2 * 512_000_000
