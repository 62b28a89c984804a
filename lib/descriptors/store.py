"""The files of descriptors and of failures in a database: listed, read, cut down, swept."""

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lib.errors import BadInputError, ConflictError, MissingError
from lib.images.listed import ListedImage
from lib.parquet import content_of, opened_parquet, parquet_bytes, read_schema, read_table
from lib.schemas import Computation, Provenance, column_to_vectors, require_same, vectors_to_column
from lib.storage import (
    StoredFile,
    absolute,
    join,
    list_stored,
    read_json,
    replace_bytes,
    sweep_temporary,
)

# The values of descriptors do not shrink; read without decompression they cost no time. Names do.
DESCRIPTOR_WRITING = {
    "compression": {
        **dict.fromkeys(("image_id", "uri", "path", "etag"), "zstd"),
        "descriptor.list.element": "none",
    },
    "use_dictionary": False,
    "write_statistics": ["path"],
    "row_group_size": 16_384,
}

# What planning reads of each row, and what it says is to change: a uri of null drops the row.
KNOWN = pa.schema(
    [
        *((name, pa.string()) for name in ("path", "uri", "etag", "digest")),
        ("bytes", pa.int64()),
        ("failed", pa.bool_()),
        ("file", pa.int32()),
        ("row", pa.int32()),
    ]
)
EDITS = pa.schema(
    [("file", pa.int32()), ("row", pa.int32()), ("uri", pa.string()), ("etag", pa.string())]
)


KINDS = ("descriptors", "failures")
PARTS_KEY = b"merged_from"  # JSON: contents of the files that a merged one replaces
_READERS = 16  # ends of files read at a time
_ATTEMPTS = 10  # at a listing, while a merge begins or ends


class DescribedImage(NamedTuple):
    """An image that has a descriptor, and what is known of its file."""

    image: ListedImage
    width: int  # pixels, 0 where not known, as the next
    height: int
    bytes: int  # -1 where not known
    digest: str  # `content_digest`, empty where not known


def descriptor_table(
    images: Sequence[DescribedImage], descriptors: np.ndarray, schema: pa.Schema
) -> pa.Table:
    """Rows of `DB/descriptors` of N images; descriptors (N, D), `schema` of `descriptor_schema`."""
    rows = [
        (image.image_id, image.uri, image.path, width, height, size, image.etag, digest)
        for image, width, height, size, digest in images
    ]
    columns = [*zip(*rows, strict=True)] or [()] * (len(schema) - 1)
    arrays = [pa.array(c, schema.field(i).type) for i, c in enumerate(columns)]
    kind = schema.field("descriptor").type.value_type.to_pandas_dtype()
    return pa.Table.from_arrays(
        [*arrays, vectors_to_column(descriptors.astype(kind))], schema=schema
    )


@dataclass(frozen=True)
class Failure:
    """Why an image has no descriptor."""

    reason: str
    message: str
    bytes: int = -1  # -1 where none could be read
    sha256: str = ""

    def row(self, image: ListedImage) -> dict[str, Any]:
        """A row of `DB/failures`."""
        size = image.bytes if self.bytes < 0 else self.bytes
        return {**image._asdict(), **vars(self), "bytes": size}


@dataclass(frozen=True)
class MergeRecord:
    """A merge of files: which new one replaces which; see `lib.descriptors.merging`."""

    url: str
    written: bool  # whether the new files count, no longer the old ones
    files: dict[str, list[str]]  # names: of a new file → of those that it replaces
    changed: float = 0.0  # when it was written, seconds since 1970

    @property
    def sources(self) -> list[str]:
        """Names of the files that are replaced."""
        return [name for names in self.files.values() for name in names]

    @property
    def passed(self) -> list[str]:
        """Names of the files that do not count: the old ones or, until it is written, the new."""
        return self.sources if self.written else [*self.files]

    def content(self, written: bool = False) -> dict[str, Any]:
        """What its file says."""
        return {"written": written, "files": self.files}


def merge_records(directory: str) -> list[MergeRecord]:
    """Merges in a directory that are at work, or whose old files are still there."""
    return _read_records(directory, list_stored(directory, ".json"))


def _read_records(directory: str, files: Sequence[StoredFile]) -> list[MergeRecord]:
    records = []
    for file in files:
        url = join(directory, file.name)
        with suppress(MissingError):  # it ended just now
            records.append(MergeRecord(url, **read_json(url), changed=file.changed))
    return records


def stored_files(db: str, kind: str) -> list[StoredFile]:
    """The finished files of "descriptors" or "failures" that count, by name.

    Of a merge either the old files count or the new ones. Raises BadInputError where the new ones
    are not there.
    """
    directory = join(db, kind)
    for _ in range(_ATTEMPTS):
        entries = list_stored(directory, "")
        files = [file for file in entries if file.name.endswith(".parquet")]
        before = [file for file in entries if file.name.endswith(".json")]
        records = _read_records(directory, before)
        if list_stored(directory, ".json") != before:
            continue
        names = {file.name for file in files}
        lost = {name for each in records if each.written for name in each.files} - names
        if lost:
            raise BadInputError(f"{directory} lacks {min(lost)}, which a merge wrote there")
        passed = {name for each in records for name in each.passed}
        return [file for file in files if file.name not in passed]
    raise ConflictError(f"files in {directory} are merged all the time; try again in a moment")


