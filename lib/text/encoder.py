"""The text side: tokens, inverse document frequency, and the semantic embedding of a text."""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_matrix

from lib.errors import QueryError

if TYPE_CHECKING:  # gensim brings scipy.stats along, a second that not every process needs
    from gensim.models import KeyedVectors

# In this order: numbers with inner marks (1,000  2.5  10:30  1990s), the clitics that the Penn
# Treebank splits off (n't  's  're), words, and symbols such as emoji, which are words nobody
# knows. Everything else (spaces, punctuation, currency and mathematical signs) parts tokens.
_TOKEN = re.compile(
    r"\d+(?:[.,:]\d+)*[^\W_]*"
    r"|(?<=\w)'(?:s|re|ve|ll|d|m)\b"
    r"|n't\b"
    r"|[^\W_]+?(?=n't\b)"
    r"|[^\W_]+"
    r"|[\u2190-\u2bff\U0001f000-\U0001faff]"
)


def tokenize(text: str) -> list[str]:
    """Words of a caption or a query, in the form in which GloVe lists them.

    Lower case; Unicode in compatibility form (NFKC), typographic apostrophes made plain.
    Punctuation is dropped and hyphens part words (`t-shirt` → `t`, `shirt`). A possessive or
    contracted ending is a word of its own as in the Penn Treebank and GloVe (`dog's` → `dog`,
    `'s`; `don't` → `do`, `n't`). Numbers stay whole (`1,000`, `2.5`, `10:30`). A symbol such as an
    emoji is one word, so that it is reported as unknown, not lost.
    """
    plain = (
        unicodedata.normalize("NFKC", text).lower().replace("\u2019", "'").replace("\u02bc", "'")
    )
    return _TOKEN.findall(plain)


@dataclass(frozen=True)
class Idf:
    """Inverse document frequency of words over a caption corpus (see `fit_idf`).

    A word's weight is its IDF to a `power`: at 1 the measure itself; below, common words keep more
    of their say ("a dog in the snow": dog is the commoner word, and no less what is meant).
    """

    weights: Mapping[str, float]  # to the power of 1
    document_count: float
    power: float = 1.0

    def weight(self, word: str) -> float:
        """Weight of a word; one that the corpus does not hold gets the largest possible."""
        idf = self.weights.get(word)
        if idf is None:
            idf = inverse_frequency(self.document_count, 0)
        return float(idf**self.power)

    def document_frequencies(self) -> dict[str, float]:
        """How many captions hold each word: `inverse_frequency` undone."""
        count = self.document_count + 1
        return {word: count / math.exp(idf) - 0.5 for word, idf in self.weights.items()}


def inverse_frequency(document_count: float, document_frequency: float) -> float:
    """ln((N + 1) / (n + 0.5)); see `fit_idf`."""
    return math.log((document_count + 1) / (document_frequency + 0.5))


def count_documents(captions: Iterable[str]) -> Counter[str]:
    """How many captions hold each word."""
    return Counter(word for caption in captions for word in sorted(set(tokenize(caption))))


def fit_idf(captions: Sequence[str]) -> Idf:
    """Inverse document frequency of every word over `captions`, each one a document.

    idf(w) = ln((N + 1) / (n(w) + 0.5)) for N captions of which n(w) hold w: Spärck Jones's measure
    (Journal of Documentation 28, 1972) with Robertson's half-count smoothing, so that it is above
    zero even for a word of every caption and finite, the largest, for a word of none.
    """
    count = len(captions)
    counts = count_documents(captions)
    return Idf({word: inverse_frequency(count, n) for word, n in counts.items()}, count)


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """(N, d) vectors scaled to length 1; zeros stay zeros."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)


class TextEncoder:
    """Embeds texts: the sum of their words' vectors, each weighted by its IDF, normalised.

    With a `common_direction` u (unit vector, shape (d,)), its part is taken out of every word:
    v ← v - (v·u)u. What stays is linear in the words, so that a word's share of a cosine is exact.
    The idea is 'all-but-the-top' (Mu and Viswanath, ICLR 2018) with one direction.
    """

    def __init__(
        self, vectors: "KeyedVectors", idf: Idf, common_direction: np.ndarray | None = None
    ) -> None:
        self.vectors = vectors
        self.idf = idf
        self.common_direction = common_direction

    @property
    def dimension(self) -> int:
        """Length d of an embedding."""
        return int(self.vectors.vector_size)

    def knows(self, word: str) -> bool:
        """Whether the word has a vector."""
        return word in self.vectors.key_to_index

    def word_embeddings(self, words: Sequence[str]) -> np.ndarray:
        """Weighted vectors idf(w)·v(w) of W words, not normalised; (W, d) float32.

        An unknown word has a row of zeros.
        """
        places = np.array([self.vectors.key_to_index.get(word, -1) for word in words], np.int64)
        used, positions = np.unique(places, return_inverse=True)
        rows = np.asarray(self.vectors.vectors[used], np.float32)[positions]
        weights = np.array([self.idf.weight(word) for word in words], np.float32)
        return self._without_common(rows * np.where(places < 0, 0, weights)[:, None])

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """(N, d) float32 unit embeddings of N texts; a row of zeros where no word is known."""
        indptr, columns, weights = [0], [], []
        for text in texts:
            for word in tokenize(text):
                column = self.vectors.key_to_index.get(word)
                if column is not None:
                    columns.append(column)
                    weights.append(self.idf.weight(word))
            indptr.append(len(columns))
        used, positions = np.unique(np.asarray(columns, np.int64), return_inverse=True)
        counts = csr_matrix(
            (np.asarray(weights, np.float32), positions, indptr), shape=(len(texts), len(used))
        )
        sums = np.asarray(counts @ np.asarray(self.vectors.vectors[used], np.float32))
        return unit_rows(self._without_common(sums.reshape(len(texts), self.dimension)))

    def se_text(self, text: str) -> np.ndarray:
        """Semantic embedding of a caption or query; (d,) float32 of unit length.

        Raises QueryError when the text has no word, or none that is known.
        """
        words = tokenize(text)
        if not words:
            raise QueryError(
                "the query has no word in it; give at least one, such as: orange juice"
            )
        if not any(self.knows(word) for word in words):
            raise QueryError(
                f"no word of the query is known: {', '.join(dict.fromkeys(words))}. "
                "Use English words that the word vectors list"
            )
        return self.embed([text])[0]

    def _without_common(self, vectors: np.ndarray) -> np.ndarray:
        if self.common_direction is None:
            return vectors
        u = self.common_direction.astype(np.float32)
        # Not vectors @ u: BLAS sums in an order that depends on the number of rows, and then a text
        # would have other bits in a batch than alone.
        return vectors - (vectors * u).sum(axis=-1, keepdims=True) * u
