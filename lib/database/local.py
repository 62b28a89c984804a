"""One version of the embedded collection, held by this process and searched in it."""

import bisect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from lib.database.copies import copied_rows, without_copies
from lib.database.interface import (
    DISTINCT,
    IMAGE_COLUMNS,
    Filter,
    Hits,
    Image,
    UnknownImageError,
)
from lib.database.ordering import natural_key
from lib.errors import BadArgumentError

if TYPE_CHECKING:
    from lib.topk.adaptive import AdaptiveSearch

_FETCHED = 3  # times as many as asked for: a photograph and two copies
COLUMNS = ("image_id", "uri", "path", "etag", "width", "height", "digest")


class Strings(Sequence[str]):
    """A column of strings left in Arrow's memory: ten million cost no Python objects."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self.column = column

    def __len__(self) -> int:
        return len(self.column)

    def __getitem__(self, row: int) -> str:  # type: ignore[override]  # no slices
        return self.column[int(row)].as_py()


@dataclass(frozen=True)
class LocalCollection:
    """One version of the embedded collection, ordered by image id; a `Collection`."""

    version: int
    embedder_digest: str
    images: pa.Table  # COLUMNS, N rows
    embeddings: np.ndarray  # (N, d) float32 unit; may be memory-mapped
    norm: float | None = None  # largest of a row, where all rows were found finite

    def __len__(self) -> int:
        return len(self.embeddings)

    @property
    def image_ids(self) -> Strings:
        """N ids."""
        return Strings(self.images["image_id"])

    @property
    def uris(self) -> Strings:
        """What opens each of the N images."""
        return Strings(self.images["uri"])

    def search(
        self, query_embeddings: np.ndarray, k: int, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows (Q, m) int64 and scores (Q, m) float32 of the top k; see `AdaptiveSearch.top_k`."""
        return self._search.top_k(query_embeddings, k, allowed)

    def search_images(
        self, query_embeddings: np.ndarray, k: int, image_filter: Filter | None = None
    ) -> Hits:
        """The top k images that a filter lets through; see `Collection.search_images`."""
        allowed = None if image_filter is None else self._allowed(image_filter)
        if allowed is not None and image_filter == DISTINCT:
            rows, scores = self._search_most(query_embeddings, k, allowed)
        else:
            rows, scores = self.search(query_embeddings, k, allowed)
        return Hits(self.images.select(IMAGE_COLUMNS).take(pa.array(rows.ravel())), scores)

    def _search_most(
        self, query_embeddings: np.ndarray, k: int, allowed: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """`search` where most rows are allowed: those that are not are left out afterwards.

        Scanning all is up to three times as fast as scanning those that a filter lets through.
        """
        if k < 1 or _FETCHED * k > len(self):
            return self.search(query_embeddings, k, allowed)
        rows, scores = self.search(query_embeddings, _FETCHED * k)
        kept = allowed[rows]
        if (kept.sum(axis=1) < k).any():
            return self.search(query_embeddings, k, allowed)
        order = np.argsort(~kept, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1)

    def look_up(self, image_id: str) -> tuple[Image, np.ndarray]:
        """An image and its (d,) float32 unit embedding. Raises UnknownImageError."""
        row = self.row_of(image_id)
        if row is None:
            raise UnknownImageError(f"the database holds no image {image_id!r}")
        values = self.images.select(IMAGE_COLUMNS).slice(row, 1).to_pylist()[0]
        return Image(**values), np.array(self.embeddings[row])

    def look_up_all(self, image_ids: Sequence[str]) -> list[tuple[Image, np.ndarray]]:
        """See `Collection.look_up_all`."""
        return [self.look_up(image_id) for image_id in image_ids]

    def prepare(self) -> None:
        """Make ready for many searches: what `AdaptiveSearch` copies, it copies now."""
        self._search.prepare()
        self._copied  # noqa: B018

    @cached_property
    def _search(self) -> "AdaptiveSearch":
        from lib.topk.adaptive import AdaptiveSearch  # PyTorch: who searches elsewhere needs it not

        return AdaptiveSearch(self.embeddings, self.norm)

    def row_of(self, image_id: str) -> int | None:
        """The row of an image, None where it is not in the database."""
        names = self.image_ids
        row = bisect.bisect_left(names, natural_key(image_id), key=natural_key)
        # Several ids have one key where numbers have zeros in front.
        while row < len(names) and natural_key(names[row]) == natural_key(image_id):
            if names[row] == image_id:
                return row
            row += 1
        return None

    def among(self, image_ids: Iterable[str]) -> np.ndarray:
        """(N,) bool for `search`: the images with one of these ids."""
        ids = pa.array(image_ids, pa.large_string())
        return pc.is_in(self.images["image_id"], value_set=ids).to_numpy()

    def where(self, predicate: pc.Expression, more: pa.Table | None = None) -> np.ndarray:
        """(N,) bool for `search`: the images where `predicate` holds, as pc.field("width") > 9.

        Columns: COLUMNS and those of `more`, a table that has an image_id. An image with several
        rows there is kept where one of them fits; a column that knows nothing of an image fits
        nothing. Raises BadArgumentError for an unknown column.
        """
        table = self.images.append_column("_row", pa.array(np.arange(len(self))))
        if more is not None:
            place = more.schema.get_field_index("image_id")
            keys = more["image_id"].cast(pa.large_string())
            more = more.set_column(place, "image_id", keys)
            table = table.join(more, "image_id", join_type="left outer")
        try:
            fitting = ds.dataset(table).to_table(columns=["_row"], filter=predicate)["_row"]
        except pa.ArrowInvalid as error:
            raise BadArgumentError(
                f"the filter {predicate} does not fit the columns {table.column_names}: {error}"
            ) from error
        allowed = np.zeros(len(self), bool)
        allowed[fitting.to_numpy()] = True
        return allowed

    @cached_property
    def _copied(self) -> tuple[np.ndarray, np.ndarray]:
        """See `copied_rows`."""
        return copied_rows(self.images["digest"])

    @cached_property
    def _allowed(self) -> Callable[[Filter], np.ndarray | None]:
        return lru_cache(maxsize=16)(self._compute_allowed)

    def _compute_allowed(self, image_filter: Filter) -> np.ndarray | None:
        """(N,) bool: the images that a filter lets through; None where it lets all through."""
        if image_filter == DISTINCT and not len(self._copied[0]):
            return None
        predicate = image_filter.predicate()
        allowed = np.ones(len(self), bool) if predicate is None else self.where(predicate)
        if image_filter.image_ids is not None:
            allowed &= self.among(image_filter.image_ids)
        return without_copies(allowed, *self._copied) if image_filter.distinct else allowed
