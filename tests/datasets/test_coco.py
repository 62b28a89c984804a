"""COCO from stand-ins with the official layout on a real server, whole and in part."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lib.datasets import coco, download
from lib.datasets.captions import load_captions
from lib.datasets.coco import prepare_coco
from lib.datasets.download import DownloadError
from lib.datasets.pretrained import prepare_glove, prepare_weights
from lib.errors import BadArgumentError, BadInputError
from tests.http_server import FileServer, Misbehaviour

IDS = [139, 7, 25, 1000, 64, 9, 300]


def picture(number: int) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (8, 6), (number % 256, 40, 90)).save(sink, "JPEG")
    return sink.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return sink.getvalue()


def captions_document(split: str) -> dict[str, Any]:
    return {
        "info": {"description": "stand-in"},
        "licenses": [],
        "images": [
            {
                "id": n,
                "file_name": f"{n:012}.jpg",
                "coco_url": f"http://images.cocodataset.org/{split}/{n:012}.jpg",
            }
            for n in IDS
        ],
        "annotations": [
            {"id": n * 10 + i, "image_id": n, "caption": f"caption {i} of {n}"}
            for n in IDS
            for i in range(5)
        ],
    }


def official_files(split: str = "val2017") -> dict[str, bytes]:
    """What the official host serves, small."""
    pictures = {f"{split}/{n:012}.jpg": picture(n) for n in IDS}
    captions = json.dumps(captions_document(split)).encode()
    annotations = {f"annotations/captions_{split}.json": captions}
    annotations[f"annotations/instances_{split}.json"] = b"{}" * 100_000
    return {
        **pictures,
        f"zips/{split}.zip": zipped({f"{split}/": b"", **pictures}),
        f"annotations/annotations_trainval{split[-4:]}.zip": zipped(annotations),
    }


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "FIRST_WAIT_S", 0.001)


def names(directory: Path) -> list[str]:
    return sorted(p.relative_to(directory).as_posix() for p in directory.rglob("*") if p.is_file())


@pytest.mark.parametrize("split", coco.SPLITS)
def test_a_whole_split_comes_from_its_zip(tmp_path: Path, split: str) -> None:
    with FileServer(
        official_files(split), Misbehaviour(statuses=[503], cut_randomly=True)
    ) as server:
        done = prepare_coco(split, tmp_path, base_url=server.url)
        asked = server.requests.total()
        again = prepare_coco(split, tmp_path, base_url=server.url)
        assert server.requests.total() == asked
        assert not any(path.endswith(".jpg") for path in server.requests)
    assert (done.image_count, again.downloads.fetched) == (7, 0)
    expected = [
        f"annotations/captions_{split}.json",
        *(f"{split}/{n:012}.jpg" for n in sorted(IDS)),
    ]
    assert names(tmp_path) == expected
    assert len(load_captions(str(done.captions))) == 35
    assert (done.images / f"{7:012}.jpg").read_bytes() == picture(7)


def test_the_first_images_by_id_come_one_by_one(tmp_path: Path) -> None:
    with FileServer(official_files()) as server:
        done = prepare_coco("val2017", tmp_path, 3, server.url)
        assert not any(path.startswith("zips") for path in server.requests)
        asked = server.requests.total()
        prepare_coco("val2017", tmp_path, 3, server.url)
        assert server.requests.total() == asked
        more = prepare_coco("val2017", tmp_path, 5, server.url)
        assert server.requests.total() == asked + 2
    captions = load_captions(str(done.captions))
    assert list(captions.images) == ["7", "9", "25"]
    assert len(captions) == 15
    assert len(load_captions(str(more.captions)).images) == 5
    assert sorted(p.name for p in done.images.iterdir()) == [
        f"{n:012}.jpg" for n in (7, 9, 25, 64, 139)
    ]


def test_a_limit_works_where_the_server_has_no_ranges(tmp_path: Path) -> None:
    with FileServer(official_files(), Misbehaviour(ranges=False, redirect=True)) as server:
        done = prepare_coco("val2017", tmp_path, 2, server.url)
    assert list(load_captions(str(done.captions)).images) == ["7", "9"]
    assert not list(tmp_path.glob("*.zip*"))


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    files = official_files()
    lost = files.pop("val2017/000000000009.jpg")
    with FileServer(files) as server:
        with pytest.raises(DownloadError, match=r"1 of 3 files .* HTTP 404 .* A rerun fetches"):
            prepare_coco("val2017", tmp_path, 3, server.url)
        files["val2017/000000000009.jpg"] = lost
        before = server.requests.copy()
        prepare_coco("val2017", tmp_path, 3, server.url)
        assert dict(server.requests - before) == {"val2017/000000000009.jpg": 1}


def test_a_local_copy_is_a_source(tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    for name in ("val2017.zip", "annotations_trainval2017.zip"):
        mirror.mkdir(exist_ok=True)
        content = next(c for path, c in official_files().items() if path.endswith("/" + name))
        (mirror / name).write_bytes(content)
    done = prepare_coco("val2017", tmp_path / "data", base_url=str(mirror))
    assert len(list(done.images.iterdir())) == 7
    assert sorted(p.name for p in mirror.iterdir()) == [
        "annotations_trainval2017.zip",
        "val2017.zip",
    ]


def test_zips_that_lie_there_are_taken(tmp_path: Path) -> None:
    files = official_files()
    (tmp_path / "val2017.zip").write_bytes(files["zips/val2017.zip"])
    with pytest.raises(DownloadError, match="annotations_trainval2017"):
        prepare_coco("val2017", tmp_path, base_url=str(tmp_path / "none"))
    annotations = files["annotations/annotations_trainval2017.zip"]
    (tmp_path / "annotations_trainval2017.zip").write_bytes(annotations)
    done = prepare_coco("val2017", tmp_path, base_url=str(tmp_path / "none"))
    assert len(list(done.images.iterdir())) == 7


def test_something_else_than_the_official_zip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "annotations_trainval2017.zip").write_bytes(b"small")
    with pytest.raises(BadInputError, match="has 5 bytes where 252907541 are published"):
        prepare_coco("val2017", tmp_path)


def test_a_caption_file_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    document = captions_document("val2017")
    document["images"][0]["file_name"] = "../../evil.jpg"
    target = tmp_path / "annotations" / "captions_val2017.json"
    target.parent.mkdir()
    target.write_text(json.dumps(document))
    with pytest.raises(BadInputError, match=r"evil\.jpg"):
        prepare_coco("val2017", tmp_path, 3, "http://127.0.0.1:9")


def test_glove_is_unpacked_in_the_dimension_asked_for(tmp_path: Path) -> None:
    members = {f"glove.6B.{d}d.txt": f"the {'1 ' * d}\n".encode() for d in (50, 100, 200, 300)}
    with FileServer({"data/glove.6B.zip": zipped(members)}) as server:
        assert prepare_glove(100, tmp_path, server.url).name == "glove.6B.100d.txt"
        prepare_glove(50, tmp_path, server.url)
        prepare_glove(50, tmp_path, server.url)
        assert server.requests.total() == 1
    assert names(tmp_path) == ["glove.6B.100d.txt", "glove.6B.50d.txt", "glove.6B.zip"]


def test_weights_must_have_the_digest_of_their_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with (
        FileServer({"models/resnet18-f37072fd.pth": b"other weights"}) as server,
        pytest.raises(DownloadError, match=r"SHA256 .* where f37072fd is published"),
    ):
        prepare_weights("resnet18", server.url)
    assert names(tmp_path) == []
    with pytest.raises(BadArgumentError, match="no model 'resnet19'"):
        prepare_weights("resnet19")
