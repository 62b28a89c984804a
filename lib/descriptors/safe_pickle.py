"""Read a pickle that may hold numpy arrays and plain containers, and can run nothing."""

import io
import pickle
import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np

from lib.errors import BadInputError

_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")
_OPEN = object()  # of a container that is being looked at
_KINDS = "biufSU"  # booleans, integers, floats and texts: no objects


class _ArrayClass:
    """Stands for numpy.ndarray; cannot be made, so that no pickle allocates by itself."""

    def __init__(self) -> None:
        raise pickle.UnpicklingError("a direct call of numpy.ndarray")


class _Dtype:
    """Stands for numpy.dtype: the name of a plain type, and its byte order from the state."""

    def __init__(self, name: str, *_: object) -> None:
        self.dtype = np.dtype(name if isinstance(name, str) else "O")
        if self.dtype.kind not in _KINDS or self.dtype.fields or self.dtype.subdtype:
            raise pickle.UnpicklingError(f"an array of type {self.dtype}")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands for an array whose shape, type and bytes follow as its state."""

    def __init__(self, *_: object) -> None:
        self.array = np.empty(0, np.float32)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, content = state
        self.array = _from_buffer(content, dtype, shape, "F" if fortran else "C")


def _from_buffer(buffer: Any, dtype: _Dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    array = np.frombuffer(buffer, dtype.dtype)
    return array.reshape(shape, order="F" if order == "F" else "C")


def _scalar(dtype: _Dtype, content: bytes) -> Any:
    return np.frombuffer(content, dtype.dtype)[0]


# What numpy's arrays name in a pickle of protocol 0 to 5, by numpy 1 or 2.
_ADMITTED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _ArrayClass,
    ("numpy", "dtype"): _Dtype,
    **{
        (f"numpy.{core}.multiarray", name): maker
        for core in ("core", "_core")
        for name, maker in (("_reconstruct", _Array), ("scalar", _scalar))
    },
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
}


class _ArrayUnpickler(pickle.Unpickler):
    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content))
        self._encodable = len(content)  # bytes that texts of the pickle may become

    def _latin1(self, text: str, encoding: str) -> bytes:
        self._encodable -= len(text)
        if self._encodable < 0:
            raise pickle.UnpicklingError("more bytes than it has itself")
        if encoding != "latin1":
            raise pickle.UnpicklingError(f"text encoded as {encoding}")
        return text.encode("latin1")

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return self._latin1
        admitted = _ADMITTED.get((module, name))
        if admitted is None:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return admitted


def _plain(value: Any, plain: dict[int, Any]) -> Any:
    """A value without our stand-ins; what stands in it many times is looked at once.

    plain: results by identity, of values that are kept alive by the whole. Raises UnpicklingError
    where a container holds itself.
    """
    if isinstance(value, _Array):
        return value.array
    if not isinstance(value, dict | list | tuple):
        return value
    if id(value) not in plain:
        plain[id(value)] = _OPEN
        plain[id(value)] = (
            {key: _plain(entry, plain) for key, entry in value.items()}
            if isinstance(value, dict)
            else type(value)(_plain(entry, plain) for entry in value)
        )
    if plain[id(value)] is _OPEN:
        raise pickle.UnpicklingError("a container that holds itself")
    return plain[id(value)]


def _require_bounded(content: bytes) -> None:
    """Raise UnpicklingError where the memo is numbered beyond what the pickle can fill.

    Python's own unpickler makes room for the greatest number, 16 GB in 9 bytes.
    """
    for opcode, number, _ in pickletools.genops(content):
        if opcode.name in _PUTS and isinstance(number, int) and number > len(content):
            raise pickle.UnpicklingError(f"room for {number:,} values")


def load_arrays(content: bytes, name: str) -> Any:
    """Content of a pickle of numpy arrays in plain dicts, lists, tuples, numbers and texts.

    Nothing that the pickle names is imported or called but our own stand-ins for the five functions
    that numpy's arrays need. Raises BadInputError, naming what was asked for, for any other.
    """
    try:
        _require_bounded(content)
        return _plain(_ArrayUnpickler(content).load(), {})
    except pickle.UnpicklingError as error:
        raise BadInputError(
            f"{name} is refused: a pickle may hold numpy arrays only, this one asks for {error}. "
            "Save it as .npz with the arrays ids and descriptors instead"
        ) from error
    except Exception as error:  # a damaged pickle raises anything
        raise BadInputError(f"{name} is no readable pickle: {error!r}") from error
