"""The drawn sample: the same for a seed, valid COCO, captions that are true, an oracle that is."""

import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib.datasets.captions import load_captions
from lib.datasets.sample import SPLITS, SampleSummary, draw_sample, split_of
from lib.datasets.sample.composing import Description, Group, describe, generator, paint
from lib.datasets.sample.kinds import KINDS, PALETTE
from lib.datasets.sample.scenes import SCENES
from lib.datasets.sample.shapes import parse
from lib.datasets.sample.wording import CAPTIONS_PER_IMAGE, captions_of
from lib.errors import BadArgumentError
from tests.datasets.sample_oracle import expected_recall, facts_of, scene_caption_oracle, stated_in

pytestmark = pytest.mark.slow

COUNT = 41  # just enough for draw_sample to use two processes


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> SampleSummary:
    return draw_sample(tmp_path_factory.mktemp("sample"), COUNT, seed=3, workers=1)


def contents(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def descriptions(count: int) -> list[Description]:
    return [describe(generator(0, index, 0)) for index in range(count)]


def test_same_seed_gives_the_same_bytes_whatever_the_workers(
    drawn: SampleSummary, tmp_path: Path
) -> None:
    draw_sample(tmp_path, COUNT, seed=3, workers=2)
    assert contents(tmp_path) == contents(drawn.directory)


def test_a_larger_sample_begins_with_the_smaller(drawn: SampleSummary, tmp_path: Path) -> None:
    smaller = draw_sample(tmp_path, 12, seed=3, workers=1)
    small, large = contents(smaller.directory), contents(drawn.directory)
    pictures = [name for name in small if name.endswith(".jpg")]
    assert len(pictures) == 12
    assert all(small[name] == large[name] for name in pictures)
    for split in SPLITS:
        first = json.loads(small[f"captions_{split}.json"])
        second = json.loads(large[f"captions_{split}.json"])
        assert second["images"][: len(first["images"])] == first["images"]
        assert second["annotations"][: len(first["annotations"])] == first["annotations"]


def test_another_seed_gives_another_sample(drawn: SampleSummary, tmp_path: Path) -> None:
    other = draw_sample(tmp_path, 5, seed=4, workers=1)
    for index in range(1, 6):
        name = f"images/{index:012d}.jpg"
        assert (other.directory / name).read_bytes() != (drawn.directory / name).read_bytes()


def test_summary_counts_what_was_written(drawn: SampleSummary) -> None:
    assert drawn.images == COUNT == len(list((drawn.directory / "images").iterdir()))
    assert drawn.captions == COUNT * CAPTIONS_PER_IMAGE
    documents = (
        json.loads((drawn.directory / f"captions_{split}.json").read_text()) for split in SPLITS
    )
    assert [len(document["images"]) for document in documents] == [33, 4, 4]


def test_captions_are_coco_and_every_image_decodes(drawn: SampleSummary) -> None:
    seen: set[int] = set()
    annotation_ids: set[int] = set()
    for split in SPLITS:
        document = json.loads((drawn.directory / f"captions_{split}.json").read_text())
        ids = {image["id"] for image in document["images"]}
        assert not ids & seen, "an image is in two parts"
        seen |= ids
        for image in document["images"]:
            assert re.fullmatch(r"\d{12}\.jpg", image["file_name"])
            with Image.open(drawn.directory / "images" / image["file_name"]) as picture:
                picture.load()
                assert picture.format == "JPEG"
                assert picture.mode == "RGB"
                assert picture.size == (image["width"], image["height"])
                assert np.asarray(picture).std() > 10, "the picture is empty"
        per_image: dict[int, set[str]] = {}
        for annotation in document["annotations"]:
            per_image.setdefault(annotation["image_id"], set()).add(annotation["caption"])
            assert annotation["id"] not in annotation_ids
            annotation_ids.add(annotation["id"])
        assert set(per_image) == ids
        assert all(len(texts) == CAPTIONS_PER_IMAGE for texts in per_image.values())
    assert seen == set(range(1, COUNT + 1))


def test_the_projects_own_reader_takes_the_captions(drawn: SampleSummary) -> None:
    captions = load_captions(str(drawn.directory / "captions_train.json"))
    assert len(captions) == 33 * CAPTIONS_PER_IMAGE
    assert captions.images["1"].file_name == "000000000001.jpg"


def test_at_least_forty_kinds_and_each_has_a_place() -> None:
    at_home = {name for scene in SCENES.values() for name in scene.kinds}
    assert len(KINDS) >= 40
    assert at_home == set(KINDS)


@pytest.mark.parametrize("name", SCENES)
def test_every_kind_can_be_drawn_wherever_it_belongs(name: str) -> None:
    place = SCENES[name]
    mood = next(iter(place.moods))
    empty = np.asarray(
        paint(Description(name, mood, ()), np.random.default_rng(0), (160, 120)), np.float32
    )
    for kind in set(place.kinds):
        colours = KINDS[kind].colours
        group = Group(kind, KINDS[kind].most, colours[0] if colours else "")
        picture = paint(Description(name, mood, (group,)), np.random.default_rng(0), (160, 120))
        changed = np.abs(np.asarray(picture, np.float32) - empty).max(axis=2) > 40
        assert picture.size == (160, 120)
        assert changed.mean() > 0.004, f"{kind} does not show in {name}"


def test_every_mood_of_every_scene_can_be_painted() -> None:
    for scene in SCENES.values():
        pictures = [
            paint(Description(scene.name, mood, ()), np.random.default_rng(1), (120, 160)).tobytes()
            for mood in scene.moods
        ]
        assert len(set(pictures)) == len(scene.moods)


def test_colours_are_in_the_palette() -> None:
    assert {colour for kind in KINDS.values() for colour in kind.colours} <= set(PALETTE)


def test_captions_name_every_kind_and_say_what_is_true() -> None:
    said: Counter[str] = Counter()
    for index, description in enumerate(descriptions(400)):
        captions = captions_of(description, generator(0, index, 1))
        assert len(set(captions)) == CAPTIONS_PER_IMAGE
        for caption in captions:
            stated = stated_in(caption, description)
            assert stated <= facts_of(description), caption
            said.update(re.sub(": .*| is .*", "", fact) for fact in stated)
            said["colours"] += sum(" is " in fact for fact in stated)
    assert 0.7 < said["place"] / said["kinds"] < 0.99
    assert 0.2 < said["mood"] / said["kinds"] < 0.4
    assert said["colours"] > 0.3 * said["kinds"]


def test_captions_are_grammatical() -> None:
    for index, description in enumerate(descriptions(600)):
        for text in captions_of(description, generator(0, index, 1)):
            assert text[0].isupper(), text
            assert text.endswith("."), text
            assert "  " not in text, text
            assert " ," not in text, text
            words = re.findall(r"[a-z]+", text.lower())
            for word, following in pairwise(words):
                vowel = following[0] in "aeiou"
                assert not (word == "a" and vowel), text
                assert not (word == "an" and not vowel), text


def test_a_line_that_is_no_shape_is_named() -> None:
    with pytest.raises(ValueError, match="'sideways' in 'oval c sideways'"):
        parse("oval c sideways")
    with pytest.raises(ValueError, match="'circle' is no shape"):
        parse("circle c 0,0 10,10")


def test_wording_of_a_known_scene() -> None:
    """Colour stands with the noun that has it; a pair of skis is red as skis, not as a pair."""
    description = Description("snow", "sunny", (Group("skis", 2, "red"),))
    texts = [text for i in range(40) for text in captions_of(description, generator(0, i, 1))]
    assert any("two pairs of red skis" in text.lower() for text in texts)
    assert not any("red pair" in text for text in texts)
    assert all("are" in text.split() for text in texts if text.startswith("There"))


def test_orange_juice_is_common_in_every_part() -> None:
    shown = [
        index
        for index, description in enumerate(descriptions(1200))
        if any(group.kind == "orange juice" for group in description.groups)
    ]
    assert len(shown) >= 30
    assert sum(index % 10 == 4 for index in shown) >= 3
    assert sum(index % 10 == 9 for index in shown) >= 3


def test_oracle_by_hand() -> None:
    described = [
        {"kinds: dog", "dog: 1", "dog is brown", "place: beach"},
        {"kinds: dog", "dog: 1", "dog is black", "place: beach"},
        {"kinds: dog", "dog: 2", "dog: some", "dog is brown", "place: park"},
        {"kinds: cat", "cat: 1", "place: beach"},
    ]
    stated = [
        {"kinds: dog"},
        {"kinds: dog", "dog: 1", "place: beach"},
        {"kinds: dog", "dog is brown", "place: beach"},
        {"kinds: zebra"},
    ]
    tied = scene_caption_oracle(stated, described)
    assert [rows.tolist() for rows in tied] == [[0, 1, 2], [0, 1], [0], []]
    assert expected_recall(tied[:3], 1) == pytest.approx((1 / 3 + 1 / 2 + 1) / 3)
    assert expected_recall(tied[:3], 2) == pytest.approx((2 / 3 + 1 + 1) / 3)
    assert expected_recall(tied[:3], 5) == 1.0


def test_oracle_never_loses_a_captions_own_image(drawn: SampleSummary) -> None:
    train = [index for index in range(drawn.images) if split_of(index) == "train"]
    shown = [(describe(generator(3, index, 0)), generator(3, index, 1)) for index in train]
    described = [facts_of(description) for description, _ in shown]
    stated = [stated_in(text, image[0]) for image in shown for text in captions_of(*image)]
    assert len(stated) == CAPTIONS_PER_IMAGE * len(described)
    tied = scene_caption_oracle(stated, described)
    for caption, rows in enumerate(tied):
        assert caption // CAPTIONS_PER_IMAGE in rows
    assert expected_recall(tied, len(described)) == 1.0


def test_progress_is_told_of_every_image(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_sample(tmp_path, 3, workers=1)
    assert capsys.readouterr().err.startswith("3/3 images, ")


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a directory")
    with pytest.raises(BadArgumentError, match="file"):
        draw_sample(file, 1)
