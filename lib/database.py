"""The searchable database: embeddings under DB/embeddings, of which the manifest is the truth."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lib.errors import BadArgumentError, BadInputError, ConflictError, MissingError
from lib.fastest_search import FastestSearch
from lib.schemas import column_to_vectors, require_same
from lib.semantic_space import SemanticSpace
from lib.storage import exists, join, locked, read_bytes, read_json, read_table, write_json_atomic

COLUMNS = ("image_id", "uri", "path", "etag", "width", "height")


class Strings(Sequence[str]):
    """A column of strings left in Arrow's memory: ten million cost no Python objects."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self.column = column

    def __len__(self) -> int:
        return len(self.column)

    @overload
    def __getitem__(self, row: int) -> str: ...

    @overload
    def __getitem__(self, row: slice) -> list[str]: ...

    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            return [self[each] for each in range(*row.indices(len(self)))]
        return self.column[int(row)].as_py()

    def __iter__(self) -> Iterator[str]:
        for chunk in self.column.chunks:
            yield from chunk.to_pylist()


@dataclass(frozen=True)
class Database:
    """One version of the embedded collection, in memory, ordered by image id."""

    version: int
    embedder_digest: str
    image_ids: Sequence[str]
    uris: Sequence[str]
    paths: Sequence[str]
    etags: Sequence[str]
    widths: np.ndarray  # (N,) int32 pixels
    heights: np.ndarray
    embeddings: np.ndarray  # (N, d) float32 unit

    def __len__(self) -> int:
        return len(self.image_ids)

    def search(
        self, query_embeddings: np.ndarray, k: int, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows (Q, m) int64 and scores (Q, m) float32 of the top k; see `FastestSearch.top_k`."""
        return self._search.top_k(query_embeddings, k, allowed)

    def prepare(self) -> None:
        """Make ready for many searches: what `FastestSearch` copies, it copies now."""
        self._search.prepare()

    @cached_property
    def _search(self) -> FastestSearch:
        return FastestSearch(self.embeddings)

    def __getstate__(self) -> dict[str, Any]:
        """What goes to another process: all but the copies that a search has made."""
        return {name: value for name, value in self.__dict__.items() if name != "_search"}

    def rows_of(self, image_ids: Sequence[str]) -> list[int | None]:
        """The row of each image id, None for one that is not in the database."""
        wanted = pa.array(image_ids, pa.string())
        return pc.index_in(wanted, _strings(self.image_ids)).to_pylist()

    def among(self, image_ids: Iterable[str]) -> np.ndarray:
        """(N,) bool for `search`: the images with one of these ids."""
        wanted = pa.array(image_ids, pa.string())
        return pc.is_in(_strings(self.image_ids), value_set=wanted).to_numpy()

    def where(self, predicate: pc.Expression, more: pa.Table | None = None) -> np.ndarray:
        """(N,) bool for `search`: the images where `predicate` holds, as pc.field("width") > 9.

        Columns: image_id, uri, path, etag, width, height, and those of `more`, a table that has an
        image_id. An image with several rows there is kept where one of them fits; a column that
        knows nothing of an image fits nothing. Raises BadArgumentError for an unknown column.
        """
        table = pa.table(
            {
                "image_id": _strings(self.image_ids),
                "uri": _strings(self.uris),
                "path": _strings(self.paths),
                "etag": _strings(self.etags),
                "width": self.widths,
                "height": self.heights,
                "_row": np.arange(len(self)),
            }
        )
        if more is not None:
            table = table.join(more, "image_id", join_type="left outer")
        try:
            fitting = table.filter(predicate)["_row"]
        except pa.ArrowInvalid as error:
            raise BadArgumentError(
                f"the filter {predicate} does not fit the columns {table.column_names}: {error}"
            ) from error
        allowed = np.zeros(len(self), bool)
        allowed[fitting.to_numpy()] = True
        return allowed


def _strings(values: Sequence[str]) -> pa.ChunkedArray:
    return values.column if isinstance(values, Strings) else pa.chunked_array([values], pa.string())


def manifest_file(db: str) -> str:
    """Where a database lists the files of its current version."""
    return join(db, "embeddings", "manifest.json")


def read_manifest(db: str) -> dict[str, Any]:
    """The current manifest. Raises MissingError before `jobs.embed_database` has run."""
    try:
        return read_json(manifest_file(db))
    except MissingError as error:
        raise MissingError(f"{db} has no embeddings; run jobs.embed_database first") from error


def manifest_state(db: str) -> str:
    """A digest that changes whenever a new version is committed."""
    return hashlib.sha256(read_bytes(manifest_file(db))).hexdigest()


def open_database(db: str) -> Database:
    """Load the current version. Raises MissingError where there is none.

    A version is immutable: its manifest names its files. Where a writer committed another and
    deleted files of this one meanwhile, the new version is loaded instead.
    """
    while True:
        manifest = read_manifest(db)
        try:
            return load_version(db, manifest)
        except MissingError:
            if read_manifest(db)["version"] == manifest["version"]:
                raise


def load_version(
    db: str, manifest: dict[str, Any], files: Sequence[dict[str, Any]] | None = None
) -> Database:
    """Load the version that a manifest describes, or only some of its `files`."""
    files = manifest["files"] if files is None else files
    tables = [read_live(db, manifest, file["name"]) for file in files]
    described = pa.concat_tables([table.select(COLUMNS) for table in tables])
    order = natural_order(described["image_id"])
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    # Each file's vectors go straight to their rows: no second copy of the whole is ever made.
    dimension = tables[0].schema.field("embedding").type.list_size
    embeddings = np.empty((len(order), dimension), np.float32)
    end = len(order)
    while tables:
        table = tables.pop()
        embeddings[ranks[end - len(table) : end]] = column_to_vectors(table["embedding"])
        end -= len(table)
    if (order[1:] < order[:-1]).any():
        described = described.take(pa.array(order))
    return Database(
        manifest["version"],
        manifest["embedder_digest"],
        Strings(described["image_id"]),
        Strings(described["uri"]),
        Strings(described["path"]),
        Strings(described["etag"]),
        described["width"].to_numpy(),
        described["height"].to_numpy(),
        embeddings,
    )


def read_live(db: str, manifest: dict[str, Any], name: str) -> pa.Table:
    """The rows of one file of embeddings that have not been removed."""
    table = read_table(join(db, "embeddings", name))
    return without(table, manifest.get("removed", []))


def without(table: pa.Table, removed: Sequence[str]) -> pa.Table:
    """The rows of a table whose image_id is not among the `removed`."""
    if not removed:
        return table
    gone = pc.is_in(table["image_id"], value_set=pa.array(removed, pa.string()))
    return table.filter(pc.invert(gone)) if pc.any(gone).as_py() else table


def remove_images(db: str, image_ids: Sequence[str]) -> int:
    """Take images out of the database with a tombstone each; returns how many were in it.

    Files stay as they are until `lib.compaction` rewrites them; the tombstones stay for good, so
    that embedding the descriptors anew brings no removed image back.
    Raises BadInputError where an id was never in the database and ConflictError where another job
    committed meanwhile; nothing is removed then.
    """
    manifest = read_manifest(db)
    removed = set(manifest.get("removed", []))
    present = pa.chunked_array(
        [
            chunk
            for file in manifest["files"]
            for chunk in read_table(join(db, "embeddings", file["name"]), ["image_id"])[0].chunks
        ],
        pa.string(),
    )
    wanted = set(image_ids) - removed
    found = pc.is_in(pa.array(sorted(wanted), pa.string()), value_set=present).to_pylist()
    unknown = [name for name, known in zip(sorted(wanted), found, strict=True) if not known]
    if unknown:
        raise BadInputError(
            f"{len(unknown)} ids are not in {db}, such as {unknown[0]!r}; nothing was removed"
        )
    if wanted:
        commit_version(db, {**manifest, "removed": sorted(removed | wanted)})
    return len(wanted)


def commit_version(db: str, manifest: dict[str, Any]) -> int:
    """Make `manifest` the version after the one it was made from; returns its number.

    `manifest` has the number of the version it was made from, 0 for none. Raises ConflictError,
    changing nothing, where another job has committed since. Local writers exclude one another; on
    an object store two that commit within the same instant may both pass the check.
    """
    version: int = manifest["version"] + 1
    with locked(join(db, "embeddings")):
        current = read_json(manifest_file(db))["version"] if exists(manifest_file(db)) else 0
        if current != manifest["version"]:
            raise ConflictError(
                f"another job committed version {current} of {db} meanwhile, this one started from "
                f"version {manifest['version']}; nothing was changed, run it again"
            )
        write_json_atomic(manifest_file(db), {**manifest, "version": version})
    return version


def require_current(database: Database, space: SemanticSpace) -> None:
    """Raise MismatchError unless the embedder is the one that made the embeddings."""
    require_same(
        "the embedder and the embeddings of the database",
        space.digest,
        database.embedder_digest,
        "Run jobs.embed_database",
    )


def natural_order(image_ids: pa.ChunkedArray) -> np.ndarray:
    """Rows in the order of their ids, (N,) int64: numbers by value, then other ids by letter."""
    numeric = pc.match_substring_regex(image_ids, "^[0-9]{1,18}$").to_numpy()
    numbers, others = np.flatnonzero(numeric), np.flatnonzero(~numeric)
    values = image_ids.filter(pa.array(numeric)).cast(pa.int64()).to_numpy()
    by_letter = pc.sort_indices(image_ids.filter(pa.array(~numeric))).to_numpy()
    return np.concatenate([numbers[np.argsort(values, kind="stable")], others[by_letter]])


def natural_key(image_id: str) -> tuple[int, int, str]:
    """What puts single ids in the same order as `natural_order`."""
    number = image_id.isascii() and image_id.isdecimal() and len(image_id) <= 18
    return (0, int(image_id), "") if number else (1, 0, image_id)
