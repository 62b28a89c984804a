"""Triples of a caption, a good image and a bad image: how the bad one is drawn."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Triples:
    """Row i: caption `caption[i]`, an image it describes, and one it does not; all (T,) int64."""

    caption: np.ndarray
    good: np.ndarray
    bad: np.ndarray

    def __len__(self) -> int:
        return len(self.caption)


def uniform_triples(
    caption_to_row: np.ndarray, image_count: int, per_caption: int, rng: np.random.Generator
) -> Triples:
    """`per_caption` triples a caption, the bad image uniform among all but the caption's own.

    caption_to_row: (C,) int, the row of each caption's image in 0..image_count-1. The order is
    caption by caption. Raises ValueError with fewer than two images: nothing is bad then.
    """
    if image_count < 2:
        raise ValueError(f"a triple needs two images or more; there are {image_count}")
    caption = np.repeat(np.arange(len(caption_to_row), dtype=np.int64), per_caption)
    good = caption_to_row[caption].astype(np.int64)
    # One of the other image_count - 1, shifted past the good one: no rejection, no bias.
    bad = rng.integers(0, image_count - 1, len(caption))
    return Triples(caption, good, bad + (bad >= good))
