"""What planning costs the driver: a long list against nothing, then against all of it described.

python -m benchmarks.listing --names 1000000 [--files 200000] [--json FILE]

Memory is the driver's own, without what it sees of Ray's object store. `--files` adds a tree of
folders, listed in one process and then in tasks.
"""

import multiprocessing
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import benchmarks
from lib.cluster import connect
from lib.descriptors.listing import list_source
from lib.descriptors.plan import ExtractionPlan, carry_out, make_plan
from lib.descriptors.shards import ExtractionSettings, cut_shards
from lib.images.listing import list_images
from lib.parquet import write_table_atomic
from lib.schemas import Provenance, descriptor_schema, vectors_to_column

_FILE_ROWS = 50_000
_FOLDER_FILES = 200


def main() -> None:
    """Write a list in random order, plan it, describe it in pretence, plan it again, and report."""
    parser = benchmarks.parser(__doc__)
    parser.add_argument("--names", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=0)
    options = parser.parse_args()
    figures: dict[str, float] = {"names": options.names}
    spawn = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(1, spawn) as writer,  # whose memory is not the driver's
        connect(),
    ):
        listing, db = f"{folder}/list.parquet", f"{folder}/db"
        writer.submit(write_list, options.names, Path(listing)).result()
        with _measured(figures, "from_nothing"):
            plan = _plan(listing, db)
        assert sum(len(shard.images) for shard in cut_shards(plan.pending, 1000)) == options.names
        writer.submit(write_database, Path(listing), db).result()
        with _measured(figures, "nothing_changed"):
            plan = _plan(listing, db)
        assert (plan.described, plan.pending.count) == (options.names, 0)
        writer.submit(write_more, listing, f"{folder}/more.parquet").result()
        with _measured(figures, "hundredth_more"):
            plan = _plan(f"{folder}/more.parquet", db)
        assert (plan.described, plan.pending.count) == (options.names, options.names // 100)
        writer.submit(write_half, listing, f"{folder}/half.parquet").result()
        plan = _plan(f"{folder}/half.parquet", db, prune=True)
        with _measured(figures, "drop_half"):
            carry_out(plan)
        if options.files:
            tree = f"{folder}/tree"
            writer.submit(write_tree, options.files, Path(tree)).result()
            with _measured(figures, "files_in_one_process"):
                assert sum(1 for _ in list_images(tree)) == options.files
            with _measured(figures, "files_in_tasks"):
                tables = list(list_source(tree, ExtractionSettings(), Counter()))
            assert sum(table.rows for table in tables) == options.files
    for name, value in figures.items():
        print(f"{name:32} {value:,.1f}")
    benchmarks.write_json(options.json, figures)


def _plan(source: str, db: str, prune: bool = False) -> ExtractionPlan:
    return make_plan(list_source(source, ExtractionSettings(), Counter()), db, prune)


@contextmanager
def _measured(figures: dict[str, float], what: str) -> Iterator[None]:
    """Note the seconds of a block, the memory before and the most at any time of it in MiB."""
    figures[f"{what}_before_mib"] = peak = _own_mib()
    ended = threading.Event()

    def look() -> None:
        nonlocal peak
        while not ended.wait(0.01):
            peak = max(peak, _own_mib())

    thread = threading.Thread(target=look)
    thread.start()
    start = time.perf_counter()
    try:
        yield
    finally:
        figures[f"{what}_s"] = time.perf_counter() - start
        ended.set()
        thread.join()
        figures[f"{what}_peak_mib"] = peak


def _own_mib() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) / 1024


def write_tree(files: int, root: Path) -> None:
    """Empty files named as pictures, in folders of folders."""
    for first in range(0, files, _FOLDER_FILES):
        folder = root / f"{first % 97:02}" / f"{first:010}"
        folder.mkdir(parents=True)
        for number in range(first, min(first + _FOLDER_FILES, files)):
            (folder / f"{number:010}.jpg").touch()


def write_more(listing: str, target: str) -> None:
    """A list with a hundredth of other names after it."""
    table = pq.read_table(listing)
    more = table.slice(0, len(table) // 100).to_pydict()
    other = {name: [f"{value}.png" for value in values] for name, values in more.items()}
    pq.write_table(pa.concat_tables([table, pa.table(other, schema=table.schema)]), target)


def write_half(listing: str, target: str) -> None:
    """The first half of a list."""
    table = pq.read_table(listing)
    pq.write_table(table.slice(0, len(table) // 2), target)


def write_list(names: int, target: Path) -> None:
    """A Parquet list of made-up URIs in an order that no sort finds easy."""
    schema = pa.schema([("uri", pa.string()), ("path", pa.string())])
    generator = random.Random(0)
    with pq.ParquetWriter(target, schema) as writer:
        for first in range(0, names, 100_000):
            numbers = range(first, min(first + 100_000, names))
            paths = [f"{generator.getrandbits(40):010x}/{number:012}.jpg" for number in numbers]
            uris = [f"s3://bucket/images/{path}" for path in paths]
            writer.write_table(pa.table({"uri": uris, "path": paths}, schema=schema))


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
