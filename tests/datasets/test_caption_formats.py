"""Flickr8k, own folders and WebDataset shards become an image folder and a captions CSV."""

import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from lib.datasets.caption_formats import prepare_flickr8k, prepare_folder, prepare_webdataset
from lib.datasets.captions import load_captions
from lib.errors import BadInputError, MissingError


def picture() -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (4, 4), "orange").save(sink, "JPEG")
    return sink.getvalue()


def put(directory: Path, *names: str) -> None:
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture())


def shard(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as opened:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            opened.addfile(member, io.BytesIO(content))
    return path


def test_the_original_flickr8k(tmp_path: Path) -> None:
    put(tmp_path / "f", "Flicker8k_Dataset/1_a.jpg", "Flicker8k_Dataset/2_b.jpg")
    (tmp_path / "f" / "Flickr8k.token.txt").write_text(
        "1_a.jpg#0\tA dog , running .\n1_a.jpg#1\tA #1 dog\n2_b.jpg#0\tTwo cats\n"
        "3_c.jpg.1#0\tAn image that the collection lacks\n"
    )
    done = prepare_flickr8k(tmp_path / "f", tmp_path / "out")
    captions = load_captions(str(done.captions))
    assert captions.image_ids == ["1_a.jpg", "1_a.jpg", "2_b.jpg"]
    assert captions.texts == ["A dog , running .", "A #1 dog", "Two cats"]
    assert (done.images.name, done.missing) == ("Flicker8k_Dataset", ["3_c.jpg.1"])


def test_kaggles_flickr8k_one_folder_deeper(tmp_path: Path) -> None:
    put(tmp_path, "f/archive/Images/1.jpg")
    (tmp_path / "f" / "archive" / "captions.txt").write_text(
        'image,caption\n1.jpg,"A dog, running ."\n1.jpg,"He said ""hi"""\n'
    )
    done = prepare_flickr8k(tmp_path / "f", tmp_path / "out")
    assert load_captions(str(done.captions)).texts == ["A dog, running .", 'He said "hi"']


def test_a_folder_with_captions_by_path_or_by_name(tmp_path: Path) -> None:
    put(tmp_path / "p", "a/1.jpg", "a/2.png", "b/2.png", "b/größe 3.JPG", "b/4.jpg")
    table = tmp_path / "captions.csv"
    table.write_text(
        "\ufeffcaption,Image\none,1.jpg\ntwo,b/2.png\nambiguous,2.png\n"
        "three,b/größe 3.JPG\n,a/1.jpg\n"
    )
    done = prepare_folder(tmp_path / "p", str(table), tmp_path / "out")
    captions = load_captions(str(done.captions))
    assert captions.image_ids == ["a/1.jpg", "b/2.png", "b/größe 3.JPG"]
    assert (done.missing, done.uncaptioned) == (["2.png"], 2)
    assert "since they are blank: 1" in done.notes[0]


def test_webdataset_shards(tmp_path: Path) -> None:
    first = shard(
        tmp_path / "s-000.tar",
        {
            "x/0001.jpg": picture(),
            "x/0001.txt": b"a dog\na brown dog\n",
            "x/0002.png": picture(),
            "x/0002.json": json.dumps({"caption": "a cat", "key": "0002"}).encode(),
            "x/0003.jpg": picture(),
            "x/0003.cls": b"7",
        },
    )
    second = shard(
        tmp_path / "s-001.tar",
        {"x/0001.json": b'{"captions": ["one", "two"]}', "x/0001.seg.jpg": picture()},
    )
    for _ in range(2):
        done = prepare_webdataset([first, second], tmp_path / "out")
        captions = load_captions(str(done.captions))
        assert captions.texts == ["a dog", "a brown dog", "a cat", "one", "two"]
        assert captions.image_ids[0] == "s-000/x/0001.jpg"
        assert all((done.images / image).is_file() for image in captions.image_ids)
        assert done.uncaptioned == 1


def test_a_shard_that_leads_out_is_refused(tmp_path: Path) -> None:
    bad = shard(tmp_path / "s.tar", {"../evil.jpg": picture(), "../evil.txt": b"x"})
    with pytest.raises(BadInputError, match="leads out"):
        prepare_webdataset([bad], tmp_path / "out")
    assert not (tmp_path / "evil.jpg").exists()


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="is not Flickr8k"):
        prepare_flickr8k(tmp_path, tmp_path / "out")
    with pytest.raises(MissingError, match="there is no directory"):
        prepare_folder(tmp_path / "none", str(tmp_path / "c.csv"), tmp_path / "out")
    with pytest.raises(MissingError, match=r"c\.csv is not there"):
        prepare_folder(tmp_path, str(tmp_path / "c.csv"), tmp_path / "out")
    with pytest.raises(MissingError, match="no WebDataset shard at"):
        prepare_webdataset([tmp_path / "none.tar"], tmp_path / "out")


def test_a_table_of_other_columns_and_a_compressed_shard_are_read(tmp_path: Path) -> None:
    put(tmp_path / "p", "1.jpg")
    (tmp_path / "c.csv").write_text("file,text\n1.jpg,words\n")
    done = prepare_folder(tmp_path / "p", str(tmp_path / "c.csv"), tmp_path / "out")
    assert load_captions(str(done.captions)).texts == ["words"]
    (tmp_path / "p" / "1.txt").write_text("other words")
    done = prepare_folder(tmp_path / "p", str(tmp_path / "p"), tmp_path / "out")
    assert load_captions(str(done.captions)).texts == ["other words"]
    plain = shard(tmp_path / "s.tar", {"1.jpg": picture(), "1.txt": b"a dog"})
    packed = tmp_path / "s.tar.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    done = prepare_webdataset([packed], tmp_path / "w")
    assert load_captions(str(done.captions)).image_ids == ["s/1.jpg"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"image,caption\nother.jpg,words\n", r"no caption belongs .* names other\.jpg"),
        (b"colour,size\n1.jpg,words\n", "it has colour, size"),
        (b"", "is empty: it holds no captions"),
        (b"\xff\xfe\x00", "cannot be read as captions"),
    ],
)
def test_captions_that_cannot_be_used_are_refused(
    tmp_path: Path, content: bytes, message: str
) -> None:
    put(tmp_path / "p", "1.jpg")
    (tmp_path / "c.csv").write_bytes(content)
    with pytest.raises(BadInputError, match=message):
        prepare_folder(tmp_path / "p", str(tmp_path / "c.csv"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_token_file_of_another_shape_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "Images/1.jpg")
    (tmp_path / "Flickr8k.token.txt").write_text(
        "1.jpg#0\tgood\n1.jpg bad\n1.jpg#1\tgood\n1.jpg bad\n"
    )
    with pytest.raises(BadInputError, match="line 2"):
        prepare_flickr8k(tmp_path, tmp_path / "out")
