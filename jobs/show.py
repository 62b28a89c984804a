"""Show images given their ids, with their captions, as a page (.html) or a contact sheet (.png)."""

import argparse
from typing import Any

from jobs import command


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this job."""
    arguments = command.parser(
        __doc__, "python -m jobs.show --db my.db 139 285 --output page.html", "--db"
    )
    arguments.add_argument("image_id", nargs="+", help="id of an image")
    arguments.add_argument("--output", required=True, metavar="FILE", help=".html or .png")
    arguments.add_argument("--captions", metavar="FILE", help="captions to show below the images")
    return arguments


def show(options: argparse.Namespace) -> dict[str, Any]:
    """Write the picture and report."""
    from lib.database.opening import open_database
    from lib.images.contact_sheet import Section, write_sections
    from lib.search.results import tiles_of

    captions = command.captions_of_images(options.captions, options.db)
    database = open_database(options.db)
    tiles = tiles_of(database, options.image_id, captions)
    shown = [tile.label for tile in tiles]
    absent = [image_id for image_id in options.image_id if image_id not in shown]
    write_sections(options.output, "Images", [Section("", tiles)])
    print(f"{len(tiles)} images in {options.output}")
    if absent:
        print(f"not in the database: {', '.join(absent)}")
    return {"shown": shown, "absent": absent, "output": options.output}


main = command.main(build_parser, show, goes_on=False)

if __name__ == "__main__":
    main()
