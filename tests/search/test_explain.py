import numpy as np
import pytest

from lib.embedder.model import Embedder
from lib.errors import BadInputError
from lib.search.explain import split_over_cells
from lib.text.encoder import TextEncoder, fit_idf
from lib.text.query import embed_query
from lib.text.word_vectors import load_word_vectors
from tests.serving_database import backbone


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder(load_word_vectors(), fit_idf(["a red ball on a table", "a green box"]))


def test_by_hand() -> None:
    # One channel, two cells; M = [[1, 0]], b = [0, 1]; descriptor 2, z = (2, 1), |z| = √5.
    feature_map = np.array([[[1.0, 3.0]]], np.float32)
    heat = split_over_cells(
        feature_map,
        Embedder(np.array([[1.0, 0.0]]), np.array([0.0, 1.0])),
        np.array([[1.0, 0.0], [0.0, 1.0]], np.float32),
    )
    expected = np.array([[[1, 3]], [[1, 1]]]) / (2 * np.sqrt(5))
    np.testing.assert_allclose(heat.shares, expected, rtol=1e-6)
    assert heat.score == pytest.approx(3 / np.sqrt(5))


def test_words_and_cells_both_add_up_to_the_cosine(encoder: TextEncoder) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (3, 3, 224, 224)).astype(np.uint8)
    import torch

    pixels = torch.from_numpy(images)
    maps = backbone().feature_map(pixels).numpy()
    descriptors = backbone().extract(pixels).numpy()
    embedder = Embedder(
        random.normal(size=(512, 50)).astype(np.float32),
        random.normal(size=50).astype(np.float32),
    )
    query = embed_query(encoder, 'red^2 ball -"green box" qxzv')
    for feature_map, image in zip(maps, embedder.se_image(descriptors), strict=True):
        score = float(query.embedding @ image)
        assert float((query.parts @ image).sum()) == pytest.approx(score, abs=1e-4)
        heat = split_over_cells(feature_map, embedder, query.parts)
        assert heat.shares.shape == (4, 7, 7)
        assert heat.score == pytest.approx(score, abs=1e-4)
        assert float(heat.cells.sum()) == pytest.approx(score, abs=1e-4)
        # and over the cells each word has its share of the cosine
        np.testing.assert_allclose(heat.shares.sum(axis=(1, 2)), query.parts @ image, atol=1e-4)


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(BadInputError, match="do not fit"):
        split_over_cells(np.ones((3, 2, 2)), Embedder(np.ones((4, 5)), np.ones(5)), np.ones((1, 5)))


def test_an_image_without_embedding_has_no_parts() -> None:
    with pytest.raises(BadInputError, match="zero"):
        split_over_cells(
            np.ones((1, 2, 2)), Embedder(np.zeros((1, 3)), np.zeros(3)), np.ones((1, 3))
        )
