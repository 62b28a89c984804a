"""The searchable database: embeddings under DB/embeddings, of which the manifest is the truth."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from lib.errors import MissingError
from lib.schemas import column_to_vectors, require_same
from lib.search import top_k
from lib.semantic_space import SemanticSpace
from lib.storage import join, read_bytes, read_json, read_table


@dataclass(frozen=True)
class Database:
    """One version of the embedded collection, in memory, ordered by image id."""

    version: int
    embedder_digest: str
    image_ids: list[str]
    uris: list[str]
    paths: list[str]
    etags: list[str]
    widths: np.ndarray  # (N,) int32 pixels
    heights: np.ndarray
    embeddings: np.ndarray  # (N, d) float32 unit

    def __len__(self) -> int:
        return len(self.image_ids)

    def search(
        self, query_embeddings: np.ndarray, k: int, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows (Q, m) int64 and scores (Q, m) float32 of the top k; see `lib.search.top_k`."""
        return top_k(query_embeddings, self.embeddings, k, allowed)

    def rows_of(self, image_ids: Sequence[str]) -> list[int | None]:
        """The row of each image id, None for one that is not in the database."""
        rows = {image_id: row for row, image_id in enumerate(self.image_ids)}
        return [rows.get(image_id) for image_id in image_ids]


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
    """Load the current version. Raises MissingError where there is none."""
    manifest = read_manifest(db)
    tables = [read_table(join(db, "embeddings", file["name"])) for file in manifest["files"]]
    table = pa.concat_tables(tables)
    ids = table["image_id"].to_pylist()
    order = np.array(sorted(range(len(ids)), key=lambda row: _natural(ids[row])), np.int64)
    table = table.take(pa.array(order))
    return Database(
        manifest["version"],
        manifest["embedder_digest"],
        table["image_id"].to_pylist(),
        table["uri"].to_pylist(),
        table["path"].to_pylist(),
        table["etag"].to_pylist(),
        table["width"].to_numpy(),
        table["height"].to_numpy(),
        np.ascontiguousarray(column_to_vectors(table["embedding"])),
    )


def require_current(database: Database, space: SemanticSpace) -> None:
    """Raise MismatchError unless the embedder is the one that made the embeddings."""
    require_same(
        "the embedder and the embeddings of the database",
        space.digest,
        database.embedder_digest,
        "Run jobs.embed_database",
    )


def _natural(image_id: str) -> tuple[int, int, str]:
    """COCO's numbers by value, before any other id."""
    return (0, int(image_id), "") if image_id.isdecimal() else (1, 0, image_id)
