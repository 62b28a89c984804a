"""What a misspelt word was probably meant to be."""

import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from rapidfuzz import process
from rapidfuzz.distance import OSA

# Beyond the most frequent words, files of word vectors list many misspellings.
VOCABULARY = 60_000
SOUND_VOCABULARY = 120_000
COMMON = 10_000  # the most frequent words stand as they are
_EDIT_COST = 6.0  # of one edit, in units of log(frequency)
_SOUND_COST = 4.0  # of all letters that only sound alike
_SOUNDS = re.compile(r"(ph)|(gh)|(ck)|(.)(?=\4)")
_SOUND = ("f", "g", "k", "")
_ALIKE = str.maketrans("ycz", "iks")


class Spelling:
    """Suggests words for those that nobody knows, by a noisy channel (Kernighan et al., 1990).

    A word costs the logarithm of its rank by frequency, less that of the captions that hold it,
    more for each edit (insertion, deletion, substitution, neighbours swapped) that makes it of what
    was written.
    """

    def __init__(self, words: Sequence[str], captions: Mapping[str, float]) -> None:
        """`words`: the vocabulary, most frequent first; `captions`: how many hold a word."""
        self._captions = captions
        self._ranks: dict[str, int] = {}
        self._by_sound: dict[str, list[str]] = {}
        for rank, word in enumerate(words):
            if (rank < SOUND_VOCABULARY or word in captions) and len(word) > 2 and word.isalpha():
                self._ranks[word] = rank
                self._by_sound.setdefault(_sound(word), []).append(word)
        frequent = (w for w, rank in self._ranks.items() if rank < VOCABULARY or w in captions)
        self._choices = sorted(frequent, key=self._cost)
        self._costs = [self._cost(word) for word in self._choices]
        self.suggest = lru_cache(4096)(self._suggest)

    def correct(self, text: str, words: Iterable[str]) -> str | None:
        """A text with what was probably meant in place of these words of it; None if they stand."""
        corrected = text
        for word in words:
            if (meant := self.suggest(word)) is not None:
                written = rf"(?<!\w){re.escape(word)}(?!\w)"
                corrected = re.sub(written, meant, corrected, flags=re.IGNORECASE)
        return corrected if corrected != text else None

    def _suggest(self, word: str) -> str | None:
        """The word that was probably meant; None where this one stands as it is."""
        if len(word) < 3 or not word.isalpha() or self._ranks.get(word, COMMON) < COMMON:
            return None
        own_cost = self._cost(word) if word in self._ranks else math.inf
        # What costs more than this is dearer after one edit than the word as it stands, and most
        # words that come here are known, but seldom.
        cheap = self._choices[: bisect_right(self._costs, own_cost - _EDIT_COST)]
        edits = process.extract(
            word,
            cheap,
            scorer=OSA.distance,
            score_cutoff=1 if len(word) < 5 else 2,
            limit=None,
        )
        costs = {choice: self._cost(choice) + _EDIT_COST * count for choice, count, _ in edits}
        for choice in self._by_sound.get(_sound(word), ()):
            costs[choice] = min(costs.get(choice, math.inf), self._cost(choice) + _SOUND_COST)
        costs[word] = own_cost
        best = min(costs, key=lambda choice: (costs[choice], choice))
        return best if best != word else None

    def _cost(self, word: str) -> float:
        return math.log(self._ranks[word] + 10) - math.log1p(self._captions.get(word, 0.0))


def _sound(word: str) -> str:
    """What words that sound alike have in common, roughly: written once, and with one letter."""
    return _SOUNDS.sub(lambda match: _SOUND[(match.lastindex or 1) - 1], word).translate(_ALIKE)
