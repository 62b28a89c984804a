import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import QueryError
from lib.text.encoder import TextEncoder, fit_idf, tokenize
from lib.text.query import (
    NEGATIVE_SHARE,
    QuerySyntaxError,
    Term,
    embed_queries,
    embed_query,
    is_plain,
    parse_query,
    plain_signs,
)
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
        *[(f"dog{sign}-cat", [Term(f"dog{sign}"), Term("cat", -1.0)]) for sign in ",;(["],
        (
            "a dog (–cat, ‑pig)",
            [Term("a"), Term("dog"), Term("("), Term("cat,", -1), Term("pig)", -1)],
        ),
        *[(f"dog^2{sign} cat", [Term("dog", 2.0), Term(sign), Term("cat")]) for sign in ",;:.!?)]"],
        ('("hot dog",cat^0.5).', [Term("("), Term("hot dog"), Term(",cat", 0.5), Term(").")]),
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
        ("dog^1.2.3", 7),
        ('"hot"-dog', 5),
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
        assert [word for term in terms for word in term.words] == tokenize(plain_signs(text))
        assert all(term.weight == 1 for term in terms)


@pytest.mark.parametrize("text", ["orange juice", "A dog's t-shirt, don't!", "dog dog cat qxzv"])
def test_a_plain_query_is_se_text(encoder: TextEncoder, text: str) -> None:
    query = embed_query(encoder, text)
    np.testing.assert_array_equal(query.embedding, encoder.se_text(text))
    np.testing.assert_array_equal(
        embed_queries(encoder, [text]).embeddings[0], encoder.se_text(text)
    )
    unknown = [word for word in tokenize(text) if not encoder.knows(word)]
    assert query.unknown_words == list(dict.fromkeys(unknown))
    np.testing.assert_allclose(query.parts.sum(axis=0), query.embedding, atol=1e-6)


def test_weights_are_the_arithmetic_they_look_like(encoder: TextEncoder) -> None:

    def v(word: str) -> np.ndarray:
        return encoder.word_embeddings([word])[0]

    positive, negative = v("beach") + v("sunset"), v("hot") + v("dog")
    expected = (positive + v("beach")) / np.linalg.norm(positive)
    expected -= NEGATIVE_SHARE * 0.5 * negative / np.linalg.norm(negative)
    query = embed_query(encoder, 'beach^2 sunset -"hot dog"^0.5')
    np.testing.assert_allclose(query.embedding, expected / np.linalg.norm(expected), atol=1e-6)
    assert query.words == ["beach", "sunset", "hot", "dog"]
    assert query.weights == [2, 1, -0.5, -0.5]
    image = np.random.default_rng(0).normal(size=50).astype(np.float32)
    image /= np.linalg.norm(image)
    assert (query.parts @ image).sum() == pytest.approx(query.embedding @ image, abs=1e-6)


def test_a_rare_word_with_a_minus_does_not_drown_the_others(encoder: TextEncoder) -> None:
    # "glass" is in one caption of three, "a" in all: one word each, they count as their signs say.
    query = embed_query(encoder, "a -glass")
    sides = encoder.embed(["a", "glass"])
    expected = sides[0] - NEGATIVE_SHARE * sides[1]
    np.testing.assert_allclose(query.length, np.linalg.norm(expected), rtol=1e-5)
    np.testing.assert_allclose(query.embedding, expected / np.linalg.norm(expected), atol=1e-6)


