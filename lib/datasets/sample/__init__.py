"""The sample: a mini-COCO that the project draws itself, deterministic by seed, of any size."""

import io
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread

from lib.cores import usable_cores
from lib.datasets.sample.composing import compose, generator
from lib.datasets.sample.wording import captions_of
from lib.errors import BadArgumentError
from lib.progress import Progress
from lib.storage import write_json_atomic

SPLITS = ("train", "validation", "test")
JPEG_QUALITY = 88
_Entry = dict[str, int | str]


@dataclass(frozen=True)
class SampleSummary:
    """What `draw_sample` wrote."""

    directory: Path
    images: int
    captions: int


def split_of(index: int) -> str:
    """The part of an image: of every ten eight are for training, one for each of the others."""
    return {4: "validation", 9: "test"}.get(index % 10, "train")


def draw_sample(
    directory: str | Path,
    count: int = 1200,
    seed: int = 0,
    workers: int | None = None,
) -> SampleSummary:
    """Draw `count` captioned images into a directory, the same bytes for the same seed.

    Writes `images/<12-digit id>.jpg` and COCO's caption JSON for each part (`captions_train.json`,
    `captions_validation.json`, `captions_test.json`; five captions an image). An image depends on
    seed and index only, so a larger sample begins with the smaller one.
    `workers` processes draw, one per CPU by default. Raises BadArgumentError for a directory that
    cannot be written.
    """
    folder = Path(directory)
    drawn: list[tuple[_Entry, list[_Entry]]] = []
    try:
        (folder / "images").mkdir(parents=True, exist_ok=True)
        with Progress(count) as shown:
            for entries in _drawn(folder / "images", count, seed, workers):
                drawn.append(entries)
                shown.advance(1)
        for split in SPLITS:
            rows = [row for index, row in enumerate(drawn) if split_of(index) == split]
            document = {
                "info": {"description": "Scenes drawn by this project, with captions"},
                "images": [image for image, _ in rows],
                "annotations": [caption for _, captions in rows for caption in captions],
            }
            write_json_atomic(str(folder / f"captions_{split}.json"), document)
    except OSError as error:
        raise BadArgumentError(
            f"the sample cannot be written to {folder}: {error}; name a directory that can be"
        ) from error
    return SampleSummary(
        directory=folder,
        images=count,
        captions=sum(len(captions) for _, captions in drawn),
    )


def _draw_one(folder: Path, seed: int, index: int) -> tuple[_Entry, list[_Entry]]:
    """Draw an image; returns its entry, and those of its captions, in COCO's format."""
    description, image = compose(seed, index)
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=JPEG_QUALITY)
    image_id = index + 1
    name = f"{image_id:012d}.jpg"
    # Under another name first: an interrupted run leaves no half-written picture.
    partial_path = folder / f"{name}.part"
    partial_path.write_bytes(encoded.getvalue())
    partial_path.replace(folder / name)
    captions = captions_of(description, generator(seed, index, 1))
    return (
        {"id": image_id, "file_name": name, "width": image.width, "height": image.height},
        [
            {"id": index * 10 + place, "image_id": image_id, "caption": caption}
            for place, caption in enumerate(captions)
        ],
    )


def _drawn(
    folder: Path, count: int, seed: int, workers: int | None
) -> Iterator[tuple[_Entry, list[_Entry]]]:
    """What `_draw_one` gives, in order of the index."""
    draw = partial(_draw_one, folder, seed)
    processes = min(workers or usable_cores(), (count + 39) // 40)
    if processes == 1:
        yield from map(draw, range(count))
        return
    # Spawned, not forked: the caller may hold threads (Ray, torch) that a fork would break.
    context = get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=_end_with_parent) as pool:
        yield from pool.map(draw, range(count), chunksize=8)


def _end_with_parent() -> None:
    """Make a drawing process end when the one that started it is killed, rather than linger."""
    parent = parent_process()
    if parent:

        def watch() -> None:
            parent.join()
            os._exit(1)

        Thread(target=watch, daemon=True).start()
