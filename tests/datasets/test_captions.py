"""Reading captions, joining them to images, and holding images out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lib.datasets.captions import held_out, load_captions, select
from lib.errors import BadInputError, MissingError

COCO: dict[str, Any] = {
    "images": [
        {"id": 139, "file_name": "000000000139.jpg", "coco_url": "http://example.org/139.jpg"},
        {"id": 285, "file_name": "000000000285.jpg"},
    ],
    "annotations": [
        {"id": 1, "image_id": 285, "caption": "A big bear. \n"},
        {"id": 2, "image_id": 139, "caption": "A living room."},
        {"id": 3, "image_id": 285, "caption": "  "},
    ],
}


def write(path: Path, content: object) -> str:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_coco_captions(tmp_path: Path) -> None:
    captions = load_captions(write(tmp_path / "c.json", COCO))
    assert captions.image_ids == ["285", "139"]  # the blank caption is left out
    assert captions.texts == ["A big bear.", "A living room."]
    assert captions.images["139"].url == "http://example.org/139.jpg"
    assert captions.by_image() == {"285": ["A big bear."], "139": ["A living room."]}


def test_tables_of_image_and_caption(tmp_path: Path) -> None:
    table = pd.DataFrame({"image": ["x/a.jpg", "b.jpg"], "caption": ["a dog, running", "a cat"]})
    table.to_csv(tmp_path / "c.csv", index=False)
    table.to_parquet(tmp_path / "c.parquet")
    for name in ("c.csv", "c.parquet"):
        captions = load_captions(str(tmp_path / name))
        assert captions.image_ids == ["x/a.jpg", "b.jpg"]
        assert captions.texts == ["a dog, running", "a cat"]


def test_characters_of_web_pages_are_no_words(tmp_path: Path) -> None:
    written = "Mom &amp; dad&#39;s &quot;dog&QUOT; R&D &nosuch; &not so&#x21;"
    captions = load_captions(write(tmp_path / "c.csv", f"image,caption\na.jpg,{written}\n"))
    assert captions.texts == ['Mom & dad\'s "dog" R&D &nosuch; &not so!']


def test_tags_of_web_pages_are_no_words(tmp_path: Path) -> None:
    """Flickr's descriptions have links; <PERSON> is CC12M's word for a name."""
    written = '<p>my <b>dog</b> at <a href=""https://h/p"" rel=""nofollow"">sea</a></p> <PERSON> <3'
    table = f'image,caption\na.jpg,"{written}"\nb.jpg,<br/>\n'
    captions = load_captions(write(tmp_path / "c.csv", table))
    assert [" ".join(text.split()) for text in captions.texts] == ["my dog at sea <PERSON> <3"]
    assert "since they are blank: 1, first line 3" in captions.notes[0]


def test_captions_meet_images_by_id_by_path_and_by_file_name(tmp_path: Path) -> None:
    captions = load_captions(write(tmp_path / "c.json", COCO))
    assert captions.rows_among([("139", "139")]).tolist() == [-1, 0]
    ids = ["val/000000000285.jpg", "other.jpg", "000000000139.jpg"]
    assert captions.rows_among(zip(ids, ids, strict=True)).tolist() == [0, 2]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("c.json", "not json", "not COCO's caption format"),
        ("c.json", [], "columns image and caption"),
        ("c.json", {"images": []}, "not COCO's caption format"),
        ("c.json", {"images": [], "annotations": []}, "holds no captions"),
        ("c.json", {"images": [], "annotations": COCO["annotations"]}, "lacks: .*3 such records"),
        ("c.csv", "file,size\na.jpg,b\n", "columns image and caption"),
        ("c.csv", "", "is empty"),
        ("c.parquet", "not parquet", "cannot be read"),
    ],
)
def test_a_wrong_file_is_named_with_what_was_expected(
    tmp_path: Path, name: str, content: object, says: str
) -> None:
    with pytest.raises(BadInputError, match=says) as error:
        load_captions(write(tmp_path / name, content))
    assert name in str(error.value)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"none\.json"):
        load_captions(str(tmp_path / "none.json"))


def test_held_out_is_a_tenth_and_depends_on_the_id_alone() -> None:
    ids = [str(number) for number in range(10_000)]
    chosen = held_out(ids)
    assert 900 < len(chosen) < 1100
    assert held_out(ids[:500]) == chosen & set(ids[:500])


def test_select_keeps_the_captions_of_some_images(tmp_path: Path) -> None:
    captions = load_captions(write(tmp_path / "c.json", COCO))
    chosen = select(captions, {"139"})
    assert chosen.texts == ["A living room."]
    assert list(chosen.images) == ["139"]


def test_the_real_captions(coco_dir: Path) -> None:
    captions = load_captions(str(coco_dir / "captions_val2017.json"))
    assert len(captions.images) == 5000
    assert len(captions) == 25_014
    present = sorted(path.name for path in (coco_dir / "images").iterdir())
    rows = captions.rows_among(zip(present, present, strict=True))
    assert set(rows[rows >= 0]) <= set(range(len(present)))
    assert np.sum(rows < 0) > 20_000


def test_a_table_without_the_columns_names_a_few_of_its_own(tmp_path: Path) -> None:
    table = tmp_path / "wide.csv"
    table.write_text(",".join(["x" * 50, *(f"column{i}" for i in range(19))]) + "\n")
    with pytest.raises(BadInputError) as raised:
        load_captions(str(table))
    shown = "x" * 29 + "…, column0, column1, column2, column3 and 15 more"
    needs = "needs the columns image and caption (or file_name, path, url; text, sentence)"
    assert str(raised.value) == f"{table} {needs}; it has {shown}"


@pytest.mark.reports
def test_captions_of_other_images_show_a_name_of_each_side(tmp_path: Path) -> None:
    captions = load_captions(write(tmp_path / "c.json", COCO))
    matches = captions.match([("a/dog.jpg", "a/dog.jpg")])
    with pytest.raises(BadInputError, match=r"say '000000000285\.jpg', the .* 'a/dog\.jpg'"):
        captions.require_a_match(matches, "photos/")
    paths = ["a/000000000139.jpg", "b/000000000139.jpg", "000000000285.jpg"]
    matches = captions.match(zip(paths, paths, strict=True))
    captions.require_a_match(matches, "photos/")
    assert (matches.rows, matches.image_ids) == ({"285": 2}, {"285": paths[2]})
    (note,) = captions.matching_notes(matches)
    assert "1 names could mean several images" in note
    assert "000000000139.jpg (b/000000000139.jpg is one)" in note
    (note,) = captions.matching_notes(captions.match([(paths[2], paths[2])]))
    assert "1 of 2 captioned images are not in the collection, such as 000000000139.jpg" in note
