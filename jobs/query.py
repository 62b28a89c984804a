"""Find the images that text queries describe: rank, image id, score and file of the top k."""

import argparse
import time
from typing import Any

from jobs import command
from lib.errors import BadArgumentError, QueryError


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this job."""
    made = command.parser(
        "query", __doc__ or "", 'python -m jobs.query --db my.db "orange juice" "two dogs"'
    )
    command.add_database(made)
    made.add_argument("query", nargs="*", help='such as: "orange juice", "dog -person"')
    made.add_argument(
        "--queries", metavar="FILE", help=".txt (one a line), .csv or .parquet (column query)"
    )
    made.add_argument("--k", type=int, default=10, help="images per query (default: 10)")
    made.add_argument(
        "--output", metavar="FILE", help="write results as .parquet, .json, .html or .png"
    )
    made.add_argument("--captions", metavar="FILE", help="captions to show below the images")
    made.add_argument("--word-vectors", metavar="FILE", help="default: those of training")
    return made


def query(options: argparse.Namespace) -> dict[str, Any]:
    """Answer the queries and report."""
    from lib.answers import answer, format_answer, read_queries, write_answers
    from lib.captions import load_captions
    from lib.database import open_database, require_current
    from lib.semantic_space import load_semantic_space

    queries = options.query + (read_queries(options.queries) if options.queries else [])
    if not queries:
        raise BadArgumentError('give a query, such as "orange juice", or --queries FILE')
    captions = load_captions(options.captions) if options.captions else None
    space = load_semantic_space(options.db, options.word_vectors)
    database = open_database(options.db)
    require_current(database, space)
    start = time.perf_counter()
    answers = answer(queries, space, database, options.k)
    seconds = time.perf_counter() - start
    failed = [item for item in answers if item.error]
    if len(failed) == len(answers):
        raise QueryError(f"{failed[0].query!r}: {failed[0].error}")
    if options.output:
        write_answers(options.output, answers, captions)
        print(f"{len(answers)} answers in {options.output}")
    if not options.output or not options.queries:
        print("\n\n".join(map(format_answer, answers)))
    if options.k > len(database):
        print(f"\nonly {len(database)} images are in the database, fewer than --k {options.k}")
    print(
        f"\n{len(answers)} queries over {len(database)} images in {seconds * 1000:.0f} ms"
        + (f"; {len(failed)} could not be answered" if failed else "")
    )
    return {
        "queries": len(answers),
        "failed": [{"query": item.query, "error": item.error} for item in failed],
        "images": len(database),
        "seconds": seconds,
        "output": options.output,
    }


if __name__ == "__main__":
    command.run(build_parser(), query)
