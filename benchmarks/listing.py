"""What a very long image list costs the driver: time and peak memory of planning a run.

python -m benchmarks.listing --names 10000000 [--json FILE]
"""

import argparse
import json
import random
import resource
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lib.cluster import connect
from lib.descriptors.plan import make_plan
from lib.descriptors.shards import cut_shards
from lib.images.listing import list_images


def main() -> None:
    """Write a list in random order, plan it, and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--names", type=int, default=10_000_000)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        listing = write_list(options.names, Path(folder) / "list.parquet")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        with connect():
            start = time.perf_counter()
            plan = make_plan(list_images(str(listing)), str(Path(folder) / "db"))
            images = sum(len(shard.images) for shard in cut_shards(plan.pending, 1000))
            seconds = time.perf_counter() - start
    assert images == options.names
    figures = {
        "names": options.names,
        "plan_s": seconds,
        "peak_before_mib": before,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    for name, value in figures.items():
        print(f"{name:20} {value:,.1f}")
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=1) + "\n")


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


if __name__ == "__main__":
    main()
