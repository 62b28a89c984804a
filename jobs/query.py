"""Find the images that text queries describe: rank, image id, score and file of the top k."""

import argparse
import itertools
import os
import re
import sys
import time
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NoReturn

from jobs import command
from lib.errors import BadArgumentError, QueryError

if TYPE_CHECKING:
    from lib.database.interface import Filter
    from lib.search.engine import Searcher


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this job."""
    arguments = command.parser(
        __doc__,
        'python -m jobs.query --db my.db "orange juice" "two dogs"',
        "--db --word-vectors --weights",
    )
    arguments.add_argument(
        "query",
        nargs="*",
        help='such as: "orange juice", "dog -person"; one that begins with a '
        'minus comes last, after --: -- "-dog"',
    )
    arguments.add_argument("--like", metavar="ID", help="images like this one of the database")
    arguments.add_argument("--image", metavar="FILE", help="images like this file or URL")
    arguments.add_argument(
        "--queries", metavar="FILE", help=".txt (one a line), .csv or .parquet (column query)"
    )
    arguments.add_argument("--k", type=int, default=10, help="images per query (default: 10)")
    arguments.add_argument(
        "--output",
        metavar="FILE|DIR/",
        help="write results as .parquet, .json, .html or .png; a directory makes it a Ray job "
        "that answers any number of --queries into Parquet files and resumes",
    )
    arguments.add_argument("--captions", metavar="FILE", help="captions to show below the images")
    images = arguments.add_argument_group("which images may be found (all conditions must hold)")
    images.add_argument(
        "--path-prefix", metavar="PATH", help='whose path in --images begins so, such as "2019/"'
    )
    images.add_argument("--min-width", type=int, metavar="PIXELS")
    images.add_argument("--min-height", type=int, metavar="PIXELS")
    images.add_argument("--orientation", choices=("landscape", "portrait", "square"))
    images.add_argument(
        "--distinct", action="store_true", help="of copies of a file the first alone"
    )
    return arguments


def query(options: argparse.Namespace) -> dict[str, Any]:
    """Answer the queries and report."""
    if not (options.query or options.queries or options.like or options.image):
        raise BadArgumentError(
            'give a query, such as "orange juice", --like ID, --image FILE or --queries FILE'
        )
    if options.like and options.image:
        raise BadArgumentError("give --like or --image, not both")
    if options.output and _is_directory(options.output):
        return _query_as_ray_job(options)
    return _query_here(options)


def _is_directory(output: str) -> bool:
    return output.endswith("/") or not PurePosixPath(output).suffix or Path(output).is_dir()


def _filter(options: argparse.Namespace) -> "Filter | None":
    from lib.database.interface import Filter

    image_filter = Filter(
        path_prefix=options.path_prefix,
        min_width=options.min_width,
        min_height=options.min_height,
        orientation=options.orientation,
        distinct=options.distinct,
    )
    return None if image_filter == Filter() else image_filter


def _query_here(options: argparse.Namespace) -> dict[str, Any]:
    from lib.search.engine import Searcher
    from lib.search.query_files import iterate_queries
    from lib.search.results import require_known_ending

    if options.output:
        require_known_ending(options.output)
    queries, notes = [*options.query], list[str]()
    if options.queries:
        queries += iterate_queries(options.queries, notes)
    command.note_all(notes)
    load = partial(
        Searcher.load, options.db, word_vectors=options.word_vectors, weights=options.weights
    )
    if not os.environ.get("RAY_ADDRESS"):
        return _answer(options, queries or [""], load())
    from lib.cluster import connect
    from lib.database.remote import RemoteCollection

    with connect():
        return _answer(options, queries or [""], load(open_collection=RemoteCollection))


def _answer(
    options: argparse.Namespace, queries: list[str], searcher: "Searcher"
) -> dict[str, Any]:
    from lib.search.engine import Request
    from lib.search.results import answer, format_answer, write_answers

    captions = command.captions_of_images(options.captions, options.db)
    images = searcher.image_count
    image = searcher.se_image(options.image) if options.image else None
    start = time.perf_counter()
    requests = [
        Request(text, options.k, options.like, image, filter=_filter(options)) for text in queries
    ]
    answers = answer(requests, searcher)
    seconds = time.perf_counter() - start
    failed = [item for item in answers if item.error]
    if len(failed) == len(answers):
        raise QueryError(f"{failed[0].query!r}: {'; '.join(failed[0].notes)}")
    if options.output:
        write_answers(options.output, answers, captions)
        print(f"{len(answers)} answers in {options.output}")
    if not options.output or not options.queries:
        print("\n\n".join(map(format_answer, answers)))
    if options.k > images:
        print(f"\nonly {images} images are in the database, fewer than --k {options.k}")
    print(
        f"\n{len(answers)} queries over {images} images in {seconds * 1000:.0f} ms"
        + (f"; {len(failed)} could not be answered" if failed else "")
    )
    return {
        "queries": len(answers),
        "failed": [{"query": item.query, "error": item.error} for item in failed],
        "images": images,
        "seconds": seconds,
        "output": options.output,
    }


def _query_as_ray_job(options: argparse.Namespace) -> dict[str, Any]:
    from lib.cluster import connect
    from lib.search.batch import run_batch_queries

    if options.query or not options.queries or options.captions or options.like or options.image:
        raise BadArgumentError(
            f"--output {options.output} is a directory: its queries come from --queries FILE "
            "alone, and captions are for .html and .png"
        )
    with connect():
        report = run_batch_queries(
            options.db,
            options.queries,
            options.output,
            options.k,
            options.word_vectors,
            _filter(options),
        )
    command.note_all(report.notes)
    if report.failed == report.queries:
        raise QueryError(
            f"no query could be answered; the column error in {options.output} says why"
        )
    kept = report.queries - report.queries_answered
    print(
        f"{report.queries:,} queries answered in {options.output}"
        + (f", {kept:,} of them by an earlier run" if kept else "")
        + f": {report.seconds:.1f} s, {report.queries_answered / report.seconds:,.0f} queries/s; "
        f"{report.failed:,} could not be answered"
    )
    return vars(report) | {"output": options.output}


def main(argv: list[str] | None = None) -> NoReturn:
    """Run this job as a command."""
    arguments = build_parser()
    for argument in itertools.takewhile("--".__ne__, sys.argv[1:] if argv is None else argv):
        if re.fullmatch(r"-[^\W\d]\S*|-\"\S*", argument) and argument != "-h":
            arguments.error(
                f'{argument} looks like an option; a query that begins with "-" is written last, '
                f'after "--": -- "{argument}"'
            )
    command.run(arguments, query, argv)


if __name__ == "__main__":
    main()
