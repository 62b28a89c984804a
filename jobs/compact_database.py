"""Merge small embedding files and drop removed images for good."""

import argparse

from jobs import command


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this job."""
    arguments = command.parser(__doc__, "python -m jobs.compact_database --db my.db", "--db")
    arguments.add_argument(
        "--grace-hours",
        type=command.at_least(0, float),
        default=24.0,
        metavar="H",
        help="keep the files of versions replaced less than H hours ago (default: 24)",
    )
    return arguments


def compact(options: argparse.Namespace) -> object:
    """Run the job; returns its summary."""
    from lib.database.compaction import compact_database
    from lib.tasks import run_where_it_pays

    report = compact_database(options.db, run=run_where_it_pays, grace_s=3600 * options.grace_hours)
    print(
        f"{report.files_before} files are now {report.files_after}, {report.rows_dropped} removed "
        f"images dropped, {report.files_deleted} files of older versions deleted; database version "
        f"{report.version}"
    )
    return report


main = command.main(build_parser, compact)

if __name__ == "__main__":
    main()
