"""What planning costs the driver: a long list against nothing, then against all of it described.

python -m benchmarks.listing --names 1000000 [--json FILE]
"""

import argparse
import json
import random
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lib.cluster import connect
from lib.descriptors.plan import ExtractionPlan, carry_out, make_plan
from lib.descriptors.shards import cut_shards
from lib.images.listing import list_images
from lib.schemas import Provenance, descriptor_schema, vectors_to_column
from lib.storage import write_table_atomic

_FILE_ROWS = 50_000


def main() -> None:
    """Write a list in random order, plan it, describe it in pretence, plan it again, and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--names", type=int, default=1_000_000)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    figures: dict[str, float] = {"names": options.names}
    with tempfile.TemporaryDirectory() as folder, connect():
        listing = write_list(options.names, Path(folder) / "list.parquet")
        db = f"{folder}/db"
        figures["before_mib"] = _peak_mib()
        plan, figures["plan_from_nothing_s"] = _timed(listing, db)
        assert sum(len(shard.images) for shard in cut_shards(plan.pending, 1000)) == options.names
        figures["peak_from_nothing_mib"] = _peak_mib()
        write_database(listing, db)
        plan, figures["plan_nothing_changed_s"] = _timed(listing, db)
        assert (plan.described, plan.pending.count) == (options.names, 0)
        figures["peak_mib"] = _peak_mib()
        figures["nothing_changed_s_per_million"] = (
            figures["plan_nothing_changed_s"] / options.names * 1e6
        )
        half = Path(folder) / "half.parquet"
        pq.write_table(pq.read_table(listing).slice(0, options.names // 2), half)
        plan = make_plan(list_images(str(half)), db, prune=True)
        start = time.perf_counter()
        carry_out(plan)
        figures["drop_half_s"] = time.perf_counter() - start
    for name, value in figures.items():
        print(f"{name:32} {value:,.1f}")
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=1) + "\n")


def _timed(listing: Path, db: str) -> tuple[ExtractionPlan, float]:
    start = time.perf_counter()
    plan = make_plan(list_images(str(listing)), db)
    return plan, time.perf_counter() - start


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write_list(names: int, target: Path) -> Path:
    """A Parquet list of made-up URIs in an order that no sort finds easy."""
    schema = pa.schema([("uri", pa.string()), ("path", pa.string())])
    generator = random.Random(0)
    with pq.ParquetWriter(target, schema) as writer:
        for first in range(0, names, 100_000):
            numbers = range(first, min(first + 100_000, names))
            paths = [f"{generator.getrandbits(40):010x}/{number:012}.jpg" for number in numbers]
            uris = [f"s3://bucket/images/{path}" for path in paths]
            writer.write_table(pa.table({"uri": uris, "path": paths}, schema=schema))
    return target


def write_database(listing: Path, db: str) -> None:
    """Descriptors of two values for all that a list names, as extraction would leave them."""
    schema = descriptor_schema(Provenance("none", "0" * 64, "none", "float32", 2))
    for number, batch in enumerate(pq.ParquetFile(listing).iter_batches(_FILE_ROWS)):
        rows = len(batch)
        known = {"uri": batch["uri"], "path": batch["path"], "image_id": batch["path"]}
        known["descriptor"] = vectors_to_column(np.zeros((rows, 2), np.float32))
        columns = [
            known.get(
                field.name, pa.repeat(pa.scalar("" if field.type == pa.string() else 1), rows)
            )
            for field in schema
        ]
        table = pa.table([c.cast(f.type) for c, f in zip(columns, schema, strict=True)], schema)
        write_table_atomic(table, f"{db}/descriptors/{number:06}.parquet")


if __name__ == "__main__":
    main()
