"""The arithmetic of a run, chosen with some of the images that are to be described."""

import itertools
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np

from lib.backbones.engines import Forms, Sample
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
    fidelity = fidelity or "fast"

    def pictures(count: int) -> list[Sample]:
        nonlocal start
        start = start or time.monotonic()
        chosen = sample(count)
        print(f"looking for the fastest arithmetic with {len(chosen)} images", file=sys.stderr)
        with ThreadPoolExecutor() as pool:
            tried = pool.map(partial(_try_image, backbone.preprocessing, gpus), chosen)
            return list(filter(None, tried))

    if machines:
        forms = prepare_for(backbone, fidelity, images, machines, pictures)
    else:
        forms = prepare_for_gpus(backbone, fidelity, images, pictures)
    forms = replace(forms, jpegs=_as_many_as_travel(forms.jpegs))
    if start is not None:
        result = f"{forms}, " if machines else "each GPU's worker judges its own, "
        print(f"{result}{time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    return forms


def _as_many_as_travel(files: list[EncodedJpeg | None]) -> list[EncodedJpeg | None]:
    """The files up to _FILES_BYTES, None in the place of the others."""
    totals = itertools.accumulate(len(file.content) if file else 0 for file in files)
    pairs = zip(files, totals, strict=True)
    return [file if total <= _FILES_BYTES else None for file, total in pairs]


def _try_image(preprocessing: Preprocessing, gpus: bool, image: ListedImage) -> Sample | None:
    try:
        content = read_image(image)
        decoded = [decode(content, preprocessing, scaled=scaled) for scaled in (True, False)]
    except ImageError:
        return None
    pixels, whole = (np.ascontiguousarray(each.pixels) for each in decoded)
    return Sample(pixels, whole, for_gpu(content) if gpus else None)
