"""Take images out of the searchable database, or bring them back."""

import argparse
from typing import Any

from jobs import command


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this job."""
    arguments = command.parser(
        __doc__, "python -m jobs.remove_images --db my.db --id 139 --id 285", "--db"
    )
    arguments.add_argument("--id", action="append", default=[], metavar="ID", help="an image id")
    arguments.add_argument("--ids", metavar="FILE", help="a text file of image ids, one a line")
    arguments.add_argument("--undo", action="store_true", help="bring these images back")
    return arguments


def remove(options: argparse.Namespace) -> dict[str, Any]:
    """Run the job; returns its summary."""
    from lib.database.removal import remove_images
    from lib.errors import BadArgumentError
    from lib.storage import read_lines

    image_ids = list(options.id)
    if options.ids:
        image_ids += read_lines(options.ids)
    if not image_ids:
        raise BadArgumentError("name images with --id ID or --ids FILE")
    report = remove_images(options.db, image_ids, options.undo)
    if options.undo:
        more = f", {report.to_embed} of them once jobs.embed_database has run"
        print(f"{report.changed} images brought back{more if report.to_embed else ''}")
        return {"restored": report.changed, "to_embed": report.to_embed}
    print(f"{report.changed} images removed; the files shrink with jobs.compact_database")
    return {"removed": report.changed}


main = command.main(build_parser, remove)

if __name__ == "__main__":
    main()
