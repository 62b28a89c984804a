"""What tells of one image: a file beside it, or its own file.

Texts as kohya's, prompts, JSON of services and XMP beside images; XMP, IPTC and Exif within them.
"""

import itertools
import json
import posixpath
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from xml.etree import ElementTree

from lib.datasets.caption_rows import (
    CaptionRows,
    choose_columns,
    is_counter,
    row_of,
    says_nothing,
    speaker,
    texts_of,
)
from lib.datasets.caption_text import decode
from lib.datasets.matching import clean, has_image_ending
from lib.errors import BadInputError
from lib.images.embedded_texts import HEAD_BYTES, HEAD_DOES, embedded_texts
from lib.progress import Progress
from lib.storage import is_of_store

_MOST_BYTES = 1 << 20
_READERS = 16  # files that are read at the same time
_AHEAD = 10_000  # files that wait for them; each takes 2 KB of memory

# Google Takeout's IMG_1.jpg(2).json and IMG_1.jpg.supplemental-metadata(2).json: IMG_1(2).jpg
_TAKEOUT = re.compile(r"^(.+?)(\.\w+)(?:\.[a-z-]*)?(\(\d+\))?$", re.DOTALL)
_FLICKRS = re.compile(r"[0-9]{6,}")  # photo_53012345678.json is of a-dog_53012345678_o.jpg
_LONG = 40  # characters; Takeout cuts the name of a sidecar at 46, that of an image at 47
_COUNT = re.compile(r"^.*?((?:\(\d+\))?)$", re.DOTALL)
# What Stable Diffusion's interfaces write below a prompt: the first says what is not in the image.
_SETTINGS = re.compile(r"^(Negative prompt: |Steps: \d+, )", re.MULTILINE)
_DUBLIN_CORE = "{http://purl.org/dc/elements/1.1/}"


def is_sidecar(name: str, size: int) -> bool:
    """Whether a file of this name and size in bytes may tell of an image beside it."""
    named = name.lower().endswith((".txt", ".caption", ".json", ".xmp"))
    return named and not posixpath.basename(name).startswith(".") and size <= _MOST_BYTES


class SidecarImages:
    """Which image of a folder a sidecar tells of, however services cut and count its name."""

    def __init__(self, names: Sequence[str]) -> None:
        """names: the folder's files, sorted."""
        self._by_stem = {posixpath.splitext(n)[0]: n for n in names if has_image_ending(n)}
        self._images = sorted(self._by_stem.values())
        self._by_number = {
            f"photo_{n}": name for name in self._images for n in _FLICKRS.findall(name)
        }

    def __getitem__(self, sidecar: str) -> str:
        """The image's name, or what the sidecar's says of it where there is none."""
        stem = posixpath.splitext(sidecar)[0]
        image = _TAKEOUT.sub(r"\1\3\2", stem)
        if has_image_ending(image):
            return image
        image = self._by_stem.get(stem) or _of_longer_name(stem, self._images)
        return image or self._by_number.get(posixpath.basename(stem), stem)


def _of_longer_name(stem: str, names: Sequence[str]) -> str:
    """The one image of sorted names that begins as a sidecar whose name was cut; else empty."""
    count = _COUNT.sub(r"\1", stem)
    begin = stem.removesuffix(count)
    if len(posixpath.basename(begin)) < _LONG:
        return ""
    after = itertools.islice(names, bisect_left(names, begin), None)
    longer = itertools.takewhile(lambda name: name.startswith(begin), after)
    same = [name for name in longer if _COUNT.sub(r"\1", posixpath.splitext(name)[0]) == count]
    return same[0] if len(same) == 1 else ""


def read_sidecars(
    fs: Any, root: str, names: Sequence[str], source: str, result: CaptionRows
) -> Iterator[tuple[str, list[str]]]:
    """Each of these files in the folder `root`, and its captions; what is broken is a problem of
    `result`."""

    def read(name: str) -> list[str]:
        return sidecar_texts(fs.cat_file(f"{root}/{name}"), f"{source}/{name}", result)[0]

    return _read_each(read, names, source, result, "captions")


def read_embedded(
    fs: Any, root: str, images: Sequence[str], source: str, result: CaptionRows
) -> Iterator[tuple[str, list[str]]]:
    """Each of these images in the folder `root`, and what its file says: XMP, else IPTC, else Exif.

    One that is damaged or leads nowhere says nothing: extraction tells of it.
    """

    def read(name: str) -> list[str]:
        try:
            content = fs.cat_file(f"{root}/{name}", 0, HEAD_BYTES)
            if len(content) == HEAD_BYTES and not content.startswith(HEAD_DOES):
                content = fs.cat_file(f"{root}/{name}")
        except FileNotFoundError:  # a link to nothing, as those of git-annex
            return []
        return _embedded(content, name)

    return _read_each(read, images, source, result, "images read for captions")


