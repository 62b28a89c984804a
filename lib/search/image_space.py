"""Image queries where there is no embedder yet: descriptors stand for their images."""

from typing import Any

import numpy as np
import pyarrow as pa

from lib.database.local import COLUMNS, LocalCollection
from lib.database.ordering import in_natural_order
from lib.database.tombstones import with_digest
from lib.descriptors.store import index_descriptors, read_descriptors
from lib.embedder.model import Embedder
from lib.embedder.space import SemanticSpace
from lib.errors import QueryError
from lib.parquet import read_schema, read_table
from lib.text.encoder import Idf, TextEncoder

_DIGEST = "none"


class NoTexts(TextEncoder):
    """The text side of a database without embedder: every text is refused, saying why."""

    def __init__(self, db: str, dimension: int) -> None:
        from gensim.models import KeyedVectors

        super().__init__(KeyedVectors(dimension), Idf({}, 0))
        self._db = db

    def se_text(self, text: str) -> np.ndarray:
        """Raises QueryError."""
        raise QueryError(
            f"{self._db} has no embedder, so texts cannot be searched, only images like another: "
            "run jobs.train_embedder and jobs.embed_database for the rest"
        )


def open_descriptors(db: str) -> tuple[LocalCollection, SemanticSpace]:
    """A collection whose embeddings are its descriptors, less their mean and normalised, in memory.

    What all images share says nothing of any one, so it is taken out; the image side is linear as
    ever (M the identity, b the mean's opposite), and explanations by place stay exact.
    Raises MissingError where there are no descriptors, MismatchError for two origins.
    """
    index = index_descriptors(db)
    descriptors = read_descriptors(index.files, np.arange(len(index)))
    size = descriptors.shape[1]
    mean = descriptors.mean(axis=0, dtype=np.float64).astype(np.float32)
    embedder = Embedder(np.eye(size, dtype=np.float32), -mean)
    images, order = in_natural_order([_read_images(file) for file in index.files])
    embeddings = embedder.se_image(descriptors)[order]
    metadata: dict[str, Any] = {
        "descriptors": vars(index.provenance),
        "word_vectors": {"source": "none"},
    }
    return (
        LocalCollection(0, _DIGEST, images, embeddings),
        SemanticSpace(NoTexts(db, size), embedder, _DIGEST, metadata),
    )


def _read_images(file: str) -> pa.Table:
    names = read_schema(file).names  # an older program's file lacks the digest
    return with_digest(read_table(file, [n for n in COLUMNS if n in names])).select(COLUMNS)
