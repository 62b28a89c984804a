"""Semantic image search: descriptors, the text-to-image embedding space, and exact search."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lib.search.engine import Searcher


def open_search(
    db: str,
    captions: str | None = None,
    word_vectors: str | None = None,
    weights: str | None = None,
) -> "Searcher":
    """A database ready to be searched: `search = open_search("my.db"); search("dog -cat", k=5)`.

    captions: a file of them, to be shown. word_vectors: those of training unless given. weights: a
    file with the backbone's, for images from outside where they cannot be fetched. See `Searcher`.
    """
    from lib.search.engine import Searcher  # only now: it brings torch

    return Searcher.load(db, captions, word_vectors, weights=weights)
