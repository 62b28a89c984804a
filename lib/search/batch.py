"""A million text queries as a Ray job: shards of queries, each answered into a Parquet file."""

import hashlib
import itertools
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa

from lib.database.interface import Collection, Filter
from lib.database.manifest import Manifest, read_manifest
from lib.database.opening import load_version
from lib.database.remote import RemoteCollection, choose_shards
from lib.embedder.space import load_semantic_space
from lib.errors import BadArgumentError, MismatchError, MissingError
from lib.parquet import read_table, write_table_atomic
from lib.progress import Progress
from lib.search.query_files import iterate_queries
from lib.storage import absolute, exists, join, read_json, sweep_temporary, write_json_atomic
from lib.tasks import Runner, run_on_workers
from lib.text.query import embed_queries
from lib.text.word_vectors import absolute_source

SHARD_QUERIES = 20_000
_RUN_FILE = "_run.json"  # an underscore: readers of the directory pass it over
Shard = tuple[int, list[str]]  # number of the first query, and the queries

ANSWERS = pa.schema(
    [
        # Of the query in its file, from 0; blank and broken lines are left out.
        pa.field("number", pa.int64()),
        pa.field("query", pa.string()),
        # Best first. Of a shard's queries they may come to more than the 2 GB of a plain string.
        pa.field("image_ids", pa.list_(pa.large_string())),
        pa.field("uris", pa.list_(pa.large_string())),
        pa.field("scores", pa.list_(pa.float32())),  # cosines
        pa.field("unknown_words", pa.list_(pa.string())),
        pa.field("error", pa.string()),  # why the query has no answer; empty where it has one
    ]
)


@dataclass(frozen=True)
class BatchReport:
    """What a batch run did; `…_answered` counts what was not there from an earlier run."""

    queries: int
    failed: int  # queries that could not be used; their rows say why
    shards: int
    shards_answered: int
    queries_answered: int
    seconds: float
    database_version: int
    notes: list[str]  # of lines of the file that are no queries


def run_batch_queries(
    db: str,
    queries_file: str,
    output: str,
    k: int = 10,
    word_vectors: str | None = None,
    image_filter: Filter | None = None,
    shard_queries: int = SHARD_QUERIES,
    database_shards: int | None = None,
    run: Runner = run_on_workers,
) -> BatchReport:
    """Answer every query of a file into `output/*.parquet` (schema ANSWERS).

    Ray must be up, unless `run` is `run_here` and `database_shards` 1.

    Each worker process opens the collection for itself; one too large for a node's memory is
    searched by actors that hold a part each (`database_shards`, from size and memory unless
    given). Of the queries only those at work are in memory. A shard's file appears whole when its
    queries are answered, and a rerun of the same queries on the same database version goes on with
    the shards that are missing. A query that cannot be used costs the others nothing. Raises
    BadArgumentError for k < 1 or where `output` holds another run.
    """
    if k < 1:
        raise BadArgumentError(f"k must be at least 1, not {k}")
    start = time.monotonic()
    count, digest, notes = _count_and_digest(queries_file)
    db, output = absolute(db), absolute(output)
    manifest = read_manifest(db)
    words = absolute_source(word_vectors)
    _load_space(db, words, manifest.embedder_digest)  # what cannot work fails here, at once
    shared: RemoteCollection | None = None
    if (choose_shards(db, manifest) if database_shards is None else database_shards) > 1:
        shared = RemoteCollection(db, database_shards)
    claim = {
        "queries_sha256": digest,
        "k": k,
        "filter": None if image_filter is None else asdict(image_filter),
        "database_version": manifest.version,
        "embedder_digest": manifest.embedder_digest,
        "shard_queries": shard_queries,
    }
    _claim(output, claim)
    sweep_temporary(output)
    firsts = range(0, count, shard_queries)
    finished = {first for first in firsts if exists(_part(output, first))}

    shards = (s for s in _shards(queries_file, shard_queries) if s[0] not in finished)
    missing = [min(shard_queries, count - first) for first in firsts if first not in finished]
    common = (db, manifest, words, shared, k, image_filter, output)
    with Progress(sum(missing), "queries") as progress:
        for answered, failed in run(_answer_shard, common, shards):
            progress.advance(answered, failed=failed)
    return BatchReport(
        queries=count,
        failed=progress.failed + sum(_count_failed(_part(output, first)) for first in finished),
        shards=len(firsts),
        shards_answered=len(missing),
        queries_answered=sum(missing),
        seconds=time.monotonic() - start,
        database_version=manifest.version,
        notes=notes,
    )


