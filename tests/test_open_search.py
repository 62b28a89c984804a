"""`from lib import open_search`: what a notebook does."""

import copy
import math
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lib import open_search
from lib.database.interface import UnknownImageError
from lib.database.opening import open_database
from lib.errors import BadArgumentError, BadInputError, MissingError, QueryError
from lib.images.decoding import ImageError
from lib.search.engine import Searcher, SearchResult
from tests.http_server import FileServer
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
    for several in (["7.jpg", "8.jpg"], {"7.jpg", "8.jpg"}, np.array(["7.jpg", "8.jpg"])):
        assert {*search("ball", k=99, image_ids=several).ids} == {"7.jpg", "8.jpg"}
    with pytest.raises(BadArgumentError, match="colour"):
        search("ball", colour="red")


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        ({"orientation": "wide"}, "orientation must be one of landscape, portrait, square"),
        ({"orientaton": "wide"}, "no condition is called orientaton; there are image_ids, path_"),
        ({"image_ids": "7.jpg"}, "image_ids must be a list of texts, not str"),
        ({"image_ids": ["7.jpg", 8]}, r"image_ids\[1\] must be a text, not 8"),
        ({"min_width": "640"}, "min_width must be a number of pixels, not '640'"),
        ({"min_height": math.nan}, "min_height must be a number of pixels, not nan"),
        ({"path_prefix": Path("a")}, "path_prefix must be a text"),
    ],
)
def test_a_condition_that_is_none_is_refused(
    search: Searcher, condition: dict[str, Any], says: str
) -> None:
    with pytest.raises(BadArgumentError, match=says):
        search("ball", **condition)


class _Column:
    """A column of a table whose rows were filtered: it goes by its labels, not by place."""

    ndim = 1

    def __init__(self, values: dict[int, object]) -> None:
        self._values = values

    def __iter__(self) -> Iterator[object]:
        return iter(self._values.values())

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, label: int) -> object:
        return self._values[label]


@pytest.mark.parametrize("make", [tuple, iter, np.array, lambda x: _Column({5: x[0], 9: x[1]})])
def test_texts_come_in_whatever_holds_them(
    search: Searcher, make: Callable[[list[str]], Any]
) -> None:
    texts = ["ball -red", "box"]
    assert [result.ids for result in search(make(texts))] == [r.ids for r in search(texts)]
    np.testing.assert_array_equal(search.se_text(make(texts)), search.se_text(texts))


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (["ball", None], r"text\[1\] must be a text, not None"),
        (_Column({5: "ball", 9: math.nan}), r"text\[1\] must be a text, not nan"),
        ([b"ball"], r"text\[0\] must be a text, not b'ball'"),
        (None, "text must be a list of texts, not NoneType"),
        (b"ball", "text must be a list of texts, not bytes"),
        (np.array([["ball"]]), "text must be a list of texts, not ndarray"),
    ],
)
def test_what_is_no_text_is_named(search: Searcher, texts: Any, says: str) -> None:
    for ask in (search, search.se_text):
        with pytest.raises(BadArgumentError, match=says):
            ask(texts)


def test_of_several_texts_the_unusable_one_is_named(search: Searcher) -> None:
    for ask in (search, search.se_text):
        with pytest.raises(QueryError) as caught:
            ask(["ball", "qxzvw"])
        assert caught.value.__notes__ == ["this is text[1]: 'qxzvw'"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"like": "7.jpg", "text_weight": math.nan}, "text_weight must be from 0 to 1, not nan"),
        ({"like": "7.jpg", "text_weight": 2}, "text_weight must be from 0 to 1, not 2"),
        ({"like": "7.jpg", "image": b""}, "give like or image, not both"),
        ({"like": 7}, "the id of an image must be a text, not 7"),
        ({"k": 2.5}, "k must be a whole number, not 2.5"),
        ({"image": Image.new("RGB", (9, 9))}, "the path, URL or bytes of an image file"),
        ({"image": np.zeros((9, 9, 3))}, r"not float64 \(9, 9, 3\)"),
        ({"image": np.ones((2, 512))}, "one image, not 2 descriptors"),
        ({"image": np.ones(7)}, "descriptors have 7 values; the embedder takes 512"),
        ({"image": np.array(["7.jpg"])}, "an array of descriptors"),
    ],
)
def test_an_option_that_cannot_be_meant_is_refused(
    search: Searcher, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(BadArgumentError, match=says):
        search("ball", **options)


def test_a_descriptor_without_an_embedding_is_refused(search: Searcher) -> None:
    for value in (math.nan, math.inf):
        descriptors = np.ones((2, 512))
        descriptors[1, 3] = value
        with pytest.raises(BadInputError, match="descriptors must be finite"):
            search.se_image(descriptors)


def test_an_explanation_is_of_a_text_and_an_id(search: Searcher) -> None:
    with pytest.raises(BadArgumentError, match="the id of an image must be a text, not 7"):
        search.explain("ball", 7)  # type: ignore[arg-type]
    with pytest.raises(BadArgumentError, match="a query must be a text, not None"):
        search.explain(None, "7.jpg")  # type: ignore[arg-type]


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
    Path("notes.txt").touch()
    with pytest.raises(BadInputError, match=f"^{tmp_path}/notes.txt is a file, where a directory"):
        open_search("notes.txt")


def test_the_address_of_a_service_is_no_database() -> None:
    says = r"holds no descriptors.*; a service is asked over HTTP, as GET /search\?q="
    with FileServer({}) as server, pytest.raises(MissingError, match=says):
        open_search(server.url)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r))])
def test_a_result_goes_to_other_processes(
    search: Searcher, copied: Callable[[SearchResult], SearchResult]
) -> None:
    result = search("bycicle ball", k=3)
    other = copied(result)
    assert (other.ids, other.scores) == (result.ids, result.scores)
    assert other.unknown_words == ["bycicle"]
    assert other.suggestion == "bicycle ball"


def test_files_are_named_by_paths_as_well(directory: Path, search: Searcher) -> None:
    by_path = open_search(directory / "db", captions_file(directory), weights=WEIGHTS)
    image = directory / "images" / "7.jpg"
    assert by_path(image=image, k=3).ids == search(image=str(image), k=3).ids
    assert by_path.captions == search.captions
    with pytest.raises(ImageError, match=r"absent\.jpg"):
        search(image=directory / "absent.jpg")
