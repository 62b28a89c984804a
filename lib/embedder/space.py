"""A trained semantic space, text side and image side together, and the file that stores it."""

import hashlib
import io
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from gensim.models import KeyedVectors

from lib.embedder.model import Embedder
from lib.errors import BadInputError, MismatchError, MissingError
from lib.schemas import Provenance
from lib.storage import join, read_bytes, write_bytes_atomic
from lib.text.encoder import Idf, TextEncoder
from lib.text.word_vectors import load_word_vectors, word_vectors_digest

FORMAT_VERSION = 1


@dataclass(frozen=True)
class SemanticSpace:
    """What `DB/embedder/embedder.npz` holds, together with the word vectors it was trained on."""

    text: TextEncoder
    embedder: Embedder
    digest: str  # SHA-256 of the file, hexadecimal
    metadata: dict[str, Any]

    @property
    def provenance(self) -> Provenance:
        """What made the descriptors that the embedder takes."""
        return Provenance(**self.metadata["descriptors"])

    def se_text(self, text: str) -> np.ndarray:
        """Semantic embedding of a caption or query, (d,) float32 unit; see TextEncoder.se_text."""
        return self.text.se_text(text)

    def se_image(self, descriptors: np.ndarray) -> np.ndarray:
        """Semantic embeddings of descriptors, (N, d) float32 unit; see Embedder.se_image."""
        return self.embedder.se_image(descriptors)


def embedder_file(db: str) -> str:
    """Where a database keeps its embedder."""
    return join(db, "embedder", "embedder.npz")


def save_semantic_space(
    db: str, text: TextEncoder, embedder: Embedder, metadata: dict[str, Any]
) -> str:
    """Write the embedder of a database in one atomic write; returns its digest.

    `metadata` must hold "descriptors" (the fields of Provenance) and "word_vectors" (source,
    digest, dimension); what else it holds is kept for the reader.
    """
    words = list(text.idf.weights)
    common = text.common_direction
    arrays: dict[str, np.ndarray] = {
        "M": np.ascontiguousarray(embedder.matrix, np.float32),
        "b": np.asarray(embedder.bias, np.float32),
        "common_direction": np.zeros(text.dimension, np.float32)
        if common is None
        else common.astype(np.float32),
        "idf_words": np.frombuffer("\n".join(words).encode(), np.uint8),
        "idf_values": np.array([text.idf.weights[word] for word in words], np.float64),
        "metadata": np.frombuffer(
            json.dumps(
                {
                    "format_version": FORMAT_VERSION,
                    "idf_document_count": text.idf.document_count,
                    **metadata,
                },
                sort_keys=True,
            ).encode(),
            np.uint8,
        ),
    }
    sink = io.BytesIO()
    np.savez(sink, allow_pickle=False, **arrays)
    write_bytes_atomic(embedder_file(db), sink.getbuffer())
    return hashlib.sha256(sink.getbuffer()).hexdigest()


def load_semantic_space(db: str, word_vectors: str | KeyedVectors | None = None) -> SemanticSpace:
    """The trained semantic space of a database.

    word_vectors: a file or vectors already loaded; None takes the source that training recorded.
    Raises MissingError before training, BadInputError where the file is damaged, MismatchError
    where the word vectors are not those that the embedder was trained with.
    """
    url = embedder_file(db)
    try:
        content = read_bytes(url)
    except MissingError as error:
        raise MissingError(f"{url} is not there; run jobs.train_embedder first") from error
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        metadata = json.loads(arrays["metadata"].tobytes())
        words = (
            arrays["idf_words"].tobytes().decode().split("\n") if len(arrays["idf_words"]) else []
        )
        weights = dict(zip(words, arrays["idf_values"].tolist(), strict=True))
        idf = Idf(weights, metadata["idf_document_count"])
        embedder = Embedder.from_arrays(arrays["M"], arrays["b"])
        common, recorded = arrays["common_direction"], metadata["word_vectors"]
        version = metadata["format_version"]
    except Exception as error:
        raise BadInputError(
            f"{url} is damaged ({error!r}); write it anew with jobs.train_embedder"
        ) from error
    if version != FORMAT_VERSION:
        raise MismatchError(
            f"{url} has format version {version} and this program reads {FORMAT_VERSION}; "
            "run jobs.train_embedder again"
        )
    if word_vectors is None or isinstance(word_vectors, str):
        vectors = load_word_vectors(word_vectors or recorded["source"])
    else:
        vectors = word_vectors
    _require_word_vectors(url, vectors, word_vectors, recorded)
    encoder = TextEncoder(vectors, idf, common if common.any() else None)
    return SemanticSpace(encoder, embedder, hashlib.sha256(content).hexdigest(), metadata)


def _require_word_vectors(
    url: str, vectors: KeyedVectors, given: str | KeyedVectors | None, recorded: dict[str, Any]
) -> None:
    name = (
        given if isinstance(given, str) else recorded["source"] if given is None else "those given"
    )
    remedy = (
        f"Name the word vectors of training with --word-vectors ({recorded['source']}), or train "
        "for the new ones with jobs.train_embedder --word-vectors FILE"
    )
    if vectors.vector_size != recorded["dimension"]:
        raise MismatchError(
            f"the embedder {url} and the word vectors {name} disagree: it was trained with "
            f"{recorded['dimension']} dimensions, they have {vectors.vector_size}. {remedy}"
        )
    digest = word_vectors_digest(vectors)
    if digest != recorded["digest"]:
        raise MismatchError(
            f"the embedder {url} and the word vectors {name} disagree: it was trained with other "
            f"values (SHA-256 {recorded['digest'][:12]}…, these have {digest[:12]}…). {remedy}"
        )
