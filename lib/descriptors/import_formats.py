"""Ready-made descriptors in the files in which they are handed on: pickle, npy, npz, Parquet."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lib.descriptors.safe_pickle import load_arrays
from lib.errors import BadArgumentError, BadInputError, MissingError
from lib.parquet import opened_parquet
from lib.storage import exists, is_text, read_bytes, read_lines

BATCH_ROWS = 16_384
_ID_NAMES = ("image_id", "image_ids", "id", "ids", "keys")

Batch = tuple[list[str], Sequence[np.ndarray] | np.ndarray]


def read_descriptor_file(file: str, ids: str | None = None) -> Iterator[Batch]:
    """Image ids and their descriptors, in batches of at most `BATCH_ROWS`; an id may be empty.

    `file`, a path or URL: `.pkl` (a dict of image id → array of shape (D,) or (1, D); nothing but
    numpy arrays is admitted), `.npz` (an array of ids and one of shape (N, D), or arrays as in a
    .pkl, each by the name of its image's id), `.npy` (N, D) with `ids` (`.npy` or a text file with
    one id a line; by default NAME.ids.npy or NAME.ids.txt beside it), or `.parquet` (a column of
    ids and one of lists). A batch's descriptors are (n, D), or one array an image where their
    shapes are for the caller to check.

    Raises MissingError where a file is absent, BadInputError where it holds something else.
    """
    ending = file.rsplit(".", 1)[-1].lower()
    readers = {"pkl": _pickled, "pickle": _pickled, "npz": _npz, "parquet": _parquet}
    if not exists(file):
        raise MissingError(f"{file} is not there")
    if ending == "npy":
        return _npy(file, ids)
    if ids is not None:
        raise BadArgumentError(f"--ids goes with a .npy file; {file} holds its ids itself")
    if ending not in readers:
        raise BadInputError(f"{file} is of no known kind; known are .pkl, .npz, .npy and .parquet")
    return readers[ending](file)


def _pickled(file: str) -> Iterator[Batch]:
    content = load_arrays(read_bytes(file), file)
    if not isinstance(content, dict):
        raise BadInputError(f"{file} holds a {type(content).__name__}, not a dict of id → array")
    if columns := [name for name in content if name in _ID_NAMES]:
        raise BadInputError(
            f"{file} has an entry {columns[0]!r}: a dict of arrays, not of image id → array. "
            "Save it as .npz with the arrays ids and descriptors instead"
        )
    yield from _by_id(content, file)


def _by_id(content: dict[Any, Any], file: str) -> Iterator[Batch]:
    keys = list(content)
    for start in range(0, len(keys), BATCH_ROWS):
        chosen = keys[start : start + BATCH_ROWS]
        vectors = [content[key] for key in chosen]
        for key, vector in zip(chosen, vectors, strict=True):
            if not isinstance(vector, np.ndarray):
                raise BadInputError(
                    f"{file}: the value of image {key!r} is a {type(vector).__name__}, not an array"
                )
        yield _as_ids(chosen), vectors


def _npz(file: str) -> Iterator[Batch]:
    try:
        with np.load(io.BytesIO(read_bytes(file)), allow_pickle=False) as opened:
            arrays = {name: opened[name] for name in opened.files}
    except Exception as error:  # whose text may advise to run any code that is in the file
        raise BadInputError(
            f"{file} cannot be read as .npz: it is damaged, or holds Python objects; give arrays "
            "of numbers and, for ids, of texts (.astype(str))"
        ) from error
    ids = [name for name in arrays if name in _ID_NAMES]
    matrices = [name for name, array in arrays.items() if array.ndim in (2, 3)]
    # numpy names those that were given no name arr_0, arr_1, ...
    vectors = all(array.shape[-1:] == (array.size,) for array in arrays.values())
    if vectors and len(arrays) > 1 and arrays.keys().isdisjoint({*_ID_NAMES, "arr_0"}):
        yield from _by_id(arrays, file)
        return
    if len(ids) != 1 or len(matrices) != 1:
        shapes = _few([f"{name} {array.shape}" for name, array in arrays.items()])
        raise BadInputError(
            f"{file} needs the arrays ids (N,) and descriptors (N, D), or an array (D,) under the "
            f"id of each image; has {shapes}"
        )
    yield from _rows(_as_ids(arrays[ids[0]]), arrays[matrices[0]], file)


def _npy(file: str, ids: str | None) -> Iterator[Batch]:
    stem = file.rsplit(".", 1)[0]
    id_file = ids or next(
        (name for name in (f"{stem}.ids.npy", f"{stem}.ids.txt") if exists(name)), None
    )
    if id_file is None:
        raise BadArgumentError(
            f"{file} does not say which image each row is; name a file of ids with --ids "
            f"(or have {stem}.ids.npy or {stem}.ids.txt beside it)"
        )
    names = _load_npy(id_file) if id_file.lower().endswith(".npy") else read_lines(id_file)
    yield from _rows(_as_ids(names), _load_npy(file), file)


def _load_npy(file: str) -> np.ndarray:
    """The array of a file; mapped where it is local: a matrix may be larger than memory."""
    cause: Exception | None = None
    try:
        local = Path(file).exists()
        content = file if local else io.BytesIO(read_bytes(file))
        array = np.load(content, "r" if local else None, allow_pickle=False)
        if isinstance(array, np.ndarray):
            return array
    except (ValueError, EOFError) as error:  # whose text may advise to run any code in the file
        cause = error
    raise BadInputError(
        f"{file} cannot be read as .npy: it is damaged, or holds Python objects; give an array of "
        "numbers or, for ids, of texts (.astype(str))"
    ) from cause


def _rows(ids: list[str], matrix: np.ndarray, file: str) -> Iterator[Batch]:
    if matrix.ndim == 3 and matrix.shape[1] == 1:
        matrix = matrix[:, 0]
    if matrix.ndim != 2 or matrix.dtype.kind != "f":
        raise BadInputError(
            f"{file} holds {matrix.dtype} of shape {matrix.shape}; floats of shape (N, D) are meant"
        )
    if len(ids) != len(matrix):
        raise BadInputError(
            f"{file} has {len(matrix)} descriptors and {len(ids)} ids; one each is meant, in a "
            "text file one a line without a heading"
        )
    for start in range(0, len(ids), BATCH_ROWS):
        yield ids[start : start + BATCH_ROWS], np.asarray(matrix[start : start + BATCH_ROWS])


def _parquet(file: str) -> Iterator[Batch]:
    with opened_parquet(file) as opened:
        table = pq.ParquetFile(opened)
        id_column, list_column = _columns(table.schema_arrow, file)
        for batch in table.iter_batches(BATCH_ROWS, columns=[id_column, list_column]):
            ids = _as_ids(batch.column(id_column).to_pylist())
            yield ids, _lists(batch.column(list_column))


def _columns(schema: pa.Schema, file: str) -> tuple[str, str]:
    """Names of the column of ids and of the column of vectors."""
    lists = [
        field.name
        for field in schema
        if isinstance(field.type, pa.ListType | pa.LargeListType | pa.FixedSizeListType)
        and pa.types.is_floating(field.type.value_type)
    ]
    named = [name for name in schema.names if name in _ID_NAMES]
    plain = [
        field.name
        for field in schema
        if pa.types.is_integer(field.type)
        or pa.types.is_string(field.type)
        or pa.types.is_large_string(field.type)
    ]
    ids = named or (plain if len(plain) == 1 else [])
    if len(lists) != 1 or not ids:
        raise BadInputError(
            f"{file} needs a column image_id and one column of lists of floats; "
            f"it has {_few([f'{field.name} ({field.type})' for field in schema])}"
        )
    return ids[0], lists[0]


def _few(names: Sequence[str]) -> str:
    """The first of many names, and how many more there are."""
    return ", ".join([*names[:8], *[f"and {len(names) - 8:,} more"] * (len(names) > 8)])


def _lists(column: pa.Array) -> Sequence[np.ndarray] | np.ndarray:
    values = column.flatten().to_numpy(zero_copy_only=False)
    if column.null_count == 0 and isinstance(column.type, pa.FixedSizeListType):
        return values.reshape(len(column), column.type.list_size)
    lengths = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    return np.split(values, np.cumsum(lengths)[:-1])


def _as_ids(ids: Sequence[Any] | np.ndarray) -> list[str]:
    """Ids as texts: 139, 139.0, '139' and numpy's 139 are the same image. Empty: none, or no id."""
    entries = np.atleast_1d(ids).tolist() if isinstance(ids, np.ndarray) else ids
    return [_as_id(entry) for entry in entries]


def _as_id(entry: Any) -> str:
    if isinstance(entry, float) and entry.is_integer():  # pandas' ids, where one is missing
        entry = int(entry)
    whole = isinstance(entry, int | str | np.integer)
    return str(entry) if whole and is_text(str(entry)) else ""
