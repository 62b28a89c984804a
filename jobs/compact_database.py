"""Merge small embedding files and drop removed images for good."""

import argparse
import dataclasses
from typing import Any, NoReturn

from jobs import command


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this job."""
    made = command.parser(
        "compact_database", __doc__ or "", "python -m jobs.compact_database --db my.db"
    )
    command.add_database(made)
    return made


def compact(options: argparse.Namespace) -> dict[str, Any]:
    """Run the job; returns its summary."""
    from lib.database.compaction import compact_database

    report = compact_database(options.db)
    print(
        f"{report.files_before} files are now {report.files_after}, {report.rows_dropped} removed "
        f"images dropped; database version {report.version}"
    )
    return dataclasses.asdict(report)


def main(argv: list[str] | None = None) -> NoReturn:
    """Run this job as a command."""
    command.run(build_parser(), compact, argv)


if __name__ == "__main__":
    main()
