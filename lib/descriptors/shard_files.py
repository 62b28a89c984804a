"""What became of a shard, as files of the database."""

import time
from collections import Counter

import pyarrow as pa

from lib.descriptors.extractor import ExtractedShard
from lib.descriptors.shards import Shard, ShardReport
from lib.descriptors.store import Failure, writing
from lib.parquet import write_table_atomic
from lib.schemas import FAILURES
from lib.storage import join


def write_shard(db: str, shard: Shard, result: ExtractedShard) -> ShardReport:
    """Write what became of a shard's images: the failures, and then the descriptors."""
    start = time.perf_counter()
    _write(db, "failures", shard, result.failures)
    _write(db, "descriptors", shard, result.descriptors)
    result.seconds["write"] += time.perf_counter() - start
    return ShardReport(result.descriptors.num_rows, *_failures(result.failures), result.seconds)


def record_crash(db: str, shard: Shard, error: BaseException) -> ShardReport:
    """Note that an image, alone in a shard, takes down every process that touches it."""
    failure = Failure("crashed", f"every worker that tried it died ({type(error).__name__})")
    table = pa.Table.from_pylist([failure.row(image) for image in shard.images], schema=FAILURES)
    _write(db, "failures", shard, table)
    return ShardReport(0, *_failures(table), {})


def _write(db: str, kind: str, shard: Shard, table: pa.Table) -> None:
    if table.num_rows:
        write_table_atomic(table, join(db, kind, f"{shard.name}.parquet"), **writing(kind))


def _failures(table: pa.Table) -> tuple[int, Counter[str], str]:
    rows = table.select(["uri", "reason", "message"]).slice(0, 1).to_pylist()
    example = f"{rows[0]['uri']}: {rows[0]['reason']}, {rows[0]['message']}" if rows else ""
    return table.num_rows, Counter(table.column("reason").to_pylist()), example
