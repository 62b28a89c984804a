"""Words that say something of a collection: what to ask it first."""

import numpy as np
from gensim.parsing.preprocessing import STOPWORDS

from lib.text.encoder import TextEncoder

_COMMON = 2_000  # of the words that captions use, so many are tried
_SAY_NOTHING = STOPWORDS - {"computer", "fire"}  # which gensim has among them
_APART = 0.7  # cosine from which two words ask for the same


def words_of_images(text: TextEncoder, images: np.ndarray, count: int) -> list[str]:
    """The words that are the best of the most images, no two of them alike; at most `count`.

    images: (N, d) float32 unit embeddings. A word's score for an image is taken less its mean over
    all images, so that words near to every image say nothing.
    """
    common = sorted(text.idf.weights, key=lambda word: (text.idf.weights[word], word))
    words = [
        word
        for word in common[:_COMMON]
        if word[0].isalpha() and len(word) > 2 and word not in _SAY_NOTHING
    ]
    if not words:
        return []
    vectors = text.embed(words)
    scores = images @ vectors.T
    best = (scores - scores.mean(axis=0)).argmax(axis=1) if len(images) > 1 else scores.argmax(1)
    wins = np.bincount(best, minlength=len(words))
    chosen: list[int] = []
    for word in np.argsort(-wins, kind="stable"):
        if len(chosen) == count or not wins[word]:
            break
        if not chosen or (vectors[chosen] @ vectors[word]).max() < _APART:
            chosen.append(int(word))
    return [words[word] for word in chosen]
