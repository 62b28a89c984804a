"""What fuzzing reads, and valid inputs to begin with, of each kind of input that people bring."""

import csv
import gzip
import io
import json
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lib.datasets.captions import load_captions
from lib.descriptors.import_formats import read_descriptor_file
from lib.descriptors.safe_pickle import load_arrays
from lib.errors import ImageSearchError
from lib.images.decoding import decode_upright
from lib.images.listing import list_images
from lib.images.reading import read_image
from lib.text.query import parse_query
from lib.text.word_vectors import load_word_vectors
from tests.descriptors.test_extraction import jpeg


def _query(content: bytes, file: Path) -> None:
    parse_query(content.decode("utf-8", "replace"))


def _captions(content: bytes, file: Path) -> None:
    load_captions(str(file))


def _pickle(content: bytes, file: Path) -> None:
    load_arrays(content, "fuzzed")


def _vectors(content: bytes, file: Path) -> None:
    load_word_vectors(str(file.rename(file.with_suffix(".txt"))))


def _picture(content: bytes, file: Path) -> None:
    decode_upright(content)


def _listing(ending: str) -> Callable[[bytes, Path], None]:
    def list_all(content: bytes, file: Path) -> None:
        for image in list_images(str(file.rename(file.with_suffix(ending)))):
            if image.uri.startswith("http"):  # whoever a changed address may lead to
                continue
            try:
                read_image(image, attempts=1)
            except ImageSearchError:
                continue

    return list_all


def _descriptors(ending: str) -> Callable[[bytes, Path], None]:
    def read(content: bytes, file: Path) -> None:
        for _ in read_descriptor_file(str(file.rename(file.with_suffix(ending)))):
            pass

    return read


def _zip() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("a/b.jpg", jpeg(1))
        archive.writestr("a/b.txt", "a dog")
    return sink.getvalue()


def _tar() -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        member = tarfile.TarInfo("a.jpg")
        member.size = len(jpeg(1))
        archive.addfile(member, io.BytesIO(jpeg(1)))
    return sink.getvalue()


def _parquet(columns: dict[str, list]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def _npz() -> bytes:
    sink = io.BytesIO()
    np.savez(sink, ids=np.array(["a"]), descriptors=np.ones((1, 4), np.float32))
    return sink.getvalue()


def _table() -> bytes:
    sink = io.StringIO()
    csv.writer(sink).writerows([["image", "caption"], ["a.jpg", 'a "big", red bus']])
    return sink.getvalue().encode()


_ROWS = _parquet({"id": ["a", "b"], "descriptor": [[0.5] * 4, [1.0] * 4], "caption": ["x", "y"]})
_CONTENTS = _parquet({"path": ["a.jpg", "b.jpg"], "bytes": [jpeg(1), jpeg(2)]})
_COCO = json.dumps(
    {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "annotations": [{"image_id": 1, "caption": "a dog"}],
    }
).encode()

# What reads an input, and inputs to begin with.
TARGETS: dict[str, tuple[Callable[[bytes, Path], None], list[bytes]]] = {
    "query": (_query, [b'"hot dog"^2 -cat', b"a\\^2", "dog −beach".encode()]),
    "captions": (
        _captions,
        [_COCO, _table(), _ROWS, gzip.compress(_COCO, mtime=0), _tar(), _zip()],
    ),
    "pickle": (_pickle, [pickle.dumps({"a": np.ones((1, 4))}, 2), pickle.dumps([1.5, "x"])]),
    "vectors": (_vectors, [b"2 3\ncat 1 2 3\ndog 4 5 6\n", b"cat 1 2 3\ndog 4 5 6\n"]),
    "picture": (_picture, [jpeg(1)]),
    "zip": (_listing(".zip"), [_zip()]),
    "tar": (_listing(".tar"), [_tar()]),
    "list": (_listing(".csv"), [b"uri\nhttp://127.0.0.1:9/a.jpg\n", b"path\na.jpg\n"]),
    "npz": (_descriptors(".npz"), [_npz()]),
    "parquet": (_descriptors(".parquet"), [_ROWS]),
    "contents": (_listing(".parquet"), [_CONTENTS]),
}


def read_input(target: str, content: bytes, directory: Path) -> None:
    """Read an input as a file that is alone in a directory; an error of the project is an answer.

    Raises what else the reading raises.
    """
    for old in directory.iterdir():
        old.unlink()
    file = directory / "input"
    file.write_bytes(content)
    with suppress(ImageSearchError):
        TARGETS[target][0](content, file)
