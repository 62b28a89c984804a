"""Makes the README's pictures from the database that `make demo` leaves.

python -m docs.pictures data/sample.db
"""

import sys
from pathlib import Path

from PIL import Image

from lib.database.opening import open_database
from lib.images.contact_sheet import Section, Tile, contact_sheet
from lib.search.engine import Request, Searcher
from lib.search.results import answer

DOCS = Path(__file__).parent
QUERIES = ["orange juice", "dogs on the beach", "a yellow bus", "elephants in the grass"]
SAMPLE = range(501, 543)  # ids: any would do


def main() -> None:
    """Make both pictures."""
    searcher = Searcher.load(sys.argv[1])
    database = open_database(sys.argv[1])
    answers = answer([Request(query, k=6) for query in QUERIES], searcher)
    sections = [
        Section(item.query, [Tile(hit.uri, f"{hit.score:.3f}") for hit in item.hits])
        for item in answers
    ]
    _save(contact_sheet(sections, columns=6, label_lines=1), "results")
    rows = [row for number in SAMPLE if (row := database.row_of(str(number))) is not None]
    tiles = [Tile(database.uris[row], "") for row in rows]
    _save(contact_sheet([Section("", tiles)], columns=7, label_lines=0), "sample")


def _save(sheet: Image.Image, name: str) -> None:
    sheet.thumbnail((1200, 4000), Image.Resampling.LANCZOS)
    sheet.save(DOCS / f"{name}.jpg", quality=84, optimize=True)


if __name__ == "__main__":
    main()
