"""Which image of a collection a caption file means, in whatever way it writes the name.

The one rule of matching. A name matches an image whose path it equals; else one whose path agrees
with it in the longest run of last parts that no other name and no other path has; else one that
agrees so but for the ending (a name without one, a RAW file and what was developed from it); else a
number without ending matches the file of that number. What lies in another split of a dataset
(`train/1.jpg`, `val/1.jpg`) is another image. Other folders, `./`, backslashes, drives, hosts,
case, Unicode composition, percent-encoding, `&amp;`, `.jpeg` for `.jpg` and leading zeros are how
a name is written, not what it means; where several images are meant, none is taken.
"""

import html
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import PurePosixPath
from urllib.parse import unquote

from lib.images.file_names import ENDINGS, PHOTOS_UNREAD

_ENDINGS = ENDINGS | PHOTOS_UNREAD
_SAME_ENDING = {".jpeg": ".jpg", ".jpe": ".jpg", ".jfif": ".jpg", ".tiff": ".tif"}
_SURROGATES = re.compile("[\ud800-\udfff]")
_NUMBER = re.compile(r"(?:coco_[a-z]+[0-9]{4}_)?0*([0-9]+)(?:\.0)?")  # COCO's of 2014, 2017
_PLAIN = re.compile(r"(?!coco_)\w[\w-]*", re.ASCII)
_SPLIT = re.compile(r".*(?:^|/)(train|val|test)(?:ing|id|idation)?([0-9]*)/")
_UPLOADED = re.compile(r"/data/upload/[0-9]+/[0-9a-f]{8}-([^/]+)$")
_ARCHIVES = ("zip", "tar")  # schemes after which the member follows, no host


@dataclass(frozen=True)
class CaptionedImage:
    """What a caption file says of one image; empty where it says nothing."""

    file_name: str
    url: str = ""


@dataclass
class Matches:
    """Captioned images met in a collection."""

    rows: dict[str, int] = field(default_factory=dict)  # id in the captions → row, from 0
    ambiguous: dict[str, str] = field(default_factory=dict)  # id in the captions → one such path
    image_ids: dict[str, str] = field(default_factory=dict)  # … → id in the collection
    example: str = ""  # the first path of the collection
    count: int = 0  # images of the collection


