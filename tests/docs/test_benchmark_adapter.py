"""The adapter answers as a benchmark asks, with the embedder of a trained database."""

from pathlib import Path

import numpy as np
import pytest
from gensim.models import KeyedVectors

from docs.benchmark_adapter import BenchmarkAdapter
from lib.embedder.model import Embedder
from lib.embedder.space import save_semantic_space
from lib.errors import BadArgumentError, BadInputError, MissingError, QueryError
from lib.schemas import Provenance
from lib.text.encoder import TextEncoder, fit_idf
from lib.text.word_vectors import word_vectors_digest

WORDS = ["dog", "cat", "boat"]


@pytest.fixture
def adapter(tmp_path: Path) -> BenchmarkAdapter[int]:
    """Descriptors of size 4 whose first three values are the words' own directions."""
    vectors = KeyedVectors(3)
    vectors.add_vectors(WORDS, np.eye(3, dtype=np.float32))
    vectors.save(str(tmp_path / "vectors.kv"))
    text = TextEncoder(vectors, fit_idf(["a dog", "a cat", "a boat"]))
    embedder = Embedder(np.eye(4, 3, dtype=np.float32), np.zeros(3, np.float32))
    origin = Provenance("imported", "x", "x", "float32", 4)
    source = str(tmp_path / "vectors.kv")
    metadata = {
        "descriptors": vars(origin),
        "word_vectors": {
            "source": source,
            "digest": word_vectors_digest(vectors),
            "dimension": 3,
        },
    }
    save_semantic_space(str(tmp_path / "db"), text, embedder, metadata)
    return BenchmarkAdapter(str(tmp_path / "db"))


def test_it_embeds_and_searches(adapter: BenchmarkAdapter[int]) -> None:
    descriptors = np.array([[0, 0, 5, 1], [3, 0, 0, 9], [1, 2, 0, 0]], np.float32)
    embedded = adapter.embed_images(descriptors)
    assert embedded.shape == (3, 3)
    np.testing.assert_allclose(np.linalg.norm(embedded, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(embedded[2], np.array([1, 2, 0]) / np.sqrt(5), rtol=1e-6)
    np.testing.assert_array_equal(adapter.embed_images(descriptors[:, None]), embedded)
    np.testing.assert_array_equal(adapter.embed_text(["dog", "xyz"]), [[1, 0, 0], [0, 0, 0]])
    adapter.prepare_database([30, 10, 20], descriptors)
    assert adapter.search("a dog", 2) == [10, 20]
    assert adapter.search("boat", 9)[0] == 30
    assert len(adapter.search("cat", 9)) == 3


def test_what_cannot_work_is_refused(adapter: BenchmarkAdapter[int]) -> None:
    with pytest.raises(MissingError, match="prepare_database first"):
        adapter.search("dog", 1)
    with pytest.raises(BadInputError, match=r"\(2, 3\); this embedder takes \(M, 4\)"):
        adapter.embed_images(np.zeros((2, 3)))
    with pytest.raises(BadInputError, match="2 ids and 1 descriptors"):
        adapter.prepare_database([1, 2], np.zeros((1, 4)))
    adapter.prepare_database([1], np.ones((1, 4)))
    with pytest.raises(QueryError):
        adapter.search("xyz", 1)
    with pytest.raises(BadArgumentError):
        adapter.search("dog", 0)
