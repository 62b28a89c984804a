"""The order of image ids: numbers by value, then other ids by letter."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def natural_order(image_ids: pa.ChunkedArray) -> np.ndarray:
    """Rows in the order of their ids, (N,) int64: numbers by value, then other ids by letter."""
    numeric = pc.match_substring_regex(image_ids, "^[0-9]{1,18}$").to_numpy()
    numbers, others = np.flatnonzero(numeric), np.flatnonzero(~numeric)
    values = image_ids.filter(pa.array(numeric)).cast(pa.int64()).to_numpy()
    by_letter = pc.sort_indices(image_ids.filter(pa.array(~numeric))).to_numpy()
    return np.concatenate([numbers[np.argsort(values, kind="stable")], others[by_letter]])


def in_natural_order(tables: Sequence[pa.Table]) -> tuple[pa.Table, np.ndarray]:
    """Tables of images as one, sorted by `image_id`, and the row where each of its rows was.

    Strings get 64-bit offsets: one chunk may hold more than 2 GB of them.
    """
    images = pa.concat_tables(tables)
    wide = [
        pa.field(field.name, pa.large_string() if pa.types.is_string(field.type) else field.type)
        for field in images.schema
    ]
    images = images.cast(pa.schema(wide))
    order = natural_order(images["image_id"])
    if (order[1:] < order[:-1]).any():
        images = images.take(pa.array(order))
    return images.combine_chunks(), order


def natural_key(image_id: str) -> tuple[int, int, str]:
    """What puts single ids in the same order as `natural_order`."""
    number = image_id.isascii() and image_id.isdecimal() and len(image_id) <= 18
    return (0, int(image_id), "") if number else (1, 0, image_id)


def first_and_last(image_ids: pa.ChunkedArray) -> tuple[str | None, str | None]:
    """The ends of the ids in natural order; None where there is no id."""
    order = natural_order(image_ids)
    if not len(order):
        return None, None
    return image_ids[int(order[0])].as_py(), image_ids[int(order[-1])].as_py()