def clean(text: str) -> str:
    """Text that can be written as UTF-8: what was no whole character becomes U+FFFD."""
    if text.isascii() or not _SURROGATES.search(text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def normal_path(name: str) -> str:
    """A name as a relative path: no host, query, drive, `.` or `..`, with `/`, composed (NFC)."""
    name = clean(name).strip().replace("\\", "/")
    scheme, mark, body = name.partition("://")
    if mark:
        in_archive = scheme.lower() in _ARCHIVES
        body = body.partition("::")[0] if in_archive else body.partition("/")[2]
        name = body if in_archive else re.split("[?#]", body)[0] or name
    parts = [part for part in name.split("/") if part not in ("", ".", "..")]
    if parts and len(parts[0]) == 2 and parts[0][1] == ":":
        del parts[0]
    return unicodedata.normalize("NFC", "/".join(parts))


def has_image_ending(name: str) -> bool:
    """Whether a name ends as an image file does."""
    return PurePosixPath(normal_path(name)).suffix.lower() in _ENDINGS


class _Name:
    """A name in the ways in which it is compared, from the strictest to the loosest."""

    def __init__(self, name: str) -> None:
        self.raw = name
        self.path = normal_path(name)
        loose = unicodedata.normalize(
            "NFC", normal_path(html.unescape(unquote(self.path))).casefold()
        )
        stem, dot, ending = loose.rpartition("/")[2].rpartition(".")
        ending = dot + ending
        self.ending = _SAME_ENDING.get(ending, ending) if ending in _ENDINGS else ""
        self.loose = loose[: -len(ending)] + self.ending if self.ending else loose
        last = self.loose.rpartition("/")[2]
        stem = last[: -len(self.ending)] if self.ending else last
        number = _NUMBER.fullmatch(stem)
        self.stem = number[1].lstrip("0") or "0" if number else stem
        split = _SPLIT.match(self.loose)
        self.split = (split[1], split[2]) if split else None

    def forms(self) -> Iterator[tuple[str, str]]:
        yield "raw", self.raw
        yield "path", self.path
        yield "loose path", self.loose
        exact, loose = self.path.split("/"), self.loose.split("/")
        for depth in range(max(len(exact), len(loose)), 0, -1):
            yield "end", "/".join(exact[-depth:])
            yield "loose end", "/".join(loose[-depth:])
        yield "number", self.stem + self.ending
        bare = self.loose.removesuffix(self.ending).split("/")
        for depth in range(len(bare), 0, -1):
            yield "of any kind", "/".join(bare[-depth:])
        yield "stem", self.stem


_Split = tuple[str, str] | None  # train, val or test, and a year


def _contradict(split: _Split, other: _Split) -> bool:
    """Whether these are different splits of one dataset, which often count anew; COCO's of 2014 and
    of 2017 are of the same images."""
    return bool(split and other and split != other and split[1] == other[1])


def _stem(path: str) -> str:
    """`_Name(path).stem`, in a tenth of the time for most paths."""
    stem, _, ending = path.rpartition("/")[2].lower().rpartition(".")
    if f".{ending}" in _ENDINGS and _PLAIN.fullmatch(stem):
        return stem.lstrip("0") or "0" if stem.isdigit() else stem
    return _Name(path).stem


def _names(image_id: str, image: CaptionedImage) -> list[str]:
    """What may name the file of a captioned image, the surest first.

    An id alone is taken for a file's number only where the file name has that number, too: ids
    that count captions are no names.
    """
    written = [image.file_name] if image.file_name else []
    if image.url and not (image.file_name and image.url.endswith(f"/{image.file_name}")):
        written.append(image.url)
    stem = image.file_name.rpartition(".")[0]
    # Label Studio counts uploads so; here the file may have the name that it had before.
    written += [found[1] for name in written if (found := _UPLOADED.search(name))]
    if not written or (image_id.isdigit() and re.sub(".*?0*([0-9]+)$", r"\1", stem) == image_id):
        written.append(image_id)
    return written


def match_images(
    images: Mapping[str, CaptionedImage], collection: Iterable[tuple[str, str]]
) -> Matches:
    """For each captioned image the row of the collection that it means.

    `collection` gives image id and path, row by row, and is read once; memory is bounded by the
    captioned images. An id that both sides have decides, unless the file names contradict it.
    """
    names = {image_id: _names(image_id, image) for image_id, image in images.items()}
    captioned: dict[str, list[tuple[str, str]]] = {}
    for image_id, written in names.items():
        for name in written:
            captioned.setdefault(_stem(name), []).append((image_id, name))
    paths: dict[str, list[tuple[int, str]]] = {}
    by_id: dict[str, list[int]] = {}
    by_id_alone: dict[str, list[int]] = {}
    own_ids: dict[int, str] = {}
    result = Matches()
    for row, (image_id, path) in enumerate(collection):
        stem = _stem(path)
        result.count += 1
        result.example = result.example or path
        if image_id in images:
            named = any(stem == _stem(name) for name in names[image_id])
            if named or not images[image_id].file_name:
                by_id.setdefault(image_id, []).append(row)
            elif image_id == path:  # no file name on this side: imported descriptors
                by_id_alone.setdefault(image_id, []).append(row)
            own_ids[row] = image_id
        if stem in captioned:
            paths.setdefault(stem, []).append((row, path))
            own_ids[row] = image_id
    by_name: dict[tuple[str, str], int] = {}
    for stem, there in paths.items():
        _match_group(captioned[stem], there, by_name, result.ambiguous)
    result.rows = {image_id: rows[0] for image_id, rows in by_id.items() if len(rows) == 1}
    owners = {row: [image_id] for image_id, row in result.rows.items()}
    for image_id in images.keys() - result.rows.keys():
        keys = ((image_id, name) for name in names[image_id])
        met = [by_name[key] for key in keys if key in by_name]
        if not met and image_id not in result.ambiguous:
            met = by_id_alone.get(image_id, [])
        if met:
            result.rows[image_id] = met[0]
            owners.setdefault(met[0], []).append(image_id)
    # An image has one entry in the captions: of two that would mean it, an id alone decides.
    for shared in owners.values():
        for image_id in shared if shared[0] not in by_id else shared[1:]:
            if len(shared) > 1:
                del result.rows[image_id]
                result.ambiguous[image_id] = f"what {shared[0]} names"
    for image_id in result.rows.keys() & result.ambiguous.keys():
        del result.ambiguous[image_id]
    result.image_ids = {image_id: own_ids[row] for image_id, row in result.rows.items()}
    return result


def _match_group(
    captioned: list[tuple[str, str]],
    there: list[tuple[int, str]],
    matched: dict[tuple[str, str], int],
    ambiguous: dict[str, str],
) -> None:
    """Match the names and the paths of one stem by the strictest form that they share."""
    if len(captioned) == len(there) == 1 and captioned[0][1] == there[0][1]:
        matched[captioned[0]] = there[0][0]
        return
    names = [(image_id, _Name(name)) for image_id, name in captioned]
    owners: dict[tuple[str, str], set[tuple[str, _Split]]] = {}
    for image_id, name in names:
        for form in name.forms():
            owners.setdefault(form, set()).add((image_id, name.split))
    rows: dict[tuple[str, str], list[tuple[int, _Name]]] = {}
    for row, written in there:
        path = _Name(written)
        for form in owners.keys() & set(path.forms()):
            rows.setdefault(form, []).append((row, path))

    @cache  # many names may have one stem: image.jpg of each folder
    def paths_for(form: tuple[str, str], split: _Split) -> list[tuple[int, _Name]]:
        return [each for each in rows[form] if not _contradict(split, each[1].split)]

    @cache
    def owner_count(form: tuple[str, str], split: _Split) -> int:
        return len({i for i, other in owners[form] if not _contradict(split, other)})

    for image_id, name in names:
        for form in name.forms():
            if form in rows and (met := paths_for(form, name.split)):
                break
        else:
            continue
        alone = len(met) == owner_count(form, met[0][1].split) == 1
        other = name.ending and all(path.ending not in ("", name.ending) for _, path in met)
        if other and (form[0] == "stem" or not alone):
            continue  # x.png is x.jpg where nothing else is, but 7.png is never 0007.jpg
        if alone:
            matched[image_id, name.raw] = met[0][0]
        else:
            ambiguous.setdefault(image_id, met[-1][1].raw)
