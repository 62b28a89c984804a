"""What the Parquet files of a database hold, and where their content comes from."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from lib.errors import BadInputError, MismatchError

PROVENANCE_KEY, COMPUTATION_KEY = b"provenance", b"computation"

_IMAGE_FIELDS = [
    pa.field("image_id", pa.string()),  # COCO's number as text, else the path below --images
    pa.field("uri", pa.string()),  # what opens the image
    pa.field("path", pa.string()),  # relative to --images
    pa.field("width", pa.int32()),  # pixels, as a person sees the image (EXIF applied)
    pa.field("height", pa.int32()),
    pa.field("bytes", pa.int64()),  # size of the file
    pa.field("etag", pa.string()),  # the store's version of the file: ETag, or modification time
    pa.field("digest", pa.string()),  # `content_digest` of the file; empty where not known
]

FAILURES = pa.schema(
    [
        pa.field("image_id", pa.string()),
        pa.field("uri", pa.string()),
        pa.field("path", pa.string()),
        pa.field("reason", pa.string()),  # typed: unreadable, empty, not_an_image, truncated, …
        pa.field("message", pa.string()),
        pa.field("sha256", pa.string()),  # of the bytes; empty where none could be read
        pa.field("bytes", pa.int64()),
        pa.field("etag", pa.string()),
    ]
)

Precision = Literal["float32", "float16"]
Fidelity = Literal["fast", "float32"]  # fast: a cosine of at least 0.999 to float32's descriptors


@dataclass(frozen=True)
class Provenance:
    """What made a descriptor; two descriptors compare only where all of this is equal."""

    backbone: str
    weights_digest: str  # SHA-256 of the state dict, hexadecimal
    preprocessing: str  # resize, crop, mean and standard deviation, in words
    precision: Precision  # of the stored values
    descriptor_size: int

    def to_metadata(self) -> dict[bytes, bytes]:
        """Key and value for a Parquet schema's metadata."""
        return {PROVENANCE_KEY: json.dumps(dataclasses.asdict(self), sort_keys=True).encode()}

    @classmethod
    def from_schema(cls, schema: pa.Schema, name: str) -> "Provenance":
        """Read from the schema of file `name`; raises BadInputError where it is absent."""
        value = (schema.metadata or {}).get(PROVENANCE_KEY)
        if value is None:
            raise BadInputError(
                f"{name} does not say which backbone made its descriptors; "
                "write it with jobs.extract_descriptors or jobs.import_descriptors"
            )
        return cls(**json.loads(value))


@dataclass(frozen=True)
class Computation:
    """How descriptors were computed. Those of one origin compare whatever this says."""

    fidelity: Fidelity  # that was asked for
    engine: str
    least_cosine: float = 1.0  # to float32's, over some pictures of the collection
    pictures: int = 0  # how many

    def to_metadata(self) -> dict[bytes, bytes]:
        """Key and value for a Parquet schema's metadata."""
        return {COMPUTATION_KEY: json.dumps(dataclasses.asdict(self), sort_keys=True).encode()}

    @classmethod
    def from_schema(cls, schema: pa.Schema) -> "Computation | None":
        """Read from a file's schema; None where it does not say."""
        value = (schema.metadata or {}).get(COMPUTATION_KEY)
        return None if value is None else cls(**json.loads(value))

    @classmethod
    def of_both(cls, one: "Computation", other: "Computation") -> "Computation":
        """That of files which become one: both engines, the weaker promise."""
        weaker = min(one, other, key=lambda each: each.least_cosine)
        engines = sorted({*one.engine.split(" and "), *other.engine.split(" and ")})
        return dataclasses.replace(weaker, engine=" and ".join(engines))


def content_digest(content: bytes) -> str:
    """What tells an image file from any other: 16 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(content).hexdigest()[:16]


def descriptor_schema(provenance: Provenance, computation: Computation | None = None) -> pa.Schema:
    """Schema of `DB/descriptors/*.parquet`: one row an image."""
    value = pa.float16() if provenance.precision == "float16" else pa.float32()
    vector = pa.field("descriptor", pa.list_(value, provenance.descriptor_size))
    metadata = provenance.to_metadata() | (computation.to_metadata() if computation else {})
    return pa.schema([*_IMAGE_FIELDS, vector], metadata=metadata)


def embedding_schema(dimension: int, metadata: dict[bytes, bytes]) -> pa.Schema:
    """Schema of `DB/embeddings/*.parquet`: one row an image, a unit float32 vector each."""
    vector = pa.field("embedding", pa.list_(pa.float32(), dimension))
    return pa.schema([*_IMAGE_FIELDS, vector], metadata=metadata)


def vectors_to_column(vectors: np.ndarray) -> pa.FixedSizeListArray:
    """(N, D) float array as an Arrow column of fixed-size lists; a C-order input is not copied."""
    flat = pa.array(np.ascontiguousarray(vectors).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])


def column_to_vectors(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """(N, D) array of a column of fixed-size lists; zero-copy where it is one chunk."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    size = array.type.list_size
    return array.flatten().to_numpy(zero_copy_only=False).reshape(-1, size)


def require_same(thing: str, expected: object, actual: object, remedy: str) -> None:
    """Raise MismatchError unless two digests, names or sizes are equal.

    Of two provenances the message names the fields that differ. It says which two things disagree
    and which job to run.
    """
    if expected == actual:
        return
    says = f"{expected!r} and {actual!r}"
    if isinstance(expected, Provenance) and isinstance(actual, Provenance):
        pairs = zip(vars(expected).items(), vars(actual).values(), strict=True)
        says = "; ".join(f"{name} {a!r} and {b!r}" for (name, a), b in pairs if a != b)
    raise MismatchError(f"{thing} disagree: {says}. {remedy}")