def test_a_weight_scales_its_side(encoder: TextEncoder) -> None:
    dog, cat = encoder.embed(["dog", "cat"])
    for text, sum_ in [
        ("dog^2 -cat", 2 * dog - NEGATIVE_SHARE * cat),
        ("dog -cat^3", dog - NEGATIVE_SHARE * 3 * cat),
        ("dog dog -cat", 2 * dog - NEGATIVE_SHARE * cat),
    ]:
        embedding = embed_query(encoder, text).embedding
        np.testing.assert_allclose(embedding, sum_ / np.linalg.norm(sum_), atol=1e-6)


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
        ("hot dog -hot -dog", "cancel"),
    ],
)
def test_an_unusable_query_is_refused(encoder: TextEncoder, text: str, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        embed_query(encoder, text)


def test_an_unusable_query_does_not_stop_the_others(encoder: TextEncoder) -> None:
    texts = ["dog", "qxzv", "cat -dog", 'say "cheese', "", "beach"]
    batch = embed_queries(encoder, texts)
    embeddings, problems = batch.embeddings, batch.problems
    assert batch.unknown_words == [[], ["qxzv"], [], [], [], []]
    assert [problem is not None for problem in problems] == [False, True, False, True, True, False]
    np.testing.assert_array_equal(embeddings[5], encoder.se_text("beach"))
    np.testing.assert_array_equal(embeddings[2], embed_query(encoder, "cat -dog").embedding)
    assert not embeddings[[1, 3, 4]].any()


DASHES = "‐‑‒–—―−﹘﹣－⁻➖˗⁃"


@pytest.mark.reports
@pytest.mark.parametrize(
    ("text", "same"),
    [
        *[(f"dog {dash}beach", "dog -beach") for dash in DASHES],
        *[(f"dog {dash} beach", "dog - beach") for dash in DASHES],
        *[(f"t{dash}shirt", "t-shirt") for dash in DASHES],
        *[(f"dog{space}-beach", "dog -beach") for space in "\u00a0\u2009\u202f\u3000\t"],
        ("beach＾2", "beach^2"),
        ("beach＾２．５", "beach^2.5"),
        ("beach^1,5", "beach^1.5"),
        ("beachˆ2", "beach^2"),
        ("beach² dog", "beach^2 dog"),
        ("－dog＾０.5", "-dog^0.5"),
        *[
            (f"{pair[0]}hot dog{pair[1]}^2", '"hot dog"^2')
            for pair in ["“”", "„“", "«»", "»«", "‹›", "″″", "＂＂", "〝〞"]
        ],
        ("« hot dog »", '" hot dog "'),
        ("ｄｏｇ －ｃａｔ", "dog -cat"),
        ("\ufeffdog \u200e-cat\u200f", "dog -cat"),
        ("sun\u00adset", "sunset"),
        (r"＼−dog", r"\-dog"),
        ("dog’s", "dog's"),
        ("dog´s", "dog's"),
    ],
)
def test_signs_of_phones_and_word_processors(text: str, same: str) -> None:
    assert parse_query(text) == parse_query(same)
    assert is_plain(text) == is_plain(same)
    if is_plain(text):
        assert tokenize(plain_signs(text)) == tokenize(same)


@pytest.mark.parametrize(
    ("text", "position"), [("\u200b\u200bdog ―–cat", 7), ("ﬁﬁ „cat", 3), ("é dog＾", 5)]
)
def test_an_error_says_where_in_what_was_written(text: str, position: int) -> None:
    with pytest.raises(QuerySyntaxError) as caught:
        parse_query(text)
    assert caught.value.position == position


def test_unknown_words_are_those_of_the_language(encoder: TextEncoder) -> None:
    query = embed_query(encoder, 'dog^1.333 -qxzv^2 "wvzq beach" qxzv')
    assert query.unknown_words == ["qxzv", "wvzq"]
    assert embed_queries(encoder, ["dog^1.333"]).unknown_words == [[]]


def test_words_that_captions_never_held_are_told_where_they_are_most(encoder: TextEncoder) -> None:
    texts = ["dog zebra", "zebra -giraffe dog", "zebra", "qxzv zebra dog"]
    expected = [[], ["zebra", "giraffe"], ["zebra"], ["zebra"]]
    assert embed_queries(encoder, texts).unseen_words == expected
    assert [embed_query(encoder, text).unseen_words for text in texts] == expected