def _read_each(
    read: Callable[[str], list[str]],
    names: Sequence[str],
    source: str,
    result: CaptionRows,
    unit: str,
) -> Iterator[tuple[str, list[str]]]:
    def attempt(name: str) -> tuple[str, list[str]]:
        try:
            return name, read(name)
        except Exception as error:
            if not (isinstance(error, OSError) or is_of_store(error)):
                raise
            result.problems.append(f"{source}/{name} cannot be read: {error}")
            return name, []

    if not names:
        return
    with ThreadPoolExecutor(_READERS) as pool, Progress(len(names), unit) as progress:
        for start in range(0, len(names), _AHEAD):
            for named in pool.map(attempt, names[start : start + _AHEAD]):
                progress.advance(1)
                yield named


def sidecar_texts(content: bytes, source: str, result: CaptionRows) -> tuple[list[str], str]:
    """The captions and the URL in a file that tells of one image; none where it is broken, which is
    a problem of `result`."""
    try:
        return _sidecar_texts(content, source)
    except BadInputError as error:
        result.problems.append(str(error))
        return [], ""


def _sidecar_texts(content: bytes, source: str) -> tuple[list[str], str]:
    if source.lower().endswith(".xmp"):
        return _chosen(*_xmp_texts(content, source)), ""
    text = decode(content, source, CaptionRows())
    if not source.lower().endswith(".json"):
        said = text[: found.start()] if (found := _SETTINGS.search(text)) else text
        lines = (clean(line).strip() for line in said.splitlines())
        return [line for line in lines if not says_nothing(line)] or [""], ""
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"{source} is not valid JSON: {error}") from error
    if isinstance(record, list) and all(isinstance(e, str) or speaker(e) for e in record):
        return texts_of(record, source, "the list") or [""], ""
    if isinstance(record, list) and len(record) == 1:  # exiftool's
        record = record[0]
    if not isinstance(record, Mapping):
        return [], ""
    columns = choose_columns(map(str, record)) or choose_columns([*map(str, record), "key"])
    if columns is None:
        return [], ""
    row = row_of(record, columns, source, "the object")
    if row.rejected:
        return [""], ""
    title = record.get("name")  # Flickr's, where Google Takeout has `title`
    if any(row.texts) or not isinstance(title, str) or is_counter(title):
        return [*row.texts], row.url
    return [clean(title).strip()], row.url


def _xmp_texts(content: bytes, source: str) -> tuple[list[str], list[str]]:
    """The descriptions and the keywords, as Lightroom, darktable and digiKam write them."""
    try:
        root = ElementTree.fromstring(content.rstrip(b"\0"))  # with which some fill it up
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # also of its encoding
        raise BadInputError(f"{source} is not valid XMP: {error}") from error

    def texts(element: str) -> list[str]:
        items = (item for each in root.iter(_DUBLIN_CORE + element) for item in each.iter())
        said = (clean(item.text or "").strip() for item in items)
        return [text for text in said if not says_nothing(text)]

    return texts("description"), texts("subject")


def _chosen(described: list[str], keywords: Sequence[str]) -> list[str]:
    """The descriptions, else the keywords as one caption; none where there are neither."""
    return described or ([", ".join(keywords)] if keywords else [])


def _embedded(content: bytes, name: str) -> list[str]:
    embedded = embedded_texts(content)
    described, keywords = list[str](), list[str]()
    if embedded.xmp:
        with suppress(BadInputError):  # as for all that is damaged in an image: extraction tells
            described, keywords = _xmp_texts(embedded.xmp, name)
    caption, description = _line(embedded.caption), _line(embedded.description)
    # One word is what phones and programs write there: cof, hdrpl, Screenshot. Not all languages
    # put spaces between words.
    several = " " in description or not description.isascii()
    written = caption or (description if several else "")
    words = filter(None, map(_line, embedded.keywords))
    return _chosen(described or [written] * bool(written), keywords or [*words])


def _line(text: bytes) -> str:
    """A text of an image file, which seldom says its encoding; empty where it says nothing."""
    try:
        line = " ".join(decode(text.rstrip(b"\0"), "", CaptionRows()).split())
    except BadInputError:
        return ""
    return "" if says_nothing(line) or has_image_ending(line) else line
