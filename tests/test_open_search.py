"""`from lib import open_search`: what a notebook does."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lib import open_search
from lib.database.interface import UnknownImageError
from lib.database.opening import open_database
from lib.errors import BadArgumentError, MissingError, QueryError
from lib.images.decoding import ImageError
from lib.search.engine import Searcher
from tests.serving_database import WEIGHTS, captions_file, make_database


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("notebook")
    make_database(directory, images=12)
    return directory


@pytest.fixture(scope="module")
def search(directory: Path) -> Searcher:
    return open_search(str(directory / "db"), str(captions_file(directory)), weights=WEIGHTS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        ("lib", {"torch", "ray"}),
        # A process without PyTorch starts seconds sooner: a replica that was killed is back sooner.
        ("lib.service.deployment, lib.database.embed, lib.search.batch", {"torch"}),
        # A driver, too, and the first image of a service: what earlier runs kept of a network does.
        ("lib.descriptors.extraction, lib.backbones.image_encoder", {"torch"}),
    ],
)
def test_what_needs_no_torch_does_not_import_it(modules: str, absent: set[str]) -> None:
    code = f"import sys, {modules}; assert not {absent} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_whole_query_language(search: Searcher) -> None:
    result = search("ball^2 -red", k=5)
    assert len(result.ids) == len(result.uris) == len(result.scores) == 5
    expected = {
        image_id: float(search.collection.look_up(image_id)[1] @ search.se_text("ball^2 -red"))
        for image_id in search("ball", k=99).ids
    }
    assert len(expected) == 12
    assert result.ids == sorted(expected, key=lambda image_id: -expected[image_id])[:5]
    assert result.scores == pytest.approx([expected[image_id] for image_id in result.ids], abs=1e-6)
    with pytest.raises(QueryError, match="never closed"):
        search('ball "red')
    with pytest.raises(BadArgumentError, match="k must be at least 1"):
        search("ball", k=0)


def test_several_texts_give_the_images_for_each(search: Searcher, directory: Path) -> None:
    texts = ["ball -red", "red", "ball -red"]
    several = search(texts, k=3)
    assert [result.ids for result in several] == [search(text, k=3).ids for text in texts]
    assert search([], k=3) == []
    with pytest.raises(QueryError, match="never closed"):
        search(["ball", 'ball "red'])
    assert open_database(directory / "db").look_up("7.jpg")[0].image_id == "7.jpg"


def test_more_like_one_or_like_an_image_file(search: Searcher, directory: Path) -> None:
    like = search(like="7.jpg", k=3)
    assert like.ids[0] == "7.jpg"
    assert like.scores[0] == pytest.approx(1, abs=1e-5)
    file = directory / "images" / "7.jpg"
    for image in (str(file), file.read_bytes()):
        assert search(image=image, k=3).ids == like.ids
    both = search("red", like="7.jpg", k=12, text_weight=0.25)
    direction = 0.25 * search.se_text("red") + 0.75 * search.collection.look_up("7.jpg")[1]
    best = search.collection.look_up(both.ids[0])[1]
    assert both.scores[0] == pytest.approx(best @ direction / np.linalg.norm(direction), abs=1e-5)
    with pytest.raises(UnknownImageError, match=r"none\.jpg"):
        search(like="none.jpg")


def test_a_file_that_is_no_image_is_named(search: Searcher, directory: Path) -> None:
    with pytest.raises(ImageError, match=r"captions\.csv: no image format is known"):
        search(image=str(captions_file(directory)))


def test_a_minus_beside_an_image_counts_as_beside_a_word(search: Searcher) -> None:
    from lib.text.query import NEGATIVE_SHARE

    image = search.collection.look_up("7.jpg")[1]
    direction = image - NEGATIVE_SHARE * search.se_text("red")
    expected = search.collection.look_up("8.jpg")[1] @ direction / np.linalg.norm(direction)
    result = search("-red", like="7.jpg", k=12)
    assert dict(zip(result.ids, result.scores, strict=True))["8.jpg"] == pytest.approx(
        expected, abs=1e-5
    )


def test_filters(search: Searcher) -> None:
    tall = search("ball", k=99, orientation="portrait")
    assert 0 < len(tall.ids) < 12
    assert all(image.width < image.height for image in tall.images)
    assert search("ball", k=99, image_ids=("7.jpg",)).ids == ["7.jpg"]
    with pytest.raises(BadArgumentError, match="colour"):
        search("ball", colour="red")


def test_one_text_or_many(search: Searcher) -> None:
    many = search.se_text(["ball -red", "box"])
    assert many.shape == (2, 50)
    np.testing.assert_allclose(many[0], search.se_text("ball -red"), atol=1e-6)
    with pytest.raises(QueryError, match="qxzvw"):
        search.se_text(["ball", "qxzvw"])


def test_explanations_add_up_by_word_and_by_cell(search: Searcher) -> None:
    result = search("red ball -box", k=2)
    why = search.explain("red ball -box", result.ids[0], heat_map=True)
    assert why.score == pytest.approx(result.scores[0], abs=1e-6)
    assert list(why.words) == ["red", "ball", "box"]
    assert sum(why.words.values()) == pytest.approx(why.score, abs=1e-5)
    assert why.heat_map is not None
    assert why.heat_map.score == pytest.approx(why.score, abs=1e-4)
    assert search.explain("red ball -box", result.ids[0]).words == why.words


def test_odd_words_are_told(search: Searcher) -> None:
    result = search("ball zebra giraffe")
    assert result.unseen_words == ["zebra", "giraffe"]
    assert result.unknown_words == []
    result = search("bycicle^2 ball")
    assert result.unknown_words == ["bycicle"]
    assert result.suggestion == "bicycle^2 ball"
    assert search("ball").suggestion is None


def test_there_must_be_a_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # which a notebook's user may take for another one
    with pytest.raises(MissingError, match=f"^{tmp_path}/my.db holds no descriptors"):
        open_search("my.db")


def test_files_are_named_by_paths_as_well(directory: Path, search: Searcher) -> None:
    by_path = open_search(directory / "db", captions_file(directory), weights=WEIGHTS)
    image = directory / "images" / "7.jpg"
    assert by_path(image=image, k=3).ids == search(image=str(image), k=3).ids
    assert by_path.captions == search.captions
    with pytest.raises(ImageError, match=r"absent\.jpg"):
        search(image=directory / "absent.jpg")
