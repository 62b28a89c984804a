"""Captions of images: loaded from any file, matched with a collection, held out."""

import hashlib
import html
import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import astuple, dataclass

import numpy as np
import pyarrow as pa

from lib.datasets.caption_files import read_caption_rows
from lib.datasets.caption_rows import CaptionRow
from lib.datasets.caption_tables import LONGEST_CAPTION
from lib.datasets.matching import CaptionedImage as CaptionedImage
from lib.datasets.matching import Matches, match_images, normal_path
from lib.errors import BadInputError
from lib.parquet import write_table_atomic

# With its semicolon alone: what follows an ampersand in "black &lt" may be a word.
_ENTITY = re.compile(r"&(?:#\d+|#x[\da-f]+|[a-z]+\d*);", re.IGNORECASE)
# By name: <PERSON> is what CC12M writes for one.
_TAG = re.compile(
    r"</?(?:a|abbr|b|big|blockquote|br|center|div|em|font|h[1-6]|hr|i|img|li|ol|p|small|span|strong"
    r"|sub|sup|t[dr]|table|tbody|u|ul)(?:\s[^<>]*)?/?>",
    re.IGNORECASE,
)
_PHRASE = re.compile(r"\[/EN#\d+(?:/\w+)+ ([^\]]*)\]")  # of Flickr30k Entities


@dataclass(frozen=True)
class Captions:
    """Captions in file order: `image_ids[i]` is the image that `texts[i]` describes."""

    image_ids: list[str]
    texts: list[str]
    images: dict[str, CaptionedImage]
    source: str = ""
    notes: tuple[str, ...] = ()  # what was left out of the file, or taken otherwise than written

    def __len__(self) -> int:
        return len(self.texts)

    def __add__(self, other: "Captions") -> "Captions":
        return Captions(
            self.image_ids + other.image_ids,
            self.texts + other.texts,
            self.images | other.images,
            self.source,
            self.notes,
        )

    def by_image(self) -> dict[str, list[str]]:
        """All captions of each image."""
        grouped: dict[str, list[str]] = {}
        for image_id, text in zip(self.image_ids, self.texts, strict=True):
            grouped.setdefault(image_id, []).append(text)
        return grouped

    def match(self, collection: Iterable[tuple[str, str]]) -> Matches:
        """The rows of the captioned images in a collection of (image id, path); read once."""
        return match_images(self.images, collection)

    def rows_among(self, collection: Iterable[tuple[str, str]]) -> np.ndarray:
        """For each caption the row of its image in a collection of (image id, path); else -1.

        (len(self),) int64; how names are compared: `lib.datasets.matching`.
        """
        rows = self.match(collection).rows
        return np.array([rows.get(image_id, -1) for image_id in self.image_ids], np.int64)

    def texts_in(
        self, collection: Iterable[tuple[str, str]], required_of: str = ""
    ) -> dict[str, list[str]]:
        """The captions of a collection's images that have any, by the collection's own ids.

        Raises BadInputError where there are none of a collection of this name.
        """
        texts, matches = self.by_image(), self.match(collection)
        if required_of:
            self.require_a_match(matches, required_of)
        ids = matches.image_ids
        return {own: texts[image_id] for image_id, own in ids.items() if image_id in texts}

    def digest(self) -> str:
        """SHA-256, hexadecimal, of all captions and what is known of their images."""
        content = [self.image_ids, self.texts, [*map(astuple, self.images.values())]]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def require_a_match(self, matches: Matches, collection: str) -> None:
        """Raise BadInputError, with a name of each side, where no captioned image was met."""
        if matches.rows or not matches.count or not self.texts:
            return
        image = self.images[self.image_ids[0]]
        name = image.file_name or image.url or self.image_ids[0]
        why = "; several images could be meant by each name" if matches.ambiguous else ""
        raise BadInputError(
            f"no captions for any image: none of the {len(self)} captions of "
            f"{self.source or 'the file'} names an image of {collection}{why}: "
            f"the captions say {name!r:.200}, the collection {matches.example!r}"
        )

    def matching_notes(self, matches: Matches) -> list[str]:
        """What to tell people of captioned images that were not met."""
        notes = []
        captioned = dict.fromkeys(self.image_ids)
        absent = [i for i in captioned if i not in matches.rows and i not in matches.ambiguous]
        if absent:
            notes.append(
                f"{self.source}: {len(absent)} of {len(captioned)} captioned images are not in "
                f"the collection, such as {self.images[absent[0]].file_name or absent[0]:.200}"
            )
        if matches.ambiguous:
            image_id, path = next(iter(matches.ambiguous.items()))
            notes.append(
                f"{self.source}: {len(matches.ambiguous)} names could mean several images and are "
                f"not used, such as {self.images[image_id].file_name or image_id} ({path} is one); "
                "give their paths"
            )
        return notes


