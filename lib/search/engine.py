"""Answers searches over one version of a database, for the service and the jobs."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from lib.database.interface import Collection, Filter, Image
from lib.database.opening import open_database
from lib.datasets.captions import load_captions
from lib.embedder.space import SemanticSpace, load_semantic_space
from lib.errors import ImageSearchError, MismatchError, QueryError
from lib.schemas import require_same
from lib.text.query import QueryEmbedding, embed_queries, embed_query

_IMAGE_PART = "the image"


@dataclass(frozen=True)
class Request:
    """One search: text, an image, or both, and how many images are wanted.

    `text_weight` says how much the text counts beside the image, from 0 to 1.
    """

    text: str = ""
    k: int = 10
    like: str | None = None  # id of an image of the database
    image: np.ndarray | None = field(default=None, compare=False)  # (d,) unit: any other image
    text_weight: float = 0.5
    filter: Filter | None = None


@dataclass(frozen=True)
class SearchResult:
    """What a request found: images, best first, with their cosines; words nobody knows."""

    images: list[Image]  # at most k
    scores: list[float]
    unknown_words: list[str]
    seconds: float  # that the batch took in which it was searched
    searcher: "Searcher"


class Searcher:
    """A database, its semantic space and the captions known of its images, ready to answer."""

    def __init__(
        self,
        collection: Collection,
        space: SemanticSpace,
        captions: Mapping[str, Sequence[str]],
    ) -> None:
        self.collection = collection
        self.space = space
        self.captions = captions

    @classmethod
    def load(
        cls,
        db: str,
        captions: str | None = None,
        word_vectors: str | None = None,
        previous: "Searcher | None" = None,
        open_collection: Callable[[str], Collection] = open_database,
    ) -> "Searcher":
        """Load what a database's manifest names now, into this process unless told otherwise.

        `previous` lends its word vectors where they are the ones wanted. Raises MissingError before
        the jobs that make the database have run, and MismatchError where the embeddings come from
        another embedder than the one that lies beside them.
        """
        collection = open_collection(db)
        space = _load_space(db, word_vectors, previous)
        require_same(
            "the embedder and the embeddings of the database",
            space.digest,
            collection.embedder_digest,
            "Run jobs.embed_database",
        )
        by_image = load_captions(captions).by_image() if captions else {}
        # Arrow keeps what reading took, some GB at ten million images, unless asked.
        pa.default_memory_pool().release_unused()
        return cls(collection, space, by_image)

    @property
    def model(self) -> str:
        """Backbone and start of the embedder's digest: what two comparable answers share."""
        return f"{self.space.provenance.backbone}-{self.space.digest[:12]}"

    @property
    def image_count(self) -> int:
        """Number of images that can be found."""
        return len(self.collection)

    @property
    def version(self) -> int:
        """Number of the database version, counted up by each change."""
        return self.collection.version

    def embed(self, request: Request) -> QueryEmbedding:
        """What a request looks for, with the part of each word and of the image in it.

        Text and image embeddings are added with their weights and normalised.
        Raises QueryError where nothing usable is given, UnknownImageError.
        """
        image = request.image
        if request.like is not None:
            image = self.collection.look_up(request.like)[1]
        if image is None:
            return embed_query(self.space.text, request.text)
        if not request.text.strip():
            return QueryEmbedding(image, [_IMAGE_PART], [1.0], image[None])
        text = embed_query(self.space.text, request.text)
        parts = np.concatenate(
            [text.parts * request.text_weight, image[None] * (1 - request.text_weight)]
        ).astype(np.float32)
        total = parts.sum(axis=0)
        norm = float(np.linalg.norm(total))
        if norm < 1e-6:
            raise QueryError("the text and the image cancel each other out; change one of them")
        words = [*text.words, _IMAGE_PART]
        weights = [weight * request.text_weight for weight in text.weights]
        weights.append(1 - request.text_weight)
        return QueryEmbedding(total / norm, words, weights, parts / norm, text.unknown_words)

    def answer(self, requests: Sequence[Request]) -> list[SearchResult | ImageSearchError]:
        """SearchResult requests together: one matrix product for all that share a filter.

        An unusable request gives the error that says why and does not stop the others.
        """
        start = time.perf_counter()
        embeddings, problems = self._embed_all(requests)
        answers: list[SearchResult | ImageSearchError | None] = list(problems)
        groups: dict[Filter | None, list[int]] = {}
        for position, request in enumerate(requests):
            if answers[position] is None:
                groups.setdefault(request.filter, []).append(position)
        for wanted, positions in groups.items():
            k = max(requests[position].k for position in positions)
            hits = self.collection.search_images(embeddings[positions], k, wanted)
            seconds = time.perf_counter() - start
            for query, position in enumerate(positions):
                request = requests[position]
                unknown = self.space.text.unknown_words(request.text) if request.text else []
                answers[position] = SearchResult(
                    hits.of(query)[: request.k],
                    hits.scores[query, : request.k].tolist(),
                    unknown,
                    seconds,
                    self,
                )
        return [answer for answer in answers if answer is not None]

    def _embed_all(
        self, requests: Sequence[Request]
    ) -> tuple[np.ndarray, list[ImageSearchError | None]]:
        plain = [r for r, request in enumerate(requests) if _is_text_only(request)]
        problems: list[ImageSearchError | None] = [None] * len(requests)
        embeddings = np.zeros((len(requests), self.space.text.dimension), np.float32)
        embedded, found = embed_queries(self.space.text, [requests[r].text for r in plain])
        for r, embedding, problem in zip(plain, embedded, found, strict=True):
            embeddings[r], problems[r] = embedding, problem
        for r in set(range(len(requests))) - set(plain):
            try:
                embeddings[r] = self.embed(requests[r]).embedding
            except ImageSearchError as error:
                problems[r] = error
        return embeddings, problems


def _is_text_only(request: Request) -> bool:
    return request.like is None and request.image is None


def _load_space(db: str, word_vectors: str | None, previous: Searcher | None) -> SemanticSpace:
    if previous is not None:
        with suppress(MismatchError):
            return load_semantic_space(db, previous.space.text.vectors)
    return load_semantic_space(db, word_vectors)
