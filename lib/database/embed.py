"""Embedding the whole collection on Ray: a task per descriptor file, then one manifest."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from lib.database.manifest import commit_version, read_manifest, without
from lib.embedder.model import Embedder
from lib.embedder.space import load_semantic_space
from lib.errors import MissingError
from lib.schemas import (
    Provenance,
    column_to_vectors,
    embedding_schema,
    require_same,
    vectors_to_column,
)
from lib.storage import absolute, filesystem, join, list_files, read_table
from lib.storage import write_table_atomic as write_table


@dataclass(frozen=True)
class EmbeddingReport:
    """What an embedding run did."""

    version: int
    images: int
    files: int
    files_embedded: int


def embed_database(db: str) -> EmbeddingReport:
    """Embed every descriptor that the current embedder has not embedded yet. Ray must be up.

    A new version is committed by its manifest alone; files that it no longer lists go afterwards.
    Raises MissingError where there are no descriptors, MismatchError where the embedder is for
    another backbone, ConflictError where another job committed meanwhile.
    """
    db = absolute(db)
    space = load_semantic_space(db)
    sources = list_files(join(db, "descriptors"), ".parquet")
    if not sources:
        raise MissingError(f"{db} has no descriptors; run jobs.extract_descriptors first")
    try:
        old = read_manifest(db)
    except MissingError:
        old = {"version": 0, "embedder_digest": "", "files": []}
    states = {_state(source): source for source in sources}
    kept = [
        file
        for file in old["files"]
        if old["embedder_digest"] == space.digest and states.keys() >= set(file["sources"])
    ]
    done = {state for file in kept for state in file["sources"]}
    embedder = ray.put(space.embedder)
    removed = old.get("removed", [])
    running = [
        _embed_file.remote(embedder, space.provenance, space.digest, db, source, state, removed)
        for state, source in states.items()
        if state not in done
    ]
    files = kept + ray.get(running)
    version = old["version"]
    if files != old["files"] or old["embedder_digest"] != space.digest:
        version = commit_version(db, {**old, "embedder_digest": space.digest, "files": files})
        remove_replaced(db, old["files"], files)
    return EmbeddingReport(version, sum(f["rows"] for f in files), len(files), len(running))


def _state(url: str) -> str:
    fs, path = filesystem(url)
    return f"{url.rsplit('/', 1)[-1]}@{fs.checksum(path)}"


def remove_replaced(db: str, old: list[dict[str, Any]], new: list[dict[str, Any]]) -> None:
    """Delete the files that the version just committed no longer names.

    Files that neither version names stay: another job may be about to commit them.
    """
    for name in {file["name"] for file in old} - {file["name"] for file in new}:
        fs, path = filesystem(join(db, "embeddings", name))
        fs.rm_file(path)


@ray.remote
def _embed_file(
    embedder: Embedder,
    provenance: Provenance,
    digest: str,
    db: str,
    source: str,
    state: str,
    removed: list[str],
) -> dict[str, Any]:
    table = read_table(source)
    require_same(
        f"the embedder's backbone and the descriptors in {source}",
        provenance,
        Provenance.from_schema(table.schema, source),
        "Train anew with jobs.train_embedder",
    )
    table = without(table, removed)
    descriptors = column_to_vectors(table["descriptor"]).astype(np.float32, copy=False)
    embeddings = embedder.se_image(descriptors)
    stem = source.rsplit("/", 1)[-1].removesuffix(".parquet")
    schema = embedding_schema(embeddings.shape[1], {b"embedder_digest": digest.encode()})
    if "digest" not in table.column_names:  # extracted before the digests were kept
        table = table.append_column("digest", pa.array([""] * len(table)))
    columns = [table[field.name] for field in schema if field.name != "embedding"]
    made = pa.table([*columns, vectors_to_column(embeddings)], schema=schema)
    mark = hashlib.sha256(state.encode()).hexdigest()[:8]
    name = f"{stem}-{digest[:8]}-{mark}.parquet"
    write_table(made, join(db, "embeddings", name))
    return {"name": name, "rows": len(table), "sources": [state]}
