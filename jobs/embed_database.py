"""Embed the whole collection: DB/descriptors through the embedder into DB/embeddings."""

import argparse
import dataclasses
from typing import Any, NoReturn

from jobs import command


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this job."""
    arguments = command.parser(
        "embed_database", __doc__ or "", "python -m jobs.embed_database --db my.db"
    )
    command.add_database(arguments)
    arguments.add_argument(
        "--embedder",
        metavar="DB_OR_FILE_OR_URL",
        help="take one that was trained elsewhere, on descriptors of the same network",
    )
    arguments.add_argument(
        "--check", action="store_true", help="read all embeddings, and restore what is damaged"
    )
    return arguments


def embed(options: argparse.Namespace) -> dict[str, Any]:
    """Run the job; returns its summary."""
    from lib.cluster import connect, run_on_workers
    from lib.database.embed import embed_database
    from lib.embedder.space import adopt_embedder

    if options.embedder:
        adopted = adopt_embedder(options.db, options.embedder)
        print(f"embedder {adopted.digest[:12]} of {options.embedder}")
    with connect():
        report = embed_database(options.db, run_on_workers, options.check)
    removed = f" ({report.removed} removed)" if report.removed else ""
    print(
        f"{report.images} images can be searched{removed}, in {report.files} files, "
        f"{report.files_embedded} of them embedded now; database version {report.version}"
    )
    return dataclasses.asdict(report)


def main(argv: list[str] | None = None) -> NoReturn:
    """Run this job as a command."""
    command.run(build_parser(), embed, argv)


if __name__ == "__main__":
    main()
