"""Tokens, IDF and se_text, against values worked out by hand and against gensim's arithmetic."""

import math

import numpy as np
import pytest
from gensim.models import KeyedVectors
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import QueryError
from lib.text.encoder import TextEncoder, fit_idf, tokenize
from lib.text.query import unknown_words
from lib.text.word_vectors import load_word_vectors, word_vectors_digest

CORPUS = ["a dog", "a cat and a dog", "orange juice", "a glass of juice"]


@pytest.fixture(scope="module")
def glove() -> KeyedVectors:
    return load_word_vectors()


def two_word_vectors() -> KeyedVectors:
    vectors = KeyedVectors(2)
    vectors.add_vectors(["dog", "cat"], np.array([[3.0, 0.0], [0.0, 1.0]], np.float32))
    return vectors


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("A dog's bone, please!", ["a", "dog", "'s", "bone", "please"]),
        ("Don’t go", ["do", "n't", "go"]),
        ("can't", ["ca", "n't"]),
        ("we'll", ["we", "'ll"]),
        ("T-shirt", ["t", "shirt"]),
        ("1,000 men at 10:30, 2.5 m", ["1,000", "men", "at", "10:30", "2.5", "m"]),
        ("the 1990s.", ["the", "1990s"]),
        ("'quoted'", ["quoted"]),
        ("snake_case", ["snake", "case"]),
        ("café", ["café"]),
        ("juice 🍊", ["juice", "🍊"]),
        ("ORANGE\tJUICE\n", ["orange", "juice"]),
        ("<b>bold</b>", ["b", "bold", "b"]),
        ("... ?!", []),
        ("", []),
    ],
)
def test_tokens_are_in_the_form_that_glove_lists(text: str, tokens: list[str]) -> None:
    assert tokenize(text) == tokens


@given(st.text())
def test_any_text_has_tokens_without_space_or_capitals(text: str) -> None:
    for token in tokenize(text):
        assert token == token.strip() != ""
        assert token == token.lower()


def test_idf_by_hand() -> None:
    idf = fit_idf(CORPUS)
    assert idf.document_count == 4
    assert idf.weight("cat") == pytest.approx(math.log(5 / 1.5))
    assert idf.weight("a") == pytest.approx(math.log(5 / 3.5))  # twice in one caption counts once
    assert idf.weight("truck") == pytest.approx(math.log(5 / 0.5))


def test_a_word_absent_from_the_corpus_has_the_largest_idf_and_every_idf_is_positive() -> None:
    idf = fit_idf(["a dog", "a cat"])
    assert idf.weight("zebra") > max(idf.weights.values())
    assert min(idf.weights.values()) > 0


def test_se_text_by_hand() -> None:
    encoder = TextEncoder(two_word_vectors(), fit_idf(["dog", "dog", "cat"]))
    dog, cat = 3 * math.log(4 / 2.5), math.log(4 / 1.5)
    expected = np.array([dog, cat]) / math.hypot(dog, cat)
    np.testing.assert_allclose(encoder.se_text("Dog, cat"), expected, rtol=1e-6)


def test_se_text_agrees_with_gensim(glove: KeyedVectors) -> None:
    idf = fit_idf(CORPUS)
    words = tokenize("a glass of orange juice")
    oracle = glove.get_mean_vector(
        words,
        weights=[idf.weight(word) for word in words],
        pre_normalize=False,
        post_normalize=True,
    )
    encoder = TextEncoder(glove, idf)
    np.testing.assert_allclose(encoder.se_text("A glass of orange juice"), oracle, atol=1e-6)


def test_embed_gives_the_rows_of_se_text_and_zeros_for_the_unknown(glove: KeyedVectors) -> None:
    encoder = TextEncoder(glove, fit_idf(CORPUS))
    rows = encoder.embed(["orange juice", "qqqzzz", "a dog"])
    assert rows.dtype == np.float32
    assert rows.shape == (3, 50)
    np.testing.assert_allclose(rows[0], encoder.se_text("orange juice"), atol=1e-6)
    assert not rows[1].any()
    np.testing.assert_allclose(np.linalg.norm(rows[2]), 1, rtol=1e-6)
    assert encoder.embed([]).shape == (0, 50)


def test_the_common_direction_is_taken_out(glove: KeyedVectors) -> None:
    u = np.zeros(50, np.float32)
    u[7] = 1
    encoder = TextEncoder(glove, fit_idf(CORPUS), common_direction=u)
    embedding = encoder.se_text("orange juice")
    assert abs(embedding @ u) < 1e-6
    summed = encoder.word_embeddings(["orange", "juice"]).sum(axis=0)
    np.testing.assert_allclose(embedding, summed / np.linalg.norm(summed), atol=1e-6)


def test_a_text_has_the_same_bits_in_every_batch(glove: KeyedVectors) -> None:
    u = np.random.default_rng(3).standard_normal(glove.vector_size).astype(np.float32)
    encoder = TextEncoder(glove, fit_idf(CORPUS), common_direction=u / np.linalg.norm(u))
    words = glove.index_to_key[500:564]
    alone = [encoder.se_text(word) for word in words]
    for size in (2, 3, 4, 7, 8, 16, 33, 64):
        np.testing.assert_array_equal(encoder.embed(words[:size]), alone[:size])


def test_unknown_words_are_reported(glove: KeyedVectors) -> None:
    encoder = TextEncoder(glove, fit_idf(CORPUS))
    assert unknown_words(encoder, "qqqzzz dog 🍊 qqqzzz") == ["qqqzzz", "🍊"]


@pytest.mark.parametrize(
    ("query", "says"), [("", "no word"), ("?!", "no word"), ("qqqzzz", "qqqzzz")]
)
def test_a_query_without_a_known_word_is_an_error(
    glove: KeyedVectors, query: str, says: str
) -> None:
    with pytest.raises(QueryError, match=says):
        TextEncoder(glove, fit_idf(CORPUS)).se_text(query)


def test_the_packaged_vectors_are_glove(glove: KeyedVectors) -> None:
    assert len(glove) == 400_000
    assert glove.similarity("orange", "juice") > glove.similarity("truck", "juice")


def test_the_digest_follows_words_and_values() -> None:
    vectors = two_word_vectors()
    same, other = two_word_vectors(), two_word_vectors()
    other.vectors[0, 0] = 2
    assert word_vectors_digest(vectors) == word_vectors_digest(same)
    assert word_vectors_digest(vectors) != word_vectors_digest(other)
