"""Ids that captions give to listed images, before any image is described."""

from pathlib import Path

import numpy as np
import pytest

from lib.datasets.captions import CaptionedImage, Captions
from lib.descriptors.naming import name_by_captions
from lib.errors import BadInputError
from lib.images.listed import ListedImage
from tests.database.test_embed import write_descriptors

pytestmark = pytest.mark.reports


def listing(*paths: str) -> list[ListedImage]:
    return [ListedImage(path, f"/{path}", 1, "", path) for path in paths]


def captions(**names: str) -> Captions:
    images = {image_id: CaptionedImage(name) for image_id, name in names.items()}
    return Captions(list(names), ["a dog"] * len(names), images, "c.json")


def named(db: Path, paths: list[str], *parts: Captions) -> tuple[list[str], list[str]]:
    notes: list[str] = []
    images = name_by_captions(listing(*paths), parts, "photos/", str(db), notes)
    return [image.image_id for image in images], notes


def test_ids_come_from_captions_that_have_them(tmp_path: Path) -> None:
    paths = ["a/000000000139.jpg", "b/x.jpg", "c.jpg", "c.jpg", "d.jpg"]
    coco = captions(**{"139": "val2017/000000000139.jpg", "7": "c.jpg"})
    table = captions(**{"./b/x.jpg": "./b/x.jpg"})
    ids, notes = named(tmp_path, paths, coco, table)
    assert ids == ["139", "b/x.jpg", "7", "7", "d.jpg"]  # c.jpg is listed twice
    assert notes == []


def test_ids_are_unique_or_the_run_says_which_are_not(tmp_path: Path) -> None:
    paths = ["1", "a/x.jpg", "b/x.jpg", "y.jpg", "z.jpg"]
    ids, notes = named(tmp_path, paths, captions(**{"5": "x.jpg", "6": "y.jpg"}))
    assert ids == ["1", "a/x.jpg", "b/x.jpg", "6", "z.jpg"]
    assert "x.jpg (b/x.jpg is one)" in notes[0]
    ids, notes = named(tmp_path, paths, captions(**{"1": "y.jpg"}), captions(**{"2": "z.jpg"}))
    assert ids == ["1", "a/x.jpg", "b/x.jpg", "y.jpg", "2"]
    assert "1 ids of the captions stand for several images, such as 1" in notes[0]
    ids, _ = named(tmp_path, paths, captions(**{"4": "y.jpg"}), captions(**{"4": "z.jpg"}))
    assert ids == paths
    images = [*listing("x.jpg", "y.jpg"), listing("y.jpg")[0]._replace(uri="/elsewhere/y.jpg")]
    coco = captions(**{"5": "x.jpg", "6": "y.jpg"})
    ids = [i.image_id for i in name_by_captions(images, [coco], "photos/", str(tmp_path), notes)]
    assert ids == ["5", "y.jpg", "y.jpg"]


def test_images_that_were_described_under_other_ids_are_told(tmp_path: Path) -> None:
    write_descriptors(str(tmp_path), "photos.parquet", {"b.jpg": "b0", "c.jpg": "c0"})
    of_paths = captions(**{"b.jpg": "b.jpg"})
    assert named(tmp_path, ["b.jpg", "c.jpg"], of_paths)[1] == []
    _, notes = named(tmp_path, ["a.jpg", "b.jpg", "c.jpg"], captions(**{"7": "c.jpg"}))
    told = "1 images were described under other ids than those of the captions, such as c.jpg"
    assert told in notes[0]


def test_captions_of_another_collection_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"captions say 'dog\.jpg', the collection 'a\.jpg'"):
        named(tmp_path, ["a.jpg", "b.jpg"], captions(**{"dog.jpg": "dog.jpg"}))


def test_images_come_in_order_of_path_and_repeated_ones_as_they_were_listed(
    tmp_path: Path,
) -> None:
    numbers = np.random.default_rng(0).integers(0, 5_000, 9_000).tolist()
    images = [
        ListedImage(f"{number}", f"/{row}", row, "", f"{number}")
        for row, number in enumerate(numbers)
    ]
    assert list(name_by_captions(images, [], "photos/", str(tmp_path), [])) == sorted(
        images, key=lambda image: image.path
    )
    assert list(name_by_captions([], [], "photos/", str(tmp_path), [])) == []
