"""How fast is exact search, beside faiss, usearch, numpy and the bare matrix product?

python -m benchmarks.search                    100,000, a million and ten million rows
python -m benchmarks.search --rows 1000000     one size
python -m benchmarks.search --plan FILE        what 10⁹ images need, from a --json FILE
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from usearch.index import search as usearch_search

import benchmarks
from lib.database.interface import Hits, merge_hits
from lib.database.remote import shards_needed
from lib.topk.adaptive import AdaptiveSearch
from lib.topk.exact import ExactSearch

ROWS = (100_000, 1_000_000, 10_000_000)
BATCHES = (1, 32, 256)
MAX_SCORES = 5 * 10**8  # the bare product and numpy keep all of them: 2 GB


def milliseconds(work: Callable[[], Any], repeats: int) -> float:
    """The best of some runs after one to warm up: others use the machine as well."""
    return min(benchmarks.seconds(work, repeats)) * 1000


def methods(
    embeddings: np.ndarray,
    queries: np.ndarray,
    k: int,
    searches: dict[str, ExactSearch | AdaptiveSearch],
    all_: bool,
) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Name and work of each method that is worth its time at this size."""
    scores = len(queries) * len(embeddings)
    if scores <= MAX_SCORES:
        texts, images = torch.from_numpy(queries), torch.from_numpy(embeddings)
        out = torch.empty(len(queries), len(embeddings))
        yield "bare product", lambda: torch.mm(texts, images.T, out=out)
    if all_ and len(embeddings) <= 1_000_000:
        index = faiss.IndexFlatIP(embeddings.shape[1])
        index.add(embeddings)
        yield "faiss IndexFlatIP", lambda: index.search(queries, k)
    if all_ and scores <= 32_000_000:
        yield "numpy argpartition", lambda: np.argpartition(-(queries @ embeddings.T), k, axis=1)
        yield (
            "usearch exact",
            lambda: usearch_search(embeddings, queries, k, "ip", exact=True),
        )
    for name, search in searches.items():
        yield name, lambda search=search: search.top_k(queries, k)  # type: ignore[misc]


def measure(rows: int, dimension: int, repeats: int) -> Iterator[dict[str, Any]]:
    """One row of the table for each batch, k and method."""
    embeddings = benchmarks.drawn_unit_rows(rows, dimension, 0)
    default = AdaptiveSearch(embeddings)
    default.prepare()
    searches: dict[str, ExactSearch | AdaptiveSearch] = {
        "exact default": default,
        "exact float32": ExactSearch(embeddings),
        "exact int8": ExactSearch(embeddings, "int8"),
    }
    if rows <= 1_000_000:
        searches["exact bfloat16"] = ExactSearch(embeddings, "bfloat16")
    for batch, k in [(batch, 10) for batch in BATCHES] + [(32, 100)]:
        queries = benchmarks.drawn_unit_rows(batch, dimension, 1)
        answers = [search.top_k(queries, k) for search in searches.values()]
        identical = all(
            np.array_equal(answers[0][part], answer[part]) for answer in answers for part in (0, 1)
        )
        taken = {
            name: milliseconds(work, repeats)
            for name, work in methods(embeddings, queries, k, searches, k == 10)
        }
        for name, time_ms in taken.items():
            row = {"method": name, "N": rows, "d": dimension, "batch": batch, "k": k}
            row["milliseconds"] = round(time_ms, 2)
            for other, label in (("faiss IndexFlatIP", "faiss"), ("bare product", "bare")):
                ratio = round(taken[other] / time_ms, 2) if other in taken else None
                row[f"times_as_fast_as_{label}"] = ratio
            row["precisions_identical"] = identical
            yield row


def plan(table: list[dict[str, Any]], rows: int = 10**9, memory_gib: int = 64) -> None:
    """Print the machines, memory and latency of a larger collection, by proportion.

    Assumes that a shard's time is that of the largest N measured times its share of the rows,
    on machines with this one's cores. Merging is measured here and added; the network is not.
    """
    measured = max(row["N"] for row in table)
    shards = shards_needed(rows, table[0]["d"], memory_gib * 2**30)
    print(f"{rows:,} images, d = {table[0]['d']}, from N = {measured:,}: {shards} machines")
    print(
        f"of {memory_gib} GiB, {rows / shards * table[0]['d'] * 4 / 2**30:.1f} GiB of float32 each"
    )
    for row in table:
        if row["N"] == measured and row["k"] == 10 and row["method"].startswith("exact"):
            merging = merging_ms(shards, row["batch"], row["k"])
            ms = row["milliseconds"] * rows / shards / measured + merging
            print(f"{row['method']:<16} batch {row['batch']:>3}: {ms:>7.0f} ms a batch, ", end="")
            print(f"{row['batch'] / ms * 1000:.1f} queries/s, {merging:.0f} ms of it merging")


def merging_ms(shards: int, queries: int, k: int) -> float:
    """Milliseconds to merge the answers of some shards to a batch of queries."""
    random = np.random.default_rng(0)
    ids = iter(random.permutation(shards * queries * k).tolist())
    parts = []
    for _ in range(shards):
        names = [str(next(ids)) for _ in range(queries * k)]
        columns = {"image_id": names, "uri": names, "etag": names, "width": 640, "height": 480}
        scores = -np.sort(-random.random((queries, k), dtype=np.float32), axis=1)
        parts.append(Hits(pa.table(pd.DataFrame(columns)), scores))
    return milliseconds(lambda: merge_hits(parts, k), 5)


def main() -> None:
    """Run the benchmark."""
    parser = benchmarks.parser(__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--dimension", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--plan", metavar="FILE", help="measure nothing")
    options = parser.parse_args()
    if options.plan:
        plan(json.loads(Path(options.plan).read_text()))
        return
    table = []
    print(f"{'N':>10} {'batch':>5} {'k':>4}  {'method':<20} {'ms':>9} {'× faiss':>8} {'× bare':>7}")
    for rows in options.rows:
        for row in measure(rows, options.dimension, options.repeats):
            table.append(row)
            faiss_ratio, bare = row["times_as_fast_as_faiss"], row["times_as_fast_as_bare"]
            print(
                f"{row['N']:>10} {row['batch']:>5} {row['k']:>4}  {row['method']:<20} "
                f"{row['milliseconds']:>9.2f} {faiss_ratio or '–':>8} {bare or '–':>7}"
                f"{'' if row['precisions_identical'] else '  DIFFERENT ANSWERS'}",
                flush=True,
            )
    benchmarks.write_json(options.json, table)


if __name__ == "__main__":
    main()
