import math

import pytest

from lib.text.spelling import Spelling
from lib.text.word_vectors import load_word_vectors

CAPTIONS = {"dog": 900.0, "train": 900.0, "giraffe": 60.0, "motorcycle": 500.0, "motorcyle": 2.0}


@pytest.fixture(scope="module")
def spelling() -> Spelling:
    return Spelling(load_word_vectors().index_to_key, CAPTIONS)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("bycicle", "bicycle"),  # sounds alike
        ("elefant", "elephant"),  # and has a vector of its own
        ("childern", "children"),  # neighbours swapped
        ("girafe", "giraffe"),  # a letter left out; captions know it
        ("umberella", "umbrella"),  # one too many
        ("hydrent", None),  # too rare to be sure of, unless captions say it
        ("trian", "train"),  # nearer in captions than "trial" in newspapers
        ("motorcyle", "motorcycle"),  # captions misspell, too, but rarely
        ("dog", None),
        ("the", None),
        ("lighthouse", None),  # rare, and right
        ("qxzvwpk", None),
        ("1990s", None),
    ],
)
def test_what_was_meant(spelling: Spelling, written: str, meant: str | None) -> None:
    assert spelling.suggest(written) == meant


def test_only_the_word_is_replaced(spelling: Spelling) -> None:
    text = 'red Bycicle^2 -"bycicle bell" bycicles'
    corrected = spelling.correct(text, ["red", "bycicle", "bell"])
    assert corrected == 'red bicycle^2 -"bicycle bell" bycicles'
    assert spelling.correct("red bicycle", ["red", "bicycle"]) is None


def test_known_words_are_compared_with_all_that_could_be_meant(spelling: Spelling) -> None:
    """Those that are left out, since they cost more than the word itself, change nothing."""
    known = [word for word in spelling._choices if len(word) > 2][::400]
    expected = []
    for word in known:
        cheap, spelling._costs = spelling._costs, [-math.inf] * len(spelling._costs)
        expected.append(spelling._suggest(word))
        spelling._costs = cheap
    assert [spelling._suggest(word) for word in known] == expected
