"""A million text queries as a Ray job: shards of queries, each answered into a Parquet file."""

import hashlib
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from lib.answers import read_queries
from lib.database import open_database, require_current
from lib.errors import BadArgumentError, MissingError
from lib.queries import embed_queries
from lib.search import top_k
from lib.semantic_space import SemanticSpace, load_semantic_space
from lib.storage import exists, join, read_json, read_table, write_json_atomic, write_table_atomic

SHARD_QUERIES = 20_000
_RUN_FILE = "_run.json"  # an underscore: readers of the directory pass it over
_SCORES_AT_ONCE = 64_000_000  # bounds the queries of one matrix product by the collection's size

ANSWERS = pa.schema(
    [
        pa.field("number", pa.int64()),  # of the query in its file, from 0, blank lines left out
        pa.field("query", pa.string()),
        pa.field("image_ids", pa.list_(pa.string())),  # best first
        pa.field("uris", pa.list_(pa.string())),
        pa.field("scores", pa.list_(pa.float32())),  # cosines
        pa.field("unknown_words", pa.list_(pa.string())),
        pa.field("error", pa.string()),  # why the query has no answer; empty where it has one
    ]
)


@dataclass(frozen=True)
class BatchReport:
    """What a batch run did; `shards_answered` were not there from an earlier run."""

    queries: int
    failed: int  # queries that could not be used; their rows say why
    shards: int
    shards_answered: int
    seconds: float
    database_version: int


def run_batch_queries(
    db: str,
    queries_file: str,
    output: str,
    k: int = 10,
    word_vectors: str | None = None,
    shard_queries: int = SHARD_QUERIES,
) -> BatchReport:
    """Answer every query of a file into `output/*.parquet` (schema ANSWERS). Ray must be up.

    The collection lies once in each node's object store, whatever the number of tasks. A shard's
    file appears whole when its queries are answered, and a rerun of the same queries on the same
    database version goes on with the shards that are missing. A query that cannot be used costs
    the others nothing. Raises BadArgumentError for k < 1 or where `output` holds another run.
    """
    if k < 1:
        raise BadArgumentError(f"k must be at least 1, not {k}")
    start = time.monotonic()
    queries = read_queries(queries_file)
    database = open_database(db)
    space = load_semantic_space(db, word_vectors)
    require_current(database, space)
    _claim(
        output,
        {
            "queries_sha256": _digest(queries),
            "k": k,
            "database_version": database.version,
            "embedder_digest": space.digest,
            "shard_queries": shard_queries,
        },
    )
    shards = range(0, len(queries), shard_queries)
    missing = [first for first in shards if not exists(_part(output, first))]
    collection = ray.put(
        (database.embeddings, pa.array(database.image_ids), pa.array(database.uris))
    )
    tasks = (
        _answer_shard.remote(
            collection,
            db,
            word_vectors,
            space.digest,
            queries[first : first + shard_queries],
            first,
            k,
            _part(output, first),
        )
        for first in missing
    )
    failed = _run_all(tasks, len(missing), shard_queries)
    for first in set(shards) - set(missing):
        failed += _count_failed(_part(output, first))
    return BatchReport(
        queries=len(queries),
        failed=failed,
        shards=len(shards),
        shards_answered=len(missing),
        seconds=time.monotonic() - start,
        database_version=database.version,
    )


def _part(output: str, first: int) -> str:
    return join(output, f"part-{first:010d}.parquet")


def _digest(queries: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(queries).encode("utf-8", "surrogatepass")).hexdigest()


def _claim(output: str, run: dict[str, Any]) -> None:
    """Write down which run the output belongs to, or refuse where it is another one's."""
    url = join(output, _RUN_FILE)
    try:
        found = read_json(url)
    except MissingError:
        write_json_atomic(url, run)
        return
    if found != run:
        changed = ", ".join(sorted(key for key in run if found.get(key) != run[key]))
        raise BadArgumentError(
            f"{output} holds answers of another run (other {changed}); give another --output"
        )


def _run_all(tasks: Iterator["ray.ObjectRef[int]"], count: int, shard_queries: int) -> int:
    """Run tasks with two for each CPU in flight; returns the number of failed queries."""
    in_flight = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
    running: list[ray.ObjectRef[int]] = []
    done = failed = 0
    start = shown = time.monotonic()
    while True:
        while len(running) < in_flight and (task := next(tasks, None)) is not None:
            running.append(task)
        if not running:
            return failed
        finished, running = ray.wait(running)
        failed += sum(ray.get(finished))
        done += len(finished)
        now = time.monotonic()
        if now - shown > 5 or done == count:
            shown = now
            rate = done * shard_queries / (now - start)
            left = (count - done) * shard_queries / rate
            print(
                f"{done}/{count} shards, {rate:,.0f} queries/s, {left:,.0f} s left, "
                f"{failed} queries without answer",
                file=sys.stderr,
            )


@cache
def _space(db: str, word_vectors: str | None, digest: str) -> SemanticSpace:
    """The semantic space, loaded once in each worker process."""
    space = load_semantic_space(db, word_vectors)
    if space.digest != digest:
        raise BadArgumentError(f"the embedder of {db} was replaced during the run; run it again")
    return space


@ray.remote
def _answer_shard(
    collection: tuple[np.ndarray, pa.Array, pa.Array],
    db: str,
    word_vectors: str | None,
    digest: str,
    queries: list[str],
    first: int,
    k: int,
    url: str,
) -> int:
    """Write the answers of some queries; returns how many have none."""
    encoder = _space(db, word_vectors, digest).text
    embeddings, image_ids, uris = collection
    vectors, problems = embed_queries(encoder, queries)
    usable = np.array([problem is None for problem in problems], bool)
    rows, scores = _search(vectors[usable], embeddings, k)
    width = rows.shape[1]
    # An unusable query gets an empty list.
    offsets = pa.array(np.concatenate([[0], np.cumsum(usable * width)]), pa.int32())
    found = pa.array(rows.reshape(-1))
    columns = [
        pa.array(np.arange(first, first + len(queries))),
        pa.array(queries),
        pa.ListArray.from_arrays(offsets, image_ids.take(found)),
        pa.ListArray.from_arrays(offsets, uris.take(found)),
        pa.ListArray.from_arrays(offsets, pa.array(scores.reshape(-1))),
        pa.array([encoder.unknown_words(query) for query in queries], pa.list_(pa.string())),
        pa.array(["" if problem is None else str(problem) for problem in problems]),
    ]
    write_table_atomic(pa.Table.from_arrays(columns, schema=ANSWERS), url, compression="zstd")
    return int((~usable).sum())


def _search(vectors: np.ndarray, embeddings: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    at_once = max(64, min(4096, _SCORES_AT_ONCE // max(1, len(embeddings))))
    parts = [
        top_k(vectors[start : start + at_once], embeddings, k)
        for start in range(0, max(1, len(vectors)), at_once)
    ]
    return np.concatenate([rows for rows, _ in parts]), np.concatenate([s for _, s in parts])


def _count_failed(url: str) -> int:
    errors = read_table(url, ["error"])["error"].to_pylist()
    return sum(1 for error in errors if error)
