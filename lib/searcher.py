"""Answers searches over one version of a database held in memory, for the service and the jobs."""

import functools
import operator
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from lib.captions import load_captions
from lib.database import Database, open_database, require_current
from lib.errors import ImageSearchError, MismatchError, QueryError
from lib.queries import QueryEmbedding, embed_queries, embed_query
from lib.semantic_space import SemanticSpace, load_semantic_space

Orientation = Literal["landscape", "portrait", "square"]
# Query embeddings (Q, d), k, allowed rows (N,) → rows (Q, m), scores (Q, m)
Search = Callable[[np.ndarray, int, np.ndarray | None], tuple[np.ndarray, np.ndarray]]
_IMAGE_PART = "the image"


class UnknownImageError(ImageSearchError):
    """An image id that the database does not hold."""


@dataclass(frozen=True)
class Filter:
    """Which images may be found; every condition that is given must hold."""

    image_ids: tuple[str, ...] | None = None
    path_prefix: str | None = None
    min_width: int | None = None  # pixels
    min_height: int | None = None
    orientation: Orientation | None = None

    def predicate(self) -> pc.Expression | None:
        """All conditions but `image_ids`, for `Database.where`; None where there are none."""
        path, width, height = pc.field("path"), pc.field("width"), pc.field("height")
        conditions = []
        if self.path_prefix is not None:
            conditions.append(pc.starts_with(path, self.path_prefix))
        if self.min_width is not None:
            conditions.append(width >= self.min_width)
        if self.min_height is not None:
            conditions.append(height >= self.min_height)
        if self.orientation is not None:
            sides = {"landscape": width > height, "portrait": width < height}
            conditions.append(sides.get(self.orientation, width == height))
        return functools.reduce(operator.and_, conditions) if conditions else None


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
class Image:
    """What is known of one image of the database."""

    image_id: str
    uri: str
    etag: str
    width: int  # pixels
    height: int

    @property
    def on_the_web(self) -> bool:
        """Whether a browser can open `uri` itself."""
        return self.uri.startswith(("http://", "https://"))


@dataclass(frozen=True)
class Found:
    """What a request found: rows of images, best first, with their cosines; words nobody knows."""

    rows: np.ndarray  # (n,) int64, n ≤ k
    scores: np.ndarray  # (n,) float32
    unknown_words: list[str]
    seconds: float  # that the batch took in which it was searched
    searcher: "Searcher"


class Searcher:
    """A database, its semantic space and the captions known of its images, ready to answer."""

    def __init__(
        self,
        database: Database,
        space: SemanticSpace,
        captions: Mapping[str, Sequence[str]],
        search: Search | None = None,
    ) -> None:
        """Without `search` the database is searched in this process; see `Database.search`."""
        self.database = database
        self._search = search or database.search
        self.space = space
        self.captions = captions
        self._mask = lru_cache(maxsize=16)(self._compute_mask)

    @classmethod
    def load(
        cls,
        db: str,
        captions: str | None = None,
        word_vectors: str | None = None,
        previous: "Searcher | None" = None,
    ) -> "Searcher":
        """Load what a database's manifest names now.

        `previous` lends its word vectors where they are the ones wanted. Raises MissingError before
        the jobs that make the database have run, and MismatchError where the embeddings come from
        another embedder than the one that lies beside them.
        """
        database = open_database(db)
        space = _load_space(db, word_vectors, previous)
        require_current(database, space)
        by_image = load_captions(captions).by_image() if captions else {}
        # Arrow keeps what reading took, some GB at ten million images, unless asked.
        pa.default_memory_pool().release_unused()
        return cls(database, space, by_image)

    @property
    def model(self) -> str:
        """Backbone and start of the embedder's digest: what two comparable answers share."""
        return f"{self.space.provenance.backbone}-{self.space.digest[:12]}"

    @property
    def image_count(self) -> int:
        """Number of images that can be found."""
        return len(self.database)

    @property
    def version(self) -> int:
        """Number of the database version, counted up by each change."""
        return self.database.version

    @cached_property
    def _id_index(self) -> tuple[np.ndarray, np.ndarray]:
        """Hashes of all image ids in ascending order, and their rows: 16 bytes an image."""
        hashes = _hash_ids(self.database.image_ids)
        order = np.argsort(hashes)
        return hashes[order], order

    def row(self, image_id: str) -> int:
        """Row of an image. Raises UnknownImageError."""
        hashes, rows = self._id_index
        wanted = _hash_ids([image_id])[0]
        start, end = (np.searchsorted(hashes, wanted, side) for side in ("left", "right"))
        for row in rows[start:end].tolist():
            if self.database.image_ids[row] == image_id:
                return row
        raise UnknownImageError(f"the database holds no image {image_id!r}")

    def image(self, row: int) -> Image:
        """What is known of the image of a row."""
        database = self.database
        return Image(
            database.image_ids[row],
            database.uris[row],
            database.etags[row],
            int(database.widths[row]),
            int(database.heights[row]),
        )

    def image_embedding(self, row: int) -> np.ndarray:
        """(d,) float32 unit embedding of an image."""
        return np.asarray(self.database.embeddings[row], np.float32)

    def embed(self, request: Request) -> QueryEmbedding:
        """What a request looks for, with the part of each word and of the image in it.

        Text and image embeddings are added with their weights and normalised.
        Raises QueryError where nothing usable is given, UnknownImageError.
        """
        image = request.image
        if request.like is not None:
            image = self.image_embedding(self.row(request.like))
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

    def answer(self, requests: Sequence[Request]) -> list[Found | ImageSearchError]:
        """Found requests together: one matrix product for all that share a filter.

        An unusable request gives the error that says why and does not stop the others.
        """
        start = time.perf_counter()
        embeddings, problems = self._embed_all(requests)
        answers: list[Found | ImageSearchError | None] = list(problems)
        groups: dict[Filter | None, list[int]] = {}
        for position, request in enumerate(requests):
            if answers[position] is None:
                groups.setdefault(request.filter, []).append(position)
        for wanted, positions in groups.items():
            k = max(requests[position].k for position in positions)
            allowed = None if wanted is None else self._mask(wanted)
            rows, scores = self._search(embeddings[positions], k, allowed)
            seconds = time.perf_counter() - start
            for position, found, found_scores in zip(positions, rows, scores, strict=True):
                request = requests[position]
                unknown = self.space.text.unknown_words(request.text) if request.text else []
                answers[position] = Found(
                    found[: request.k], found_scores[: request.k], unknown, seconds, self
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

    def _compute_mask(self, wanted: Filter) -> np.ndarray:
        """(N,) bool: the images that a filter lets through."""
        predicate = wanted.predicate()
        every = np.ones(len(self.database), bool)
        allowed = every if predicate is None else self.database.where(predicate)
        if wanted.image_ids is not None:
            allowed &= self.database.among(wanted.image_ids)
        return allowed


def _is_text_only(request: Request) -> bool:
    return request.like is None and request.image is None


def _load_space(db: str, word_vectors: str | None, previous: Searcher | None) -> SemanticSpace:
    if previous is not None:
        with suppress(MismatchError):
            return load_semantic_space(db, previous.space.text.vectors)
    return load_semantic_space(db, word_vectors)


def _hash_ids(image_ids: Sequence[str]) -> np.ndarray:
    """(N,) uint64 hashes."""
    return np.asarray(pd.util.hash_array(np.asarray(image_ids, object), categorize=False))
