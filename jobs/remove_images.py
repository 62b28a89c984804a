"""Take images out of the searchable database; their ids stay known as removed."""

import argparse
from pathlib import Path
from typing import Any, NoReturn

from jobs import command


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this job."""
    made = command.parser(
        "remove_images", __doc__ or "", "python -m jobs.remove_images --db my.db --id 139 --id 285"
    )
    command.add_database(made)
    made.add_argument("--id", action="append", default=[], metavar="ID", help="an image id")
    made.add_argument("--ids", metavar="FILE", help="a text file of image ids, one a line")
    return made


def remove(options: argparse.Namespace) -> dict[str, Any]:
    """Run the job; returns its summary."""
    from lib.database.manifest import remove_images
    from lib.errors import BadArgumentError

    image_ids = list(options.id)
    if options.ids:
        image_ids += [line for line in Path(options.ids).read_text().splitlines() if line]
    if not image_ids:
        raise BadArgumentError("name images with --id ID or --ids FILE")
    removed = remove_images(options.db, image_ids)
    print(f"{removed} images removed; the files shrink with jobs.compact_database")
    return {"removed": removed}


def main(argv: list[str] | None = None) -> NoReturn:
    """Run this job as a command."""
    command.run(build_parser(), remove, argv)


if __name__ == "__main__":
    main()
