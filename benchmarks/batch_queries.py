"""How many text queries a second does the batch job answer?

python -m benchmarks.batch_queries --db my.db --queries 1000000
"""

import dataclasses
import itertools
import tempfile
from pathlib import Path

import benchmarks
from benchmarks.serving import queries, random_database
from lib.cluster import connect
from lib.search.batch import run_batch_queries


def main() -> None:
    """Run the benchmark."""
    parser = benchmarks.parser(__doc__)
    parser.add_argument("--db", help="default: random 50-d embeddings")
    parser.add_argument("--images", type=int, default=1_000_000, help="without --db")
    parser.add_argument("--queries", type=int, default=1_000_000)
    parser.add_argument("--k", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        db = options.db or f"{temporary}/db"
        if options.db is None:
            random_database(db, options.images)
        file = Path(temporary) / "queries.txt"
        file.write_text("\n".join(itertools.islice(queries(0), options.queries)))
        with connect():
            report = run_batch_queries(db, str(file), f"{temporary}/answers", options.k)
        files = Path(temporary, "answers").glob("*.parquet")
        summary = {
            **dataclasses.asdict(report),
            "queries_per_s": round(report.queries_answered / report.seconds),
            "answer_megabytes": round(sum(part.stat().st_size for part in files) / 1e6),
        }
    print(summary)
    benchmarks.write_json(options.json, summary)


if __name__ == "__main__":
    main()