def _shards(queries_file: str, size: int) -> Iterator[Shard]:
    """Number of the first query, and the queries, of each shard."""
    queries = iterate_queries(queries_file)
    for first in itertools.count(0, size):
        texts = list(itertools.islice(queries, size))
        if not texts:
            return
        yield first, texts


def _count_and_digest(queries_file: str) -> tuple[int, str, list[str]]:
    digest, count, notes = hashlib.sha256(), 0, list[str]()
    for count, text in enumerate(iterate_queries(queries_file, notes), 1):  # noqa: B007
        digest.update(text.encode() + b"\n")
    return count, digest.hexdigest(), notes


def _part(output: str, first: int) -> str:
    return join(output, f"part-{first:010d}.parquet")


def _claim(output: str, run: dict[str, Any]) -> None:
    """Write down which run the output belongs to, or refuse where it is another one's."""
    url = join(output, _RUN_FILE)
    try:
        earlier = read_json(url)
    except MissingError:
        write_json_atomic(url, run)
        return
    if earlier != run:
        changed = ", ".join(sorted(key for key in run if earlier.get(key) != run[key]))
        raise BadArgumentError(
            f"{output} holds answers of another run (other {changed}); give another --output"
        )


_load_space = cache(load_semantic_space)  # once in each worker process: word vectors are large


@cache
def _open(db: str, manifest: Manifest) -> Collection:
    try:
        return load_version(db, manifest)
    except MissingError as error:
        raise MismatchError(
            f"the embeddings of {db} were replaced meanwhile ({error}); run it again with another "
            "--output"
        ) from error


def _answer_shard(
    db: str,
    manifest: Manifest,
    word_vectors: str | None,
    shared: RemoteCollection | None,
    k: int,
    image_filter: Filter | None,
    output: str,
    shard: Shard,
) -> tuple[int, int]:
    """Write the answers of some queries; returns how many they are, and how many have none."""
    first, queries = shard
    collection = _open(db, manifest) if shared is None else shared
    space = _load_space(db, word_vectors, manifest.embedder_digest)
    batch = embed_queries(space.text, queries)
    usable = np.array([problem is None for problem in batch.problems], bool)
    hits = collection.search_images(batch.embeddings[usable], k, image_filter)
    # An unusable query gets an empty list.
    widths = np.where(usable, hits.scores.shape[1], 0)
    offsets = pa.array(np.concatenate([[0], np.cumsum(widths)]), pa.int32())
    columns = hits.images.select(["image_id", "uri"]).cast(
        pa.schema([("image_id", pa.large_string()), ("uri", pa.large_string())])
    )
    columns = [
        pa.array(np.arange(first, first + len(queries))),
        pa.array(queries),
        pa.ListArray.from_arrays(offsets, columns["image_id"].combine_chunks()),
        pa.ListArray.from_arrays(offsets, columns["uri"].combine_chunks()),
        pa.ListArray.from_arrays(offsets, pa.array(hits.scores.ravel())),
        pa.array(batch.unknown_words, pa.list_(pa.string())),
        pa.array(["" if problem is None else str(problem) for problem in batch.problems]),
    ]
    table = pa.Table.from_arrays(columns, schema=ANSWERS)
    write_table_atomic(table, _part(output, first), compression="zstd")
    return len(queries), len(queries) - int(usable.sum())


def _count_failed(url: str) -> int:
    errors = read_table(url, ["error"])["error"].to_pylist()
    return sum(1 for error in errors if error)
