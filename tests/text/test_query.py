import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import QueryError
from lib.text.encoder import TextEncoder, fit_idf, tokenize
from lib.text.query import QuerySyntaxError, Term, embed_queries, embed_query, is_plain, parse_query
from lib.text.word_vectors import load_word_vectors


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    captions = ["a dog runs on the beach", "a person walks a dog", "a glass of orange juice"]
    direction = np.random.default_rng(1).normal(size=50)
    return TextEncoder(
        load_word_vectors(), fit_idf(captions), direction / np.linalg.norm(direction)
    )


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("two dogs", [Term("two"), Term("dogs")]),
        ("dog -person", [Term("dog"), Term("person", -1.0)]),
        ("beach^2 sunset", [Term("beach", 2.0), Term("sunset")]),
        ("-person^0.5", [Term("person", -0.5)]),
        ('"hot dog"^2 -"fast food"', [Term("hot dog", 2.0), Term("fast food", -1.0)]),
        ("“hot dog”", [Term("hot dog")]),
        ("t-shirt", [Term("t-shirt")]),
        ("dog - park", [Term("dog"), Term("park")]),
        (r"\-dog 5\" a\^2 \\", [Term("-dog"), Term('5"'), Term("a^2"), Term("\\")]),
        (r'"a \"b\" ^ -c"', [Term('a "b" ^ -c')]),
        ('""', [Term("")]),
        ("  \t\n ", []),
        ("", []),
    ],
)
def test_parse(text: str, terms: list[Term]) -> None:
    assert parse_query(text) == terms


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ('dog "cat', 4),
        ('a 5" nail', 3),
        ('dog"', 3),
        ("^2 dog", 0),
        ("dog -^2", 5),
        ("dog^", 3),
        ("dog^x", 3),
        ("dog^-1", 3),
        ("dog^0", 4),
        ("dog^101", 4),
        ("dog^2cat", 5),
        ('"hot"dog', 5),
        ("a --dog", 3),
        ("dog\\", 3),
        ('"dog\\', 0),
    ],
)
def test_an_error_says_where(text: str, position: int) -> None:
    with pytest.raises(QuerySyntaxError) as caught:
        parse_query(text)
    assert caught.value.position == position
    assert f"at character {position + 1}" in str(caught.value)


@given(st.text())
def test_any_text_parses_or_says_where(text: str) -> None:
    position, terms = 0, []
    try:
        terms = parse_query(text)
    except QuerySyntaxError as error:
        position = error.position
    assert 0 <= position <= len(text)
    if is_plain(text):
        assert [word for term in terms for word in term.words] == tokenize(text)
        assert all(term.weight == 1 for term in terms)


@pytest.mark.parametrize("text", ["orange juice", "A dog's t-shirt, don't!", "dog dog cat qxzv"])
def test_a_plain_query_is_se_text(encoder: TextEncoder, text: str) -> None:
    query = embed_query(encoder, text)
    np.testing.assert_array_equal(query.embedding, encoder.se_text(text))
    np.testing.assert_array_equal(embed_queries(encoder, [text])[0][0], encoder.se_text(text))
    assert query.unknown_words == encoder.unknown_words(text)
    np.testing.assert_allclose(query.parts.sum(axis=0), query.embedding, atol=1e-6)


def test_weights_are_the_arithmetic_they_look_like(encoder: TextEncoder) -> None:
    v = encoder.word_embedding
    expected = 2 * v("beach") + v("sunset") - 0.5 * (v("hot") + v("dog"))
    query = embed_query(encoder, 'beach^2 sunset -"hot dog"^0.5')
    np.testing.assert_allclose(query.embedding, expected / np.linalg.norm(expected), atol=1e-6)
    assert query.words == ["beach", "sunset", "hot", "dog"]
    assert query.weights == [2, 1, -0.5, -0.5]
    image = np.random.default_rng(0).normal(size=50).astype(np.float32)
    image /= np.linalg.norm(image)
    assert (query.parts @ image).sum() == pytest.approx(query.embedding @ image, abs=1e-6)


def test_a_negative_word_is_the_opposite_direction(encoder: TextEncoder) -> None:
    np.testing.assert_allclose(
        embed_query(encoder, "-dog").embedding, -encoder.se_text("dog"), atol=1e-6
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no word"),
        ("?!", "no word"),
        ('""', "no word"),
        ("qxzv wvzq", "qxzv, wvzq"),
        ('-qxzv "wvzq"', "qxzv, wvzq"),
        ("dog -dog", "cancel"),
    ],
)
def test_an_unusable_query_is_refused(encoder: TextEncoder, text: str, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        embed_query(encoder, text)


def test_an_unusable_query_does_not_stop_the_others(encoder: TextEncoder) -> None:
    texts = ["dog", "qxzv", "cat -dog", 'say "cheese', "", "beach"]
    embeddings, problems = embed_queries(encoder, texts)
    assert [problem is not None for problem in problems] == [False, True, False, True, True, False]
    np.testing.assert_array_equal(embeddings[5], encoder.se_text("beach"))
    np.testing.assert_array_equal(embeddings[2], embed_query(encoder, "cat -dog").embedding)
    assert not embeddings[[1, 3, 4]].any()
