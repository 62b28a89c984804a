"""Searching for images: which may be found, what is known of one, and what a search gives."""

import functools
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isnan
from numbers import Real
from typing import Literal, Protocol, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lib.database.ordering import natural_order
from lib.errors import BadArgumentError, ImageSearchError
from lib.topk.scores import merge_top_k

Orientation = Literal["landscape", "portrait", "square"]
IMAGE_COLUMNS = ("image_id", "uri", "etag", "width", "height", "digest")


class UnknownImageError(ImageSearchError):
    """An image id that the database does not hold."""


class NotLoadedError(Exception):
    """A shard does not hold the version asked for: its process has been started again."""


def texts_of(texts: Iterable[str], name: str) -> tuple[str, ...]:
    """Several texts, such as a list, an array or a column of a table holds them, as a tuple.

    Raises BadArgumentError, with `name`, where they are no such thing or one of them is no text.
    """
    # A single text would be taken for its characters, and a table for the names of its columns.
    if isinstance(texts, str | bytes) or not isinstance(texts, Iterable) or _is_table(texts):
        raise BadArgumentError(f"{name} must be a list of texts, not {type(texts).__name__}")
    listed = tuple(texts)
    for place, text in enumerate(listed):
        require_text(text, f"{name}[{place}]")
    return listed


def require_text(text: object, name: str) -> None:
    """Raise BadArgumentError, with `name`, where a text is none."""
    if not isinstance(text, str):
        raise BadArgumentError(f"{name} must be a text, not {text!r}")


def _is_table(texts: object) -> bool:
    return getattr(texts, "ndim", 1) != 1


@dataclass(frozen=True)
class Filter:
    """Which images may be found; every condition that is given must hold.

    image_ids: any number of ids, kept as a tuple. distinct: of several files of the same content,
    that are let through, the first by id alone. Raises BadArgumentError for a condition that is
    none: it would be passed over, or hold for no image, and neither could be seen in what is found.
    """

    image_ids: Iterable[str] | None = None
    path_prefix: str | None = None
    min_width: int | None = None  # pixels
    min_height: int | None = None
    orientation: Orientation | None = None
    distinct: bool = False

    def __post_init__(self) -> None:
        if self.image_ids is not None:
            object.__setattr__(self, "image_ids", texts_of(self.image_ids, "image_ids"))
        if self.path_prefix is not None:
            require_text(self.path_prefix, "path_prefix")
        for name in ("min_width", "min_height"):
            pixels = getattr(self, name)
            if pixels is not None and (not isinstance(pixels, Real) or isnan(pixels)):
                raise BadArgumentError(f"{name} must be a number of pixels, not {pixels!r}")
        if self.orientation not in (None, *get_args(Orientation)):
            known = ", ".join(get_args(Orientation))
            raise BadArgumentError(f"orientation must be one of {known}, not {self.orientation!r}")
        if not isinstance(self.distinct, bool):
            raise BadArgumentError(f"distinct must be True or False, not {self.distinct!r}")

    def predicate(self) -> pc.Expression | None:
        """All conditions on single images but `image_ids`, or None; for `LocalCollection.where`."""
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


DISTINCT = Filter(distinct=True)  # that condition alone


@dataclass(frozen=True)
class Image:
    """What is known of one image of a database."""

    image_id: str
    uri: str
    etag: str
    width: int  # pixels
    height: int
    digest: str  # of the file's content; empty where not known

    @property
    def on_the_web(self) -> bool:
        """Whether a browser can open `uri` itself."""
        return self.uri.startswith(("http://", "https://"))


@dataclass(frozen=True)
class Hits:
    """The m best images of each of Q queries."""

    images: pa.Table  # IMAGE_COLUMNS of Q · m rows: query by query, best first
    scores: np.ndarray  # (Q, m) float32 cosines

    def of(self, query: int) -> list[Image]:
        """The m images of one query, best first."""
        per_query = self.scores.shape[1]
        rows = self.images.slice(query * per_query, per_query)
        columns = [rows[name].to_pylist() for name in IMAGE_COLUMNS]
        return [Image(*values) for values in zip(*columns, strict=True)]


class Collection(Protocol):
    """One version of an embedded collection that can be searched, wherever it is held."""

    @property
    def version(self) -> int:
        """Number of the database version, counted up by each change."""

    @property
    def embedder_digest(self) -> str:
        """Of the embedder that made the embeddings."""

    def __len__(self) -> int:
        """Number of images that can be found."""

    def search_images(
        self, query_embeddings: np.ndarray, k: int, image_filter: Filter | None = None
    ) -> Hits:
        """The top k images of (Q, d) float32 queries, equal scores by image id (`natural_order`).

        m = min(k, images that may be found). Raises BadArgumentError for k < 1.
        """

    def look_up(self, image_id: str) -> tuple[Image, np.ndarray]:
        """An image and its (d,) float32 unit embedding. Raises UnknownImageError."""

    def look_up_all(self, image_ids: Sequence[str]) -> list[tuple[Image, np.ndarray]]:
        """`look_up` of several images. Raises UnknownImageError for the first that is not there."""


def merge_hits(parts: Sequence[Hits], k: int, distinct: bool = False) -> Hits:
    """The top k of a collection from the top k of each of its parts; exact.

    The best k of all are among the best k of each part, and a score depends on query and image
    alone. `distinct`: so are those of each part, but another may hold a copy.
    """
    images = pa.concat_tables([part.images for part in parts])
    counts = [part.scores.shape[1] for part in parts]
    queries = len(parts[0].scores)
    owners = np.concatenate([np.repeat(np.arange(queries), count) for count in counts])
    scores = np.concatenate([part.scores.ravel() for part in parts])
    order = natural_order(images["image_id"])
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    count = sum(counts)
    if distinct:
        first = _first_of_each(owners, ranks, images["digest"].to_pylist())
        owners, ranks, scores = owners[first], ranks[first], scores[first]
        # As many for each query, or k: a part that has fewer than k gives all that it has.
        count = int(np.bincount(owners, minlength=queries).min())
    chosen, best = merge_top_k(owners, ranks, scores, queries, min(k, count))
    return Hits(images.take(pa.array(order[chosen.ravel()])), best)


def _first_of_each(
    owners: np.ndarray, ranks: np.ndarray, digests: Sequence[str | None]
) -> np.ndarray:
    """Places of the candidates that are the first by id of their query and content."""
    first: dict[tuple[int, str | int], int] = {}
    for place in np.argsort(ranks).tolist():
        first.setdefault((int(owners[place]), digests[place] or place), place)
    return np.array([*first.values()], np.int64)
