"""Words that a collection suggests for its first queries."""

import numpy as np
from gensim.models import KeyedVectors

from lib.search.suggestions import words_of_images
from lib.text.encoder import TextEncoder, fit_idf

WORDS = ["beach", "cat", "dog", "snow", "train", "her", "computer"]


def encoder() -> TextEncoder:
    vectors = KeyedVectors(len(WORDS))
    vectors.add_vectors(WORDS, np.eye(len(WORDS), dtype=np.float32))
    return TextEncoder(vectors, fit_idf(WORDS))


def test_the_words_are_those_that_images_show() -> None:
    text = encoder()
    images = text.embed(["dog", "dog", "dog", "snow dog", "cat", "cat", "snow"])
    assert words_of_images(text, images, 2) == ["dog", "cat"]
    assert words_of_images(text, images, 12) == ["dog", "cat", "snow"]
    assert words_of_images(text, images[4:5], 12) == ["cat"]


def test_words_that_name_nothing_are_not_among_them() -> None:
    text = encoder()
    images = text.embed(["her her computer", "her her computer", "dog"])
    assert words_of_images(text, images, 12) == ["computer", "dog"]
