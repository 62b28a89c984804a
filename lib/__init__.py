"""Semantic image search: descriptors, the text-to-image embedding space, and exact search."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lib.search.engine import Searcher


def open_search(
    db: str | os.PathLike[str],
    captions: str | os.PathLike[str] | None = None,
    word_vectors: str | os.PathLike[str] | None = None,
    weights: str | os.PathLike[str] | None = None,
) -> "Searcher":
    """A database ready to be searched: `search = open_search("my.db"); search("dog -cat", k=5)`.

    captions: a file of them, to be shown. word_vectors: those of training unless given. weights: a
    file with the backbone's, for images from outside where they cannot be fetched. See `Searcher`.
    """
    from lib.search.engine import Searcher  # only now: it brings torch

    given = (captions, word_vectors, weights)
    captions, word_vectors, weights = (None if f is None else os.fspath(f) for f in given)
    return Searcher.load(os.fspath(db), captions, word_vectors, weights=weights)