def parts_of(url: str) -> tuple[str, ...]:
    """The contents of the files that a merged one replaces, else its own; see `content_of`."""
    parts = (footer(url).metadata or {}).get(PARTS_KEY)
    return tuple(json.loads(parts)) if parts else (content_of(url),)


def shard_states(db: str) -> dict[str, str]:
    """URLs of all finished files of descriptors and of failures, each with its state.

    Rows are numbered as they lie in it in this state.
    """
    return {
        join(db, kind, file.name): file.state for kind in KINDS for file in stored_files(db, kind)
    }


def descriptor_files(db: str) -> list[str]:
    """URLs of all finished descriptor files."""
    return [join(db, "descriptors", file.name) for file in stored_files(db, "descriptors")]


def known_images(files: Sequence[str], group: range) -> pa.Table:
    """KNOWN of every image in the files of these numbers, described or failed, file by file."""
    return pa.concat_tables([KNOWN.empty_table(), *(_known(files[at], at) for at in group)])


def _known(file: str, number: int) -> pa.Table:
    with opened_parquet(file) as opened, pq.ParquetFile(opened, pre_buffer=True) as parquet:
        there = parquet.schema_arrow.names
        table = parquet.read([name for name in (*KNOWN.names, "sha256") if name in there])
    count = table.num_rows
    values = {name: table[name] for name in table.column_names} | {
        "failed": pa.repeat(file.rsplit("/", 2)[-2] == "failures", count),
        "file": pa.repeat(pa.scalar(number, pa.int32()), count),
        "row": pa.array(np.arange(count), pa.int32()),
    }
    if "digest" not in values:  # a failure, or extracted before digests were kept
        whole = values.get("sha256", pa.repeat("", count))
        values["digest"] = pc.utf8_slice_codeunits(whole, 0, 16)
    texts = pa.repeat("", count)  # a file of an older program may lack a column
    return pa.table([values.get(name, texts) for name in KNOWN.names], KNOWN)


def row_counts(files: Sequence[str]) -> list[int]:
    """Rows of each file, from its footer."""
    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(lambda file: footer(file).num_rows, files))


def count_rows(db: str) -> tuple[int, int]:
    """Rows of descriptors and of failures, from the files' footers only."""
    described, failed = (
        sum(row_counts([join(db, kind, file.name) for file in stored_files(db, kind)]))
        for kind in KINDS
    )
    return described, failed


def provenance(db: str) -> Provenance | None:
    """Origin of the descriptors that are there; None where there are none."""
    files = descriptor_files(db)
    return Provenance.from_schema(read_schema(files[0]), files[0]) if files else None


def computation(db: str) -> Computation | None:
    """How the first descriptors that are there were computed; None where nothing says so."""
    files = descriptor_files(db)
    return Computation.from_schema(read_schema(files[0])) if files else None


@dataclass(frozen=True)
class DescriptorIndex:
    """Which image each row of `DB/descriptors/*.parquet` is, files in sorted order.

    `image_ids` and `paths` are columns of large strings, a chunk a file: as Python's strings those
    of ten million images would take two gigabytes.
    """

    files: list[str]
    image_ids: pa.ChunkedArray
    paths: pa.ChunkedArray
    provenance: Provenance

    def __len__(self) -> int:
        return len(self.image_ids)

    def images(self) -> Iterator[tuple[str, str]]:
        """Id and path of each row, of one file at a time."""
        for ids, paths in zip(self.image_ids.chunks, self.paths.chunks, strict=True):
            yield from zip(ids.to_pylist(), paths.to_pylist(), strict=True)

    def ids_of(self, rows: np.ndarray) -> list[str]:
        """Ids of some rows, in their order."""
        return self.image_ids.take(pa.array(rows)).to_pylist()


def named_images(db: str) -> Iterator[tuple[str, str]]:
    """Id and path of each described image, file by file."""
    for file in descriptor_files(db):
        table = read_table(file, ["image_id", "path"])
        yield from zip(table["image_id"].to_pylist(), table["path"].to_pylist(), strict=True)


