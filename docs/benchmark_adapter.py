"""A trained database as the object that a course's benchmark drives."""

from collections.abc import Sequence
from typing import Generic, TypeVar

import numpy as np
from gensim.models import KeyedVectors

from lib.embedder.space import load_semantic_space
from lib.errors import BadInputError, MissingError
from lib.topk.exact import top_k

ImageId = TypeVar("ImageId")


class BenchmarkAdapter(Generic[ImageId]):
    """Embeds captions and descriptors with a database's embedder, and searches among them.

    Image ids are given back as they came (numbers stay numbers). D is the dimension of the
    semantic space.
    """

    def __init__(self, db: str, word_vectors: str | KeyedVectors | None = None) -> None:
        self.space = load_semantic_space(db, word_vectors)
        self._image_ids: list[ImageId] = []
        self._embeddings = np.empty((0, self.space.text.dimension), np.float32)

    def embed_text(self, captions: Sequence[str]) -> np.ndarray:
        """(N, D) float32 unit rows of N captions; zeros for a caption without a known word."""
        return self.space.text.embed(captions)

    def embed_images(self, descriptors: np.ndarray) -> np.ndarray:
        """(M, D) float32 unit rows of descriptors of shape (M, size) or (M, 1, size).

        Raises BadInputError where they are not as long as those that the embedder was trained on.
        """
        rows = np.asarray(descriptors, np.float32)
        if rows.ndim == 3 and rows.shape[1] == 1:
            rows = rows[:, 0]
        size = self.space.provenance.descriptor_size
        if rows.ndim != 2 or rows.shape[1] != size:
            raise BadInputError(
                f"descriptors have the shape {rows.shape}; this embedder takes (M, {size})"
            )
        return self.space.se_image(rows)

    def prepare_database(self, image_ids: Sequence[ImageId], descriptors: np.ndarray) -> None:
        """Embed the images that `search` then looks among, in place of earlier ones."""
        if len(image_ids) != len(descriptors):
            raise BadInputError(f"{len(image_ids)} ids and {len(descriptors)} descriptors")
        self._embeddings = self.embed_images(descriptors)
        self._image_ids = list(image_ids)

    def search(self, query: str, k: int) -> list[ImageId]:
        """Ids of the k images most similar to a query, best first.

        Raises QueryError where no word of the query is known, MissingError before
        `prepare_database`.
        """
        if not self._image_ids:
            raise MissingError("there are no images to search; call prepare_database first")
        rows, _ = top_k(self.space.text.se_text(query)[None], self._embeddings, k)
        return [self._image_ids[row] for row in rows[0]]
