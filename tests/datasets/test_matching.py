"""The one rule by which names of captions meet images of a collection."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.datasets.matching import CaptionedImage, _Name, _stem, match_images

pytestmark = pytest.mark.reports


def rows(names: list[str], paths: list[str]) -> dict[str, int]:
    images = {name: CaptionedImage(name) for name in names}
    return match_images(images, zip(paths, paths, strict=True)).rows


@pytest.mark.parametrize(
    "name",
    [
        *("x.jpg", "./x.jpg", "images/x.jpg", "val2017/x.jpg", "../x.jpg", "//nas/photos/x.jpg"),
        *("/home/me/x.jpg", "C:\\photos\\x.jpg", "images\\x.jpg", " x.jpg ", "X.JPG", "x.jpeg"),
        *("x", "http://h/a/x.jpg?w=9#top", "file:///a/x.jpg", "s3://b/x.jpg", "%78.jpg"),
        *("zip://in/x.jpg::photos.zip", "http%3A%2F%2Fh%2Fx.jpg"),
    ],
)
def test_ways_to_write_one_name(name: str) -> None:
    assert rows([name], ["y.jpg", "x.jpg", "x2.jpg"]) == {name: 1}
    assert rows([name], ["sub/y.jpg", "sub/x.jpg"]) == {name: 1}


@pytest.mark.parametrize("name", ["x&y.jpg", "x&amp;y.jpg", "x%26y.jpg", "in/X&#38;Y.JPG"])
def test_a_name_may_be_written_as_a_web_page_has_it(name: str) -> None:
    assert rows([name], ["x.jpg", "x&y.jpg", "xy.jpg"]) == {name: 1}


@pytest.mark.parametrize("name", ["139", "139.0", "0139", "139.jpg", "00139.JPEG", "val/139.jpg"])
def test_numbers_have_no_leading_zeros(name: str) -> None:
    assert rows([name], ["000000000139.jpg", "000000001390.jpg"]) == {name: 0}


@pytest.mark.parametrize("name", ["139", "000000000139.jpg", "COCO_train2014_000000000139.jpg"])
def test_coco_names_an_image_in_two_ways(name: str) -> None:
    paths = [
        "val2014/COCO_val2014_000000000139.jpg",
        "COCO_val2014_000000001390.jpg",
        "IMG_139.jpg",
    ]
    assert rows([name], paths) == {name: 0}
    assert rows(["COCO_val2014_000000000139.jpg"], ["139.png", "000000000139.jpg"]) == {
        "COCO_val2014_000000000139.jpg": 1
    }
    assert rows([name], [name, *paths]) == {name: 0}


def test_label_studio_counts_uploads_before_their_names() -> None:
    name = "/data/upload/3/0a1b2c3d-x.jpg"
    assert rows([name], ["y.jpg", "in/x.jpg"]) == {name: 1}
    assert rows([name], ["upload/3/0a1b2c3d-x.jpg", "x.jpg"]) == {name: 0}
    assert rows(["0a1b2c3d-x.jpg"], ["x.jpg"]) == {}


def test_composed_and_decomposed_letters_are_the_same() -> None:
    name = "café größe.jpg"
    other = unicodedata.normalize("NFD", name)
    assert other != name
    assert rows([name], ["b.jpg", other]) == {name: 1}
    assert rows([other], ["b.jpg", name]) == {other: 1}


@pytest.mark.parametrize("name", ["x.mp4", "y.jpg", "ax.jpg", "0139.png", ""])
def test_other_names_are_other_images(name: str) -> None:
    assert rows([name], ["x.jpg", "139.jpg"]) == {}


@pytest.mark.parametrize("name", ["x.png", "in/x.HIF", "in/X.DNG", "x.CR2"])
def test_a_picture_of_another_kind_is_meant_where_it_is_the_only_one(name: str) -> None:
    assert rows([name], ["y.jpg", "x.jpg"]) == {name: 1}
    assert rows([name], ["x.bmp", "x.jpg"]) == {}
    assert rows([name, "x.jpg"], ["x.jpg"]) == {"x.jpg": 0}
    assert rows([name, "x.gif"], ["x.jpg"]) == {}
    first, second = f"a/{name.rpartition('/')[2]}", f"b/{name.rpartition('/')[2]}"
    assert rows([first, second], ["b/x.jpg", "a/x.jpg"]) == {first: 1, second: 0}
    assert rows(["a/x", "b/x"], ["b/x.jpg", "a/x.jpg"]) == {"a/x": 1, "b/x": 0}


def test_the_last_part_decides_only_where_it_is_unique_on_both_sides() -> None:
    paths = ["a/x.jpg", "b/x.jpg"]
    images = {"x.jpg": CaptionedImage("x.jpg")}
    matches = match_images(images, zip(paths, paths, strict=True))
    assert (matches.rows, list(matches.ambiguous)) == ({}, ["x.jpg"])
    assert rows(["in/b/x.jpg", "in/a/x.jpg"], paths) == {"in/a/x.jpg": 0, "in/b/x.jpg": 1}
    assert rows(["a/x.jpg", "b/x.jpg"], ["a/x.jpg"]) == {"a/x.jpg": 0}
    assert rows(["x.JPG", "x.jpg"], ["x.jpg", "x.JPG"]) == {"x.jpg": 0, "x.JPG": 1}
    assert rows(["A/x.jpg", "b/a/x.jpg"], ["a/x.jpg"]) == {}  # two entries for one image


def test_what_lies_in_another_split_is_another_image() -> None:
    assert rows(["train/1.jpg"], ["val/1.jpg"]) == {}
    assert rows(["train/1.jpg"], ["val/1.jpg", "Training/1.jpg"]) == {"train/1.jpg": 1}
    assert rows(["data/test/in/1.jpg"], ["validation/1.jpg", "b/1.jpg"]) == {
        "data/test/in/1.jpg": 1
    }
    assert rows(["images/1.jpg", "train/2.jpg"], ["val/1.jpg", "2.jpg"]) == {
        "images/1.jpg": 0,
        "train/2.jpg": 1,
    }
    assert rows(["train/1.jpg", "val/1.jpg"], ["validation/1.jpg", "training/1.jpg"]) == {
        "train/1.jpg": 1,
        "val/1.jpg": 0,
    }
    coco = "val2014/COCO_val2014_000000000139.jpg"
    assert rows([coco], ["train2017/000000000139.jpg"]) == {coco: 0}
    assert rows([coco], ["train2014/000000000139.jpg"]) == {}


def test_ids_decide_unless_the_file_names_contradict_them() -> None:
    paths = ["q/x.jpg", "r/x.jpg"]
    images = {"1": CaptionedImage("x.jpg"), "2": CaptionedImage("x.jpg")}
    assert match_images(images, zip(["2", "1"], paths, strict=True)).rows == {"1": 1, "2": 0}
    others = {"1": CaptionedImage("dog.jpg"), "2": CaptionedImage("cat.jpg")}
    named = zip(["1", "2"], ["cat.jpg", "bird.jpg"], strict=True)
    assert match_images(others, named).rows == {"2": 0}


def test_an_id_is_a_file_name_only_where_the_file_name_has_it() -> None:
    official = {"139": CaptionedImage("COCO_val2014_000000000139.jpg")}
    counted = {"139": CaptionedImage("dog.jpg")}
    collection = [("000000000139.jpg", "000000000139.jpg")]
    assert match_images(official, collection).rows == {"139": 0}
    assert match_images(counted, collection).rows == {}


def test_urls_are_known_by_all_of_them_where_their_paths_are_equal() -> None:
    urls = ["http://h/photo?id=1", "http://h/photo?id=2"]
    assert rows(urls[::-1], urls) == {urls[0]: 0, urls[1]: 1}


@given(st.text(st.sampled_from("aéß0 .-_/\\%Ij\u0130Pg\u212b"), max_size=12))
def test_the_fast_stem_is_the_stem(name: str) -> None:
    for path in (name, f"{name}.jpg", f"{name}.JPEG", f"COCO_val2014_{name}.jpg"):
        assert _stem(path) == _Name(path).stem


@given(st.lists(st.text(st.sampled_from("ab0/."), min_size=1, max_size=6), unique=True))
def test_a_collection_meets_its_own_paths(paths: list[str]) -> None:
    assert rows(paths, paths) == {path: row for row, path in enumerate(paths)}