def load_captions(source: str) -> Captions:
    """Captions from a file, folder, glob or shards of any shape that `caption_files` reads.

    An image is known by the id that the file gives it, as COCO does, else by its name; entries
    that say the same name are one image. Blank captions are left out; `notes` tells. HTML's
    character references are read as what they stand for, its tags as spaces, and the phrases that
    Flickr30k Entities marks as they are spoken.
    Raises MissingError where there is no file and BadInputError where it holds no captions, or two
    images have one id.
    """
    read = read_caption_rows(source)
    notes = list(read.notes)
    names, images, doubled = _images(read.rows, source)
    if doubled > ("" in names.values()):
        notes.append(f"{source} gives {doubled} file names more than one id; the name counts")
    pairs: list[tuple[str, str]] = []
    blank: list[str] = []
    nameless: list[str] = []
    long: list[str] = []
    wordless: list[str] = []
    rejected: list[str] = []
    for row in read.rows:
        image_id = names[_key(row)]
        if not image_id:
            nameless.append(row.place)
            continue
        if row.rejected:
            rejected.append(row.place)
            continue
        texts = [*map(_unescaped, row.texts)]
        blank += [row.place for text in texts if not text]
        long += [row.place for text in texts if len(text) > LONGEST_CAPTION]
        wordless += [row.place for text in texts if text and not any(map(str.isalpha, text))]
        pairs += [(image_id, text) for text in texts if text]
    distinct = dict.fromkeys(pairs)
    if pairs and 2 * len(distinct) <= len(pairs):
        notes.append(f"{source} has every caption twice or more; each is taken once")
        pairs = list(distinct)
    for places, says in (
        (nameless, "left out, since they name no image"),
        (blank, "left out, since they are blank"),
        (rejected, "left out, since the file says that they are not to be used"),
        (wordless, "without a letter"),
        (long, f"of more than {LONGEST_CAPTION:,} characters"),
    ):
        if places:
            notes.append(f"{source}: captions {says}: {len(places)}, first {places[0]}")
    if not pairs:
        raise BadInputError(f"{source} holds no captions{''.join(f'; {note}' for note in notes)}")
    captioned = {image for image, _ in pairs}
    ((commonest, count),) = Counter(text for _, text in distinct).most_common(1)
    if len(captioned) > 1 and 2 * count > len(captioned):
        many = "all" if count == len(captioned) else f"{count:,} of {len(captioned):,}"
        notes.append(f"{source} says the same of {many} images: {commonest!r:.80}")
    return Captions(
        [image_id for image_id, _ in pairs],
        [text for _, text in pairs],
        images,
        source,
        tuple(notes),
    )


def _unescaped(text: str) -> str:
    """A text of a web page as people read it there: `&amp;` is no word "amp", `<a href=…>` none."""
    if "[/EN#" in text:
        text = _PHRASE.sub(r"\1", text)
    if "<" in text:
        text = _TAG.sub(" ", text).strip()
    return _ENTITY.sub(lambda entity: html.unescape(entity[0]), text) if "&" in text else text


def _path(name: str) -> str:
    """What makes two names the same: the path; of a URL all of it."""
    return name if "://" in name else normal_path(name)


def _key(row: CaptionRow) -> tuple[str, str]:
    """What tells a row's image from others: its id, else its name."""
    return row.image_id, "" if row.image_id else _path(row.name) or row.url


def _images(
    rows: Iterable[CaptionRow], source: str
) -> tuple[dict[tuple[str, str], str], dict[str, CaptionedImage], int]:
    """The id of each row's image, what is known of it, and how many ids share another's name."""
    ids: dict[tuple[str, str], str] = {}
    images: dict[str, CaptionedImage] = {}
    by_name: dict[str, str] = {}
    shared: dict[str, None] = {}
    for row in rows:
        key, path = _key(row), _path(row.name)
        if key in ids:
            there = images.get(ids[key])
            if there is not None and path and _path(there.file_name) != path:
                raise BadInputError(
                    f"{source}, {row.place}: the image id {ids[key]} is that of two images, "
                    f"{there.file_name or there.url} and {row.name}; give each image its own id "
                    "before merging files"
                )
            continue
        image_id = row.image_id or row.name or row.url
        other = by_name.get(path, "") if path else ""
        if other and (not row.url or images[other].url in ("", row.url)):
            ids[key] = other
            shared[other] = None
            continue
        ids[key] = image_id
        if image_id:
            images[image_id] = CaptionedImage(row.name, row.url)
            by_name.setdefault(path, image_id)
    # Ids that count captions name no image: its file name does.
    renamed = {old: images[old].file_name for old in shared if images[old].file_name not in images}
    images = {renamed.get(image_id, image_id): image for image_id, image in images.items()}
    return {key: renamed.get(i, i) for key, i in ids.items()}, images, len(ids) - len(images)


def held_out(image_ids: Iterable[str], share: float = 0.1, purpose: str = "") -> set[str]:
    """The images kept apart, for validation or testing: those whose hash is in the lowest `share`.

    The choice depends on the id alone, so it stays the same when images are added; another
    `purpose` (at most 16 letters) makes another choice.
    """
    person = purpose.encode()
    return {
        image_id
        for image_id in image_ids
        if int.from_bytes(hashlib.blake2b(image_id.encode(), digest_size=8, person=person).digest())
        < share * 2**64
    }


def select(captions: Captions, image_ids: set[str]) -> Captions:
    """The captions of some images only."""
    kept = [
        (image_id, text)
        for image_id, text in zip(captions.image_ids, captions.texts, strict=True)
        if image_id in image_ids
    ]
    return Captions(
        [image_id for image_id, _ in kept],
        [text for _, text in kept],
        {image_id: image for image_id, image in captions.images.items() if image_id in image_ids},
        captions.source,
    )


def write_captions(url: str, captions: Captions) -> None:
    """Write captions as a Parquet table from which `load_captions` reads the same again."""
    images = [captions.images[image_id] for image_id in captions.image_ids]
    columns = {
        "image_id": captions.image_ids,
        "file_name": [image.file_name for image in images],
        "url": [image.url for image in images],
        "caption": captions.texts,
    }
    write_table_atomic(pa.table(columns), url)
