"""Embed the whole collection: DB/descriptors through the embedder into DB/embeddings."""

import argparse

from jobs import command


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this job."""
    arguments = command.parser(
        __doc__, "python -m jobs.embed_database --db my.db", "--db --embedder"
    )
    arguments.add_argument(
        "--check", action="store_true", help="read all embeddings, and restore what is damaged"
    )
    return arguments


def embed(options: argparse.Namespace) -> object:
    """Run the job; returns its summary."""
    from lib.database.embed import embed_database
    from lib.embedder.space import adopt_embedder
    from lib.tasks import run_where_it_pays

    if options.embedder:
        adopted = adopt_embedder(options.db, options.embedder)
        print(f"embedder {adopted.digest[:12]} of {options.embedder}")
    report = embed_database(options.db, run_where_it_pays, options.check)
    removed = f" ({report.removed} removed)" if report.removed else ""
    print(
        f"{report.images} images can be searched{removed}, in {report.files} files, "
        f"{report.files_embedded} of them embedded now; database version {report.version}"
    )
    return report


main = command.main(build_parser, embed)

if __name__ == "__main__":
    main()
