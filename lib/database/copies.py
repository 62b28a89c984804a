"""Which images of a collection are of one file's content, under several names."""

import binascii

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def copied_rows(digests: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Rows (C,) int64, ascending, of images whose content comes twice or more, and a number
    (C,) uint64 for the content of each. digests: (N,); one that is not known is no one's copy."""
    contents = np.concatenate([np.zeros(0, np.uint64), *map(_numbers, digests.chunks)])
    order = np.argsort(contents)
    same = np.diff(contents[order]) == 0
    copied = np.append(same, False) | np.insert(same, 0, False)
    rows = np.sort(order[copied[: len(order)]])
    rows = rows[contents[rows] > 0]
    return rows, contents[rows]


def without_copies(allowed: np.ndarray, rows: np.ndarray, contents: np.ndarray) -> np.ndarray:
    """(N,) bool: of the images allowed those that are the first of their content.

    allowed: (N,) bool; rows and contents as of `copied_rows`.
    """
    among = allowed[rows]
    rows, contents = rows[among], contents[among]
    _, first = np.unique(contents, return_index=True)
    allowed = allowed.copy()
    allowed[rows] = False
    allowed[rows[first]] = True
    return allowed


def _numbers(digests: pa.Array) -> np.ndarray:
    """(n,) uint64: hexadecimal digits as numbers, 0 where there are none."""
    known = pc.match_substring_regex(digests, "^[0-9a-f]{16}$").fill_null(False)
    digits = digests.filter(known)
    numbers = np.zeros(len(digests), np.uint64)
    if len(digits):  # they lie one after another in the memory that filtering has filled
        values = binascii.unhexlify(digits.buffers()[2][: 16 * len(digits)])
        numbers[known.to_numpy(zero_copy_only=False)] = np.frombuffer(values, ">u8")
    return numbers
