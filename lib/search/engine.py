"""Answers searches over one version of a database, for the service, the jobs and notebooks."""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from functools import cache, cached_property
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pyarrow as pa

from lib.backbones.seen_image import SeenImage
from lib.database.interface import Collection, Filter, Image, require_text, texts_of
from lib.database.manifest import latest_version
from lib.database.opening import open_database, searchable_names
from lib.datasets.captions import load_captions
from lib.embedder.space import SemanticSpace, embedder_file, load_semantic_space
from lib.errors import BadArgumentError, BadInputError, ImageSearchError, MismatchError, QueryError
from lib.images.decoding import ImageError
from lib.images.reading import read_uri
from lib.images.thumbnails import read_file
from lib.search.explain import HeatMap, split_over_cells
from lib.search.image_space import open_descriptors
from lib.storage import exists
from lib.text.query import QueryEmbedding, embed_queries, embed_query, query_words
from lib.text.spelling import COMMON, Spelling

if TYPE_CHECKING:  # PyTorch, which a front end of the service does without
    from lib.backbones.image_encoder import ImageEncoder

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
    """The images of a request, best first, with their cosines.

    `unknown_words` and `unseen_words`: see QueryEmbedding. It can be pickled and copied, all but
    its `searcher`.
    """

    images: list[Image] = field(repr=False)  # at most k
    scores: list[float]
    unknown_words: list[str]
    unseen_words: list[str]
    seconds: float  # that the batch took in which it was searched
    searcher: "Searcher" = field(repr=False)
    text: str = ""

    @property
    def ids(self) -> list[str]:
        """Ids of the images."""
        return [image.image_id for image in self.images]

    @property
    def uris(self) -> list[str]:
        """What opens each image."""
        return [image.uri for image in self.images]

    @cached_property
    def suggestion(self) -> str | None:
        """The query as it was probably meant, where a word seems misspelt."""
        return self.searcher.suggest(self.text)

    def __getstate__(self) -> dict[str, object]:
        """Without the searcher: a whole collection, which cannot go to another process."""
        return {**vars(self), "suggestion": self.suggestion, "searcher": None}


@dataclass(frozen=True)
class Explanation:
    """Why an image has its score: the shares of the words, and of the cells, add up to it."""

    score: float
    words: dict[str, float]
    heat_map: HeatMap | None = None  # by word and cell
    seen: SeenImage | None = field(default=None, repr=False)  # what the heat map lies on


