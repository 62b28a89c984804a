"""What each strategy may draw, and what it must."""

from typing import get_args

import numpy as np
import pytest

from lib.embedder.triples import SIMILAR, Strategy, draw_triples, uniform_triples
from lib.errors import BadArgumentError, BadInputError


def _unit(count: int, seed: int, dimension: int = 6) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, dimension))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("strategy", get_args(Strategy))
def test_the_bad_image_is_never_the_good_one(strategy: Strategy) -> None:
    rows = np.random.default_rng(0).integers(0, 30, 90)
    triples = draw_triples(strategy, _unit(90, 1), _unit(30, 2), rows, 4, np.random.default_rng(3))
    assert np.array_equal(triples.caption, np.repeat(np.arange(90), 4))
    assert np.array_equal(triples.good, rows[triples.caption])
    assert not (triples.bad == triples.good).any()
    assert triples.bad.min() >= 0
    assert triples.bad.max() < 30


def test_uniform_means_uniform_over_the_others() -> None:
    triples = uniform_triples(np.array([1]), 4, 30_000, np.random.default_rng(0))
    assert np.bincount(triples.bad, minlength=4) / 30_000 == pytest.approx(
        [1 / 3, 0, 1 / 3, 1 / 3], abs=0.01
    )


def test_hardest_is_the_best_scoring_wrong_image() -> None:
    texts, images, rows = _unit(20, 1), _unit(12, 2), np.arange(20) % 12
    scores = texts @ images.T
    scores[np.arange(20), rows] = -2
    # 256 candidates of 11 images: each is among them but with probability 1e-10.
    triples = draw_triples("hardest", texts, images, rows, 1, np.random.default_rng(0))
    assert np.array_equal(triples.bad, scores.argmax(axis=1))


def test_semi_hard_stays_below_the_good_image_where_it_can() -> None:
    texts, images, rows = _unit(40, 1), _unit(25, 2), np.arange(40) % 25
    scores = texts @ images.T
    triples = draw_triples("semi-hard", texts, images, rows, 1, np.random.default_rng(0))
    for caption, bad in zip(triples.caption, triples.bad, strict=True):
        good = scores[caption, rows[caption]]
        others = np.delete(scores[caption], rows[caption])
        below = others[others < good]
        expected = below.max() if len(below) else others.max()
        assert scores[caption, bad] == pytest.approx(expected)


def test_dissimilar_spares_images_whose_captions_say_the_same() -> None:
    texts, images, rows = _unit(60, 1, 3), _unit(20, 2, 3), np.arange(60) % 20
    closeness = np.stack([(texts @ texts[rows == image].T).max(axis=1) for image in range(20)], 1)
    triples = draw_triples("dissimilar", texts, images, rows, 1, np.random.default_rng(0))
    hardest = draw_triples("hardest", texts, images, rows, 1, np.random.default_rng(0))
    can = np.sort(closeness, axis=1)[:, 1] <= SIMILAR
    assert can.any()
    assert (closeness[np.arange(60), triples.bad][can] <= SIMILAR).all()
    assert (closeness[np.arange(60), hardest.bad] > SIMILAR).any()


def test_impossible_wishes_are_refused() -> None:
    with pytest.raises(BadInputError, match="two images"):
        uniform_triples(np.array([0, 0]), 1, 1, np.random.default_rng(0))
    arguments = _unit(2, 0), _unit(2, 1), np.array([0, 1])
    with pytest.raises(BadArgumentError, match="no strategy"):
        draw_triples("easy", *arguments, 1, np.random.default_rng(0))  # type: ignore[arg-type]
    with pytest.raises(BadArgumentError, match="1 or more"):
        draw_triples("uniform", *arguments, 0, np.random.default_rng(0))
