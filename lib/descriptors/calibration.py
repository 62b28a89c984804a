"""The arithmetic of a run, chosen with some of the images that are to be described."""

import itertools
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np

from lib.backbones.engines import Forms
from lib.backbones.kept import AnyBackbone
from lib.backbones.preparation import prepare_for, prepare_for_gpus
from lib.images.decoding import ImageError
from lib.images.listed import ListedImage
from lib.images.preprocessing import EncodedJpeg, Preprocessing, decode, for_gpu
from lib.images.reading import read_image
from lib.schemas import Fidelity

_FILES_BYTES = 64_000_000  # of JPEG files that travel to each GPU's worker to be judged


def choose_forms(
    backbone: AnyBackbone,
    fidelity: Fidelity | None,
    images: int,
    machines: float,
    gpus: bool,
    sample: Callable[[int], Sequence[ListedImage]],
) -> Forms:
    """What workers compute with, of which so many images are to be described.

    `fidelity`: fast unless given; `machines`: how many times the cores of this one are at work, 0
    where only GPUs are; `gpus`: whether any are; `sample` gives some of the images.
    """
    start = None
    jpegs: dict[int, EncodedJpeg | None] = {}  # by the identity of their pictures

    def pictures(count: int) -> list[np.ndarray]:
        nonlocal start
        start = start or time.monotonic()
        chosen = sample(count)
        print(f"looking for the fastest arithmetic with {len(chosen)} images", file=sys.stderr)
        with ThreadPoolExecutor() as pool:
            scaled = fidelity == "fast"
            tried = pool.map(partial(_try_image, backbone.preprocessing, scaled, gpus), chosen)
            pairs = list(filter(None, tried))
        jpegs.update((id(picture), jpeg) for picture, jpeg in pairs)
        return [picture for picture, _ in pairs]

    fidelity = fidelity or "fast"
    if machines:
        forms = prepare_for(backbone, fidelity, images, machines, pictures)
    else:
        forms = prepare_for_gpus(backbone, fidelity, images, pictures)
    if gpus:
        files = [jpegs[id(picture)] for picture in forms.pictures]
        forms = replace(forms, jpegs=_as_many_as_travel(files))
    if start is not None:
        result = f"{forms}, " if machines else "each GPU's worker judges its own, "
        print(f"{result}{time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    return forms


def _as_many_as_travel(files: list[EncodedJpeg | None]) -> list[EncodedJpeg | None]:
    """The files up to _FILES_BYTES, None in the place of the others."""
    totals = itertools.accumulate(len(file.content) if file else 0 for file in files)
    pairs = zip(files, totals, strict=True)
    return [file if total <= _FILES_BYTES else None for file, total in pairs]


def _try_image(
    preprocessing: Preprocessing, scaled: bool, gpus: bool, image: ListedImage
) -> tuple[np.ndarray, EncodedJpeg | None] | None:
    try:
        content = read_image(image)
        pixels = np.ascontiguousarray(decode(content, preprocessing, scaled=scaled).pixels)
    except ImageError:
        return None
    return pixels, for_gpu(content) if gpus else None