@dataclass(eq=False, repr=False)
class Searcher:
    """A database, its semantic space and the captions known of its images, ready to answer."""

    collection: Collection
    space: SemanticSpace
    captions: Mapping[str, Sequence[str]]
    weights: str | None = None  # file with the backbone's, for images not in the database

    @classmethod
    def load(
        cls,
        db: str,
        captions: str | None = None,
        word_vectors: str | None = None,
        previous: "Searcher | None" = None,
        open_collection: Callable[[str], Collection] = open_database,
        weights: str | None = None,
    ) -> "Searcher":
        """Load what a database's manifest names now, into this process unless told otherwise.

        `previous` lends its word vectors where they are the ones wanted. A database that has
        descriptors and no embedder yet answers image queries alone (`open_descriptors`). Raises
        MissingError before the jobs that make the database have run, MismatchError where the
        embeddings come from another embedder than the one that lies beside them, and BadInputError
        where no caption is one of its images', unless it takes the place of a `previous` one.
        """
        by_image: Mapping[str, Sequence[str]] = {}
        if captions:
            # A version that lacks all captioned images is no reason to go on with the old one.
            required_of = "" if previous else db
            by_image = load_captions(captions).texts_in(searchable_names(db), required_of)
        if not latest_version(db) and not exists(embedder_file(db)):
            return cls(*open_descriptors(db), by_image, weights)
        collection = open_collection(db)
        space = _load_space(db, word_vectors, previous, collection.embedder_digest)
        # Arrow keeps what reading took, some GB at ten million images, unless asked.
        pa.default_memory_pool().release_unused()
        searcher = cls(collection, space, by_image, weights)
        if previous is not None and previous.space.digest == space.digest:
            searcher.spelling = previous.spelling
        return searcher

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

    @overload
    def __call__(self, text: str = "", k: int = 10, **options: Any) -> SearchResult: ...

    @overload
    def __call__(self, text: Iterable[str], k: int = 10, **options: Any) -> list[SearchResult]: ...

    def __call__(
        self,
        text: str | Iterable[str] = "",
        k: int = 10,
        *,
        like: str | None = None,
        image: str | os.PathLike[str] | bytes | None = None,
        text_weight: float = 0.5,
        **conditions: Any,
    ) -> SearchResult | list[SearchResult]:
        """The k images for a text of the query language, an image, or both together; for several
        texts, those for each.

        like: id of an image of the database. image: path, URL or content of any other image file.
        text_weight: how much the text counts beside the image, 0 to 1. conditions: fields of
        `Filter`, such as orientation="landscape". Raises QueryError, UnknownImageError, ImageError
        for an image that cannot be read, BadArgumentError for k < 1, an unknown condition, or what
        is no text, weight or id. Where one of several texts cannot be used, a note says which.
        """
        if like is not None and image is not None:
            raise BadArgumentError("give like or image, not both")
        if not isinstance(text_weight, Real) or not 0 <= text_weight <= 1:
            raise BadArgumentError(f"text_weight must be from 0 to 1, not {text_weight!r}")
        if not isinstance(k, Integral):
            raise BadArgumentError(f"k must be a whole number, not {k!r}")
        if like is not None:
            require_text(like, "the id of an image")
        texts = texts_of([text] if isinstance(text, str) else text, "text")
        known = [each.name for each in fields(Filter)]
        if unknown := sorted(conditions.keys() - set(known)):
            raise BadArgumentError(
                f"no condition is called {', '.join(unknown)}; there are {', '.join(known)}"
            )
        image_filter = Filter(**conditions) if conditions else None
        embedding = None if image is None else self.se_image(image)
        if embedding is not None and embedding.ndim != 1:
            raise BadArgumentError(f"image must be one image, not {len(embedding)} descriptors")
        options = int(k), like, embedding, text_weight, image_filter
        results = []
        for place, result in enumerate(self.answer([Request(each, *options) for each in texts])):
            if isinstance(result, ImageSearchError):
                raise result if isinstance(text, str) else _of_text(result, place, texts[place])
            results.append(result)
        return results[0] if isinstance(text, str) else results

    def se_text(self, text: str | Iterable[str]) -> np.ndarray:
        """Semantic embedding of a query, (d,) float32 unit, or of N of them, (N, d).

        The whole query language. Raises what is wrong with the first that cannot be used, of
        several with a note that says which, and BadArgumentError for what is no text.
        """
        if isinstance(text, str):
            return self.space.se_text(text)
        texts = texts_of(text, "text")
        batch = embed_queries(self.space.text, texts)
        for place, problem in enumerate(batch.problems):
            if problem is not None:
                raise _of_text(problem, place, texts[place])
        return batch.embeddings

    def se_image(self, image: str | os.PathLike[str] | bytes | np.ndarray) -> np.ndarray:
        """Semantic embedding of an image: (d,) float32 unit.

        image: path, URL or content of a file; or descriptors, (D,) or (N, D), which give (d,) or
        (N, d). Raises ImageError where a file cannot be read, BadArgumentError for anything else,
        and BadInputError for a descriptor with values that are not finite.
        """
        if isinstance(image, str | os.PathLike):
            try:
                return self.se_image(read_uri(os.fspath(image)))
            except ImageError as error:
                raise ImageError(error.reason, f"{image}: {error}") from error
        if isinstance(image, bytes):
            image = self._image_encoder.extract(image)
        is_array = isinstance(image, np.ndarray)
        if not is_array or image.ndim not in (1, 2) or image.dtype.kind not in "fiu":
            given = f"{image.dtype} {image.shape}" if is_array else type(image).__name__
            raise BadArgumentError(
                "an image must be the path, URL or bytes of an image file, or an array of "
                f"descriptors, (D,) or (N, D), not {given}; of a picture in memory give the bytes "
                "that saving it as PNG writes"
            )
        if not np.isfinite(image).all():  # normalised, it would be all zeros
            raise BadInputError("descriptors must be finite; some values are NaN or infinity")
        return self.space.se_image(image)

    def explain(
        self, text: str, image_id: str, *, like: str | None = None, heat_map: bool = False
    ) -> Explanation:
        """Why an image of the database has its score for a query: exact shares.

        heat_map: also where in the image it comes from, for which the image file is read and the
        backbone runs. Raises QueryError, UnknownImageError, and ImageError for such a file.
        """
        require_text(text, "a query")
        require_text(image_id, "the id of an image")
        image, embedding = self.collection.look_up(image_id)
        query = self.embed(Request(text, like=like))
        shares = dict(zip(query.words, (query.parts @ embedding).tolist(), strict=True))
        score = float(query.embedding @ embedding)
        if not heat_map:
            return Explanation(score, shares)
        seen = self._image_encoder.see(read_file(image.uri))
        heat = split_over_cells(seen.feature_map, self.space.embedder, query.parts)
        return Explanation(score, shares, heat, seen)

    @cached_property
    def _image_encoder(self) -> "ImageEncoder":
        from lib.backbones.image_encoder import ImageEncoder

        return ImageEncoder(self.space.provenance, self.weights)

    def suggest(self, text: str) -> str | None:
        """A query as it was probably meant, where a word of it seems misspelt."""
        odd = self.odd_words(text)
        return self.spelling.correct(text, odd) if odd else None

    def odd_words(self, text: str) -> list[str]:
        """The words of a query so seldom that they may be misspelt."""
        try:
            words = query_words(text)
        except QueryError:
            return []
        ranks = self.space.text.vectors.key_to_index
        odd = [word for word in words if ranks.get(word, COMMON) >= COMMON]
        return [word for word in odd if self._caption_counts.get(word, 0) < 5 or word not in ranks]

    @cached_property
    def _caption_counts(self) -> dict[str, float]:
        """How many captions of the corpus hold each word."""
        return self.space.text.idf.document_frequencies()

    @cached_property
    def spelling(self) -> Spelling:
        """The words that misspelt ones are compared with."""
        return Spelling(self.space.text.vectors.index_to_key, self._caption_counts)

    def embed(self, request: Request) -> QueryEmbedding:
        """What a request looks for, with the part of each word and of the image in it.

        Text and image are added with their weights and normalised. The text has the length that it
        had before it was normalised: `-dog` counts beside an image as it does beside a word.
        Raises QueryError where nothing usable is given, UnknownImageError.
        """
        image = request.image
        if request.like is not None:
            image = self.collection.look_up(request.like)[1]
        return self._combine(request, image)

    def _combine(self, request: Request, image: np.ndarray | None) -> QueryEmbedding:
        if image is None:
            return embed_query(self.space.text, request.text)
        if not request.text.strip():
            return QueryEmbedding(image, [_IMAGE_PART], [1.0], image[None])
        text = embed_query(self.space.text, request.text)
        parts = np.concatenate(
            [
                text.parts * (text.length * request.text_weight),
                image[None] * (1 - request.text_weight),
            ]
        ).astype(np.float32)
        total = parts.sum(axis=0)
        norm = float(np.linalg.norm(total))
        if norm < 1e-6:
            raise QueryError("the text and the image cancel each other out; change one of them")
        weights = [weight * request.text_weight for weight in text.weights]
        return replace(
            text,
            embedding=total / norm,
            words=[*text.words, _IMAGE_PART],
            weights=[*weights, 1 - request.text_weight],
            parts=parts / norm,
            length=norm,
        )

    def answer(self, requests: Sequence[Request]) -> list[SearchResult | ImageSearchError]:
        """Answer requests together: one matrix product for all that share a filter.

        An unusable request gives the error that says why and does not stop the others.
        """
        start = time.perf_counter()
        batch = embed_queries(self.space.text, [request.text for request in requests])
        problems: list[ImageSearchError | None] = [*batch.problems]
        self._add_images(requests, batch.embeddings, problems)
        results: dict[int, SearchResult] = {}
        groups: dict[Filter | None, list[int]] = {}
        for position, request in enumerate(requests):
            if problems[position] is None:
                groups.setdefault(request.filter, []).append(position)
        for image_filter, positions in groups.items():
            k = max(requests[position].k for position in positions)
            hits = self.collection.search_images(batch.embeddings[positions], k, image_filter)
            seconds = time.perf_counter() - start
            for query, position in enumerate(positions):
                request = requests[position]
                results[position] = SearchResult(
                    hits.of(query)[: request.k],
                    hits.scores[query, : request.k].tolist(),
                    batch.unknown_words[position],
                    batch.unseen_words[position],
                    seconds,
                    self,
                    request.text,
                )
        return [problem or results[position] for position, problem in enumerate(problems)]

    def _add_images(
        self,
        requests: Sequence[Request],
        embeddings: np.ndarray,
        problems: list[ImageSearchError | None],
    ) -> None:
        """Set the embeddings, and problems, of the requests that have an image."""
        look_up = cache(self.collection.look_up)  # many may be like the same image
        for row, request in enumerate(requests):
            try:
                image = request.image if request.like is None else look_up(request.like)[1]
                if image is not None:
                    embeddings[row] = self._combine(request, image).embedding
                    problems[row] = None
            except ImageSearchError as error:
                problems[row] = error


def _of_text(error: ImageSearchError, place: int, text: str) -> ImageSearchError:
    """What is wrong with one of several texts, with a note that says which it is."""
    error.add_note(f"this is text[{place}]: {text!r}")
    return error


def _load_space(
    db: str, word_vectors: str | None, previous: Searcher | None, digest: str
) -> SemanticSpace:
    if previous is not None:
        with suppress(MismatchError):
            return load_semantic_space(db, previous.space.text.vectors, digest)
    return load_semantic_space(db, word_vectors, digest)
