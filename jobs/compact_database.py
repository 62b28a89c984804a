"""Merge small embedding files and drop removed images for good."""

import argparse
import dataclasses
from typing import Any, NoReturn

from jobs import command


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this job."""
    arguments = command.parser(
        "compact_database", __doc__ or "", "python -m jobs.compact_database --db my.db"
    )
    command.add_database(arguments)
    arguments.add_argument(
        "--grace-hours",
        type=float,
        default=24.0,
        metavar="H",
        help="keep the files of versions replaced less than H hours ago (default: 24)",
    )
    return arguments


def compact(options: argparse.Namespace) -> dict[str, Any]:
    """Run the job; returns its summary."""
    from lib.cluster import connect, run_on_workers
    from lib.database.compaction import compact_database
    from lib.errors import BadArgumentError

    if options.grace_hours < 0:
        raise BadArgumentError(f"--grace-hours must be at least 0, not {options.grace_hours}")
    with connect():
        report = compact_database(
            options.db, run=run_on_workers, grace_s=3600 * options.grace_hours
        )
    print(
        f"{report.files_before} files are now {report.files_after}, {report.rows_dropped} removed "
        f"images dropped, {report.files_deleted} files of older versions deleted; database version "
        f"{report.version}"
    )
    return dataclasses.asdict(report)


def main(argv: list[str] | None = None) -> NoReturn:
    """Run this job as a command."""
    command.run(build_parser(), compact, argv)


if __name__ == "__main__":
    main()
