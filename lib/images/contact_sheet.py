"""Pictures for people: contact sheets (PNG) and pages of images (HTML, one file, no assets)."""

import base64
import html
import io
import textwrap
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from PIL import Image, ImageDraw, ImageFont

from lib.errors import BadArgumentError
from lib.images.thumbnails import UnreadableImageError, as_jpeg, read_file, small_image
from lib.storage import write_bytes_atomic

THUMBNAIL_SIZE = 240  # pixels, longer side
MARGIN = 12
LABEL_LINES = 3
READERS = 8
_LETTER = 9  # pixels of a letter of a note, in the mean


@dataclass(frozen=True)
class Tile:
    """One image to show: where to open it, a line about it, and its captions."""

    uri: str
    label: str
    captions: Sequence[str] = ()


@dataclass(frozen=True)
class Section:
    """Images under one heading, such as the answers to one query."""

    heading: str
    tiles: Sequence[Tile]
    note: str = ""


def write_sections(path: str, title: str, sections: Sequence[Section]) -> None:
    """Write an .html page or a .png contact sheet, as the ending of `path` says.

    Raises BadArgumentError for another ending.
    """
    if path.endswith(".html"):
        write_bytes_atomic(path, html_page(title, sections).encode())
    elif path.endswith(".png"):
        file = io.BytesIO()
        contact_sheet(sections).save(file, "PNG")
        write_bytes_atomic(path, file.getvalue())
    else:
        raise BadArgumentError(f"{path}: pictures are written as .html or .png")


def thumbnail(uri: str) -> Image.Image | None:
    """The image, RGB and upright, its longer side THUMBNAIL_SIZE; None where it cannot be read."""
    try:
        return small_image(read_file(uri), THUMBNAIL_SIZE)
    except UnreadableImageError:
        return None


def _thumbnails(sections: Sequence[Section]) -> list[list[Image.Image | None]]:
    with ThreadPoolExecutor(READERS) as pool:
        return [list(pool.map(thumbnail, [tile.uri for tile in s.tiles])) for s in sections]


def contact_sheet(
    sections: Sequence[Section], columns: int = 5, label_lines: int = LABEL_LINES
) -> Image.Image:
    """All sections one below the other, `columns` images a row.

    A section's note stands below its heading, and up to `label_lines` lines below each image hold
    its label and then its captions.
    """
    line, heading = 20, 44
    cell = (THUMBNAIL_SIZE + MARGIN, THUMBNAIL_SIZE + MARGIN + label_lines * line)
    widest = max((len(section.tiles) for section in sections), default=1)
    columns = max(1, min(columns, widest))
    rows = [-(-len(section.tiles) // columns) for section in sections]
    headings = sum(heading for section in sections if section.heading)
    width = columns * cell[0] + MARGIN
    notes = [
        textwrap.wrap(section.note, width // _LETTER, max_lines=LABEL_LINES, placeholder=" …")
        for section in sections
    ]
    height = sum(rows) * cell[1] + headings + line * sum(map(len, notes))
    sheet = Image.new("RGB", (width, height + MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    top = MARGIN
    thumbnails = _thumbnails(sections)
    for section, note, count, images in zip(sections, notes, rows, thumbnails, strict=True):
        if section.heading:
            words = _fit(section.heading, _font(24), sheet.width - 2 * MARGIN)
            draw.text((MARGIN, top), words, "black", _font(24))
            top += heading
        for text in note:
            words = _fit(text, _font(15), sheet.width - 2 * MARGIN)
            draw.text((MARGIN, top), words, "#666", _font(15))
            top += line
        for index, (tile, image) in enumerate(zip(section.tiles, images, strict=True)):
            x, y = MARGIN + index % columns * cell[0], top + index // columns * cell[1]
            picture = _unreadable() if image is None else image
            left, above = ((THUMBNAIL_SIZE - length) // 2 for length in picture.size)
            sheet.paste(picture, (x + left, y + above))
            for number, text in enumerate([tile.label, *tile.captions][:label_lines]):
                place = (x, y + THUMBNAIL_SIZE + 4 + number * line)
                fitted = _fit(text, _font(15), THUMBNAIL_SIZE)
                draw.text(place, fitted, "#666" if number else "black", _font(15))
        top += count * cell[1]
    return sheet


def _unreadable() -> Image.Image:
    """What stands for an image that cannot be read."""
    image = Image.new("RGB", (THUMBNAIL_SIZE, THUMBNAIL_SIZE), "#e8e8e8")
    draw = ImageDraw.Draw(image)
    draw.text((10, THUMBNAIL_SIZE // 2 - 10), "image not readable", "#777", _font(15))
    return image


def _fit(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """As much of a text as fits on one line; names of files and captions may have several."""
    text = " ".join(text.split())[:width]  # a letter has a pixel
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    # matplotlib ships DejaVu Sans, which has far more letters than Pillow's own font.
    path = files("matplotlib") / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(path), size)


_STYLE = """
:root { color-scheme: light dark; --edge: color-mix(in srgb, CanvasText 18%, Canvas); }
body { font: 16px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 1400px; padding: 1.5rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .6rem; }
.note { opacity: .75; margin: 0 0 .6rem; }
.tiles { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(190px, 1fr)); }
figure { margin: 0; border: 1px solid var(--edge); border-radius: 8px; overflow: hidden; }
figure img, .absent { width: 100%; height: 170px; object-fit: contain; display: block;
  background: color-mix(in srgb, CanvasText 6%, Canvas); }
.absent { display: grid; place-items: center; opacity: .7; }
figcaption { padding: .5rem .7rem; font-size: .85rem; overflow-wrap: anywhere; }
figcaption ul { margin: .3rem 0 0; padding-left: 1.1rem; opacity: .8; }
"""


def html_page(title: str, sections: Sequence[Section]) -> str:
    """A page that holds its thumbnails itself, so that it can be sent or moved as one file."""
    body = [
        _html_section(section, images)
        for section, images in zip(sections, _thumbnails(sections), strict=True)
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><h1>{html.escape(title)}</h1>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def _html_section(section: Section, images: Sequence[Image.Image | None]) -> str:
    figures = []
    for tile, image in zip(section.tiles, images, strict=True):
        alternative = html.escape(tile.captions[0] if tile.captions else tile.label, quote=True)
        address = ""
        if image is not None:
            address = f"data:image/jpeg;base64,{base64.b64encode(as_jpeg(image)).decode()}"
        elif tile.uri.startswith(("http://", "https://")):
            address = html.escape(tile.uri, quote=True)
        picture = '<div class="absent">image not readable</div>'
        if address:
            picture = f'<img loading="lazy" src="{address}" alt="{alternative}">'
        captions = "".join(f"<li>{html.escape(caption)}</li>" for caption in tile.captions)
        listed = f"<ul>{captions}</ul>" if captions else ""
        figures.append(
            f"<figure>{picture}<figcaption>{html.escape(tile.label)}{listed}</figcaption></figure>"
        )
    note = f'<p class="note">{html.escape(section.note)}</p>' if section.note else ""
    return (
        f"<section><h2>{html.escape(section.heading)}</h2>{note}"
        f'<div class="tiles">{"".join(figures)}</div></section>'
    )