def index_descriptors(db: str) -> DescriptorIndex:
    """Ids and paths of all descriptors, without the descriptors themselves.

    Raises MissingError where there are none and MismatchError where two files have different
    origins.
    """
    files = descriptor_files(db)
    if not files:
        if failed := count_rows(db)[1]:
            raise MissingError(
                f"{db} holds no descriptors: all {failed:,} images failed, see {db}/failures; mend "
                "them, and run jobs.extract_descriptors --retry-failed"
            )
        on_the_web = urlsplit(db).scheme in ("http", "https")
        raise MissingError(
            f"{absolute(db)} holds no descriptors; run jobs.extract_descriptors first"
            + ("; a service is asked over HTTP, as GET /search?q=two+dogs" if on_the_web else "")
        )
    provenance = Provenance.from_schema(read_schema(files[0]), files[0])
    named = pa.schema([("image_id", pa.large_string()), ("path", pa.large_string())])
    tables = []
    for file in files:
        require_same(
            f"the descriptors in {files[0]} and {file}",
            provenance,
            Provenance.from_schema(read_schema(file), file),
            "Extract one of them again with jobs.extract_descriptors",
        )
        tables.append(read_table(file, named.names).cast(named).combine_chunks())
    table = pa.concat_tables(tables)
    return DescriptorIndex(files, table["image_id"], table["path"], provenance)


def read_descriptors(files: list[str], rows: np.ndarray) -> np.ndarray:
    """(len(rows), descriptor_size) float32: the descriptors of sorted rows over all files.

    Of a file without such rows only the end is read, of the others one at a time is held, so that
    memory is bounded by a file and the result.
    """
    parts: list[np.ndarray] = []
    for file, own in _rows_by_file(files, rows):
        if len(own) or not parts:  # the first gives the length where no row is wanted
            vectors = column_to_vectors(read_table(file, ["descriptor"])["descriptor"])
            parts.append(vectors[own].astype(np.float32))
    return np.concatenate(parts)


def _rows_by_file(files: list[str], rows: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Each file, and which of its rows are among the sorted rows over all files."""
    first = 0
    for file in files:
        last = first + footer(file).num_rows
        start, end = np.searchsorted(rows, [first, last])
        yield file, rows[start:end] - first
        first = last


def read_contents(files: list[str], rows: np.ndarray) -> dict[int, str]:
    """What tells the content of images, by sorted rows over all files: the digest, else size and
    version.
    """
    contents: list[str] = []
    for file, own in _rows_by_file(files, rows):
        if len(own):
            known = _known(file, 0).take(own)
            told = zip(
                *(known[name].to_pylist() for name in ("digest", "bytes", "etag")), strict=True
            )
            contents += [digest or f"{size} {etag}" for digest, size, etag in told]
    return dict(zip(rows.tolist(), contents, strict=True))


def read_uris(files: list[str], rows: np.ndarray) -> list[str]:
    """What opens the images of sorted rows over all files."""
    uris: list[str] = []
    for file, own in _rows_by_file(files, rows):
        if len(own):
            uris += read_table(file, ["uri"])["uri"].take(own).to_pylist()
    return uris


def apply_edits(states: Mapping[str, str], group: range, *edits: pa.Table) -> None:
    """Write the files of these numbers again as EDITS say; one left empty goes away.

    states: by file, as when the rows were numbered. Raises ConflictError where another run has
    written a file since; nothing of it is changed then.
    """
    files = list(states.items())
    changed: dict[str, list[str]] = {}  # directory → names
    for number in group:
        mine = pa.concat_tables([part.filter(pc.field("file") == number) for part in edits])
        if mine.num_rows:
            _apply(*files[number], mine)
            directory, name = files[number][0].rsplit("/", 1)
            changed.setdefault(directory, []).append(name)
    # A merge looks at the states of its files once it counts: one of the two notices the other.
    for directory, names in changed.items():
        written = (record for record in merge_records(directory) if record.written)
        merged = {name for record in written for name in record.sources}
        if lost := merged.intersection(names):
            raise ConflictError(
                f"{directory}/{min(lost)} was merged with others meanwhile; run this one again"
            )


def _apply(file: str, state: str, edits: pa.Table) -> None:
    try:
        table = read_table(file)
    except MissingError as error:
        raise ConflictError(f"another run has taken {file} away; run this one again") from error
    moved = edits.filter(pc.field("uri").is_valid())
    for name in ("uri", "etag"):
        values = np.array(table[name].to_pylist(), object)
        values[moved["row"].to_numpy()] = moved[name].to_pylist()
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.schema.field(at), pa.array(values, pa.string()))
    keep = np.ones(table.num_rows, bool)
    keep[edits["row"].filter(edits["uri"].is_null()).to_numpy()] = False
    metadata = {k: v for k, v in (table.schema.metadata or {}).items() if k != PARTS_KEY}
    table = table.replace_schema_metadata(metadata)
    kind = file.rsplit("/", 2)[1]
    content = parquet_bytes(table.filter(pa.array(keep)), **writing(kind)) if keep.any() else None
    replace_bytes(file, content, state)


def footer(file: str) -> pq.FileMetaData:
    """What a Parquet file says of itself at its end."""
    with opened_parquet(file) as opened:
        return pq.read_metadata(opened)


def remove_leftovers(db: str) -> None:
    """Delete unfinished files of runs that were killed, where the database is a directory."""
    for kind in KINDS:
        sweep_temporary(join(db, kind))


def writing(kind: str) -> dict[str, object]:
    """Options of the Parquet writer for files of this kind."""
    return DESCRIPTOR_WRITING if kind == "descriptors" else {}
