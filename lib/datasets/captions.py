"""Captions of images: COCO's JSON, or a CSV or Parquet table of image and caption."""

import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from lib.errors import BadInputError
from lib.storage import read_bytes, write_table_atomic


@dataclass(frozen=True)
class CaptionedImage:
    """What a caption file says of one image; empty where it says nothing."""

    file_name: str
    url: str = ""


@dataclass(frozen=True)
class Captions:
    """Captions in file order: `image_ids[i]` is the image that `texts[i]` describes."""

    image_ids: list[str]
    texts: list[str]
    images: dict[str, CaptionedImage]
    source: str = ""

    def __len__(self) -> int:
        return len(self.texts)

    def ids_by_file_name(self) -> dict[str, str]:
        """Image id of every file name."""
        return {image.file_name: image_id for image_id, image in self.images.items()}

    def by_image(self) -> dict[str, list[str]]:
        """All captions of each image."""
        grouped: dict[str, list[str]] = {}
        for image_id, text in zip(self.image_ids, self.texts, strict=True):
            grouped.setdefault(image_id, []).append(text)
        return grouped

    def rows_among(self, image_ids: Sequence[str], paths: Sequence[str]) -> np.ndarray:
        """For each caption the row of its image in a collection, -1 where it is absent.

        An image of the collection is found by its id, else by its path, else by the last part of
        its path, so that a collection described without its caption file still meets it.
        Returns (len(self),) int64.
        """
        rows: dict[str, int] = {}
        by_name = self.ids_by_file_name()
        for row, (image_id, path) in enumerate(zip(image_ids, paths, strict=True)):
            if image_id in self.images:
                rows[image_id] = row
                continue
            found = by_name.get(path) or by_name.get(path.rsplit("/", 1)[-1])
            if found is not None:
                rows.setdefault(found, row)
        return np.array([rows.get(image_id, -1) for image_id in self.image_ids], np.int64)


def load_captions(source: str) -> Captions:
    """Read captions from a path or URL.

    `.csv` and `.parquet`: columns `image` (path relative to the images) and `caption`. Anything
    else: COCO's caption JSON with `images` and `annotations`. Blank captions are left out.
    Raises MissingError where there is no file and BadInputError where it holds no captions.
    """
    content = read_bytes(source)
    ending = source.rsplit(".", 1)[-1].lower()
    if ending in ("csv", "parquet"):
        captions = _from_table(content, ending, source)
    else:
        captions = _from_coco(content, source)
    if not captions.texts:
        raise BadInputError(f"{source} holds no captions")
    return captions


def _from_table(content: bytes, ending: str, source: str) -> Captions:
    try:
        if ending == "csv":
            table = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False)
        else:
            table = pd.read_parquet(io.BytesIO(content))
    except (ValueError, OSError) as error:
        raise BadInputError(f"{source} cannot be read as a table: {error}") from error
    if not {"image", "caption"} <= set(table.columns):
        raise BadInputError(
            f"{source} needs the columns image and caption; it has {_few_names(table.columns)}"
        )
    table = table.dropna(subset=["image", "caption"])
    pairs = [
        (str(image), str(caption))
        for image, caption in zip(table["image"], table["caption"], strict=True)
        if str(caption).strip()
    ]
    images = {image: CaptionedImage(file_name=image) for image, _ in pairs}
    return Captions([image for image, _ in pairs], [text for _, text in pairs], images, source)


def _few_names(columns: Iterable[object]) -> str:
    names = [str(name) for name in columns]
    names = [name if len(name) <= 30 else f"{name[:29]}…" for name in names]
    rest = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return (", ".join(names[:5]) or "none") + rest


def _from_coco(content: bytes, source: str) -> Captions:
    try:
        document: Any = json.loads(content)
        images = {
            str(image["id"]): CaptionedImage(
                file_name=image["file_name"], url=image.get("coco_url", "")
            )
            for image in document["images"]
        }
        pairs = [
            (str(annotation["image_id"]), str(annotation["caption"]).strip())
            for annotation in document["annotations"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise BadInputError(
            f"{source} is not COCO's caption format (an object with 'images' [id, file_name] and "
            f"'annotations' [image_id, caption]): {error!r}. "
            "A .csv or .parquet file with the columns image and caption works as well"
        ) from error
    orphans = {image_id for image_id, _ in pairs} - images.keys()
    if orphans:
        raise BadInputError(
            f"{source}: {len(orphans)} annotations name images that its 'images' list lacks, "
            f"such as {min(orphans)}"
        )
    pairs = [(image_id, text) for image_id, text in pairs if text]
    return Captions(
        [image_id for image_id, _ in pairs], [text for _, text in pairs], images, source
    )


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


def merge(parts: Sequence[Captions]) -> Captions:
    """The captions of several files as those of one collection."""
    return Captions(
        [image_id for part in parts for image_id in part.image_ids],
        [text for part in parts for text in part.texts],
        {image_id: image for part in parts for image_id, image in part.images.items()},
        ", ".join(part.source for part in parts),
    )


def write_captions(url: str, captions: Captions) -> None:
    """Write captions as a Parquet table of image (its id) and caption, for `load_captions`."""
    table = pa.table({"image": captions.image_ids, "caption": captions.texts})
    write_table_atomic(table, url)
