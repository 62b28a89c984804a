"""The arithmetic of a run, chosen with some of the images that are to be described."""

import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from lib.backbones.engines import Forms
from lib.backbones.kept import AnyBackbone
from lib.backbones.preparation import prepare_for
from lib.images.decoding import ImageError
from lib.images.listed import ListedImage
from lib.images.preprocessing import Preprocessing, decode
from lib.images.reading import read_image
from lib.schemas import Fidelity


def choose_forms(
    backbone: AnyBackbone,
    fidelity: Fidelity | None,
    images: int,
    machines: float,
    sample: Callable[[int], Sequence[ListedImage]],
) -> Forms:
    """What workers compute with, of which so many images are to be described.

    `fidelity`: fast unless given; `machines`: how many times the cores of this one are at work;
    `sample` gives some of the images.
    """
    start = None

    def pictures(count: int) -> list[np.ndarray]:
        nonlocal start
        start = start or time.monotonic()
        chosen = sample(count)
        print(f"looking for the fastest arithmetic with {len(chosen)} images", file=sys.stderr)
        with ThreadPoolExecutor() as pool:
            tried = pool.map(partial(_try_picture, backbone.preprocessing), chosen)
            return [picture for picture in tried if picture is not None]

    forms = prepare_for(backbone, fidelity or "fast", images, machines, pictures)
    if start is not None:
        print(f"{forms}, {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    return forms


def _try_picture(preprocessing: Preprocessing, image: ListedImage) -> np.ndarray | None:
    try:
        return np.ascontiguousarray(decode(read_image(image), preprocessing).pixels)
    except ImageError:
        return None
