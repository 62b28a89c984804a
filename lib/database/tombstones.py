"""Which images were removed: each tombstone is bound to the photo that it removed, not its name."""

import hashlib
from collections.abc import Collection, Iterable
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# What tells the photo that was removed from another that is saved later under its name.
IDENTITY = ("image_id", "digest", "bytes", "width", "height")
_SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string()),
        pa.field("digest", pa.string()),  # empty where it was not known
        pa.field("bytes", pa.int64()),  # null: whatever has this id, as an older program removed
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
    ]
)


class Tombstones:
    """The images that a version hides. Immutable; equal where they hide the same."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table  # of _SCHEMA, sorted, no row twice

    @classmethod
    def of_ids(cls, image_ids: Iterable[str]) -> "Tombstones":
        """For whatever has these ids: an older program noted no more."""
        ids = sorted(set(image_ids))
        rest = [pa.nulls(len(ids), field.type) for field in list(_SCHEMA)[1:]]
        return cls(pa.table([pa.array(ids, pa.string()), *rest], schema=_SCHEMA))

    def __len__(self) -> int:
        return self.table.num_rows

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tombstones) and self.table.equals(other.table)

    def __hash__(self) -> int:
        return hash(table_digest(self.table))

    @property
    def image_ids(self) -> list[str]:
        """Ids of the removed images, sorted."""
        return sorted(set(self.table["image_id"].to_pylist()))

    def with_rows(self, images: pa.Table) -> "Tombstones":
        """These and those of the rows of a table that has IDENTITY."""
        both = pa.concat_tables([self.table, with_digest(images).select(IDENTITY).cast(_SCHEMA)])
        names = list(IDENTITY)
        unique = both.group_by(names).aggregate([]).select(names)
        return Tombstones(unique.sort_by([(name, "ascending") for name in names]).combine_chunks())

    def without_ids(self, image_ids: Collection[str]) -> "Tombstones":
        """These but those of some ids."""
        ids = pa.array(sorted(image_ids), pa.string())
        kept = pc.invert(pc.is_in(self.table["image_id"], value_set=ids))
        return Tombstones(self.table.filter(kept).combine_chunks())

    def hides(self, images: pa.Table) -> np.ndarray:
        """(N,) bool: the rows of a table with IDENTITY that were removed."""
        hidden = np.zeros(len(images), bool)
        if not len(self):
            return hidden
        ids = self.table["image_id"]
        rows = np.flatnonzero(pc.is_in(images["image_id"], value_set=ids).to_numpy())
        for row, values in zip(rows, _identities(images.take(pa.array(rows))), strict=True):
            image_id, *photo = values
            hidden[row] = any(_same(photo, removed) for removed in self._by_id[image_id])
        return hidden

    def renamed(self, images: pa.Table) -> pa.Table:
        """IDENTITY of those rows of a table that are shown, but hold a photo that was removed."""
        table = with_digest(images).select(IDENTITY)
        same = pc.and_(
            pc.is_in(table["digest"], value_set=self.table["digest"]),
            pc.not_equal(table["digest"], ""),
        )
        table = table.filter(same)
        return table.filter(pa.array(~self.hides(table)))

    @cached_property
    def _by_id(self) -> dict[str, list[tuple]]:
        photos: dict[str, list[tuple]] = {}
        for image_id, *photo in _identities(self.table):
            photos.setdefault(image_id, []).append(tuple(photo))
        return photos


def _identities(images: pa.Table) -> Iterable[tuple]:
    table = with_digest(images)
    return zip(*(table[name].to_pylist() for name in IDENTITY), strict=True)


def _same(photo: Iterable, removed: Iterable) -> bool:
    """Whether two hold the same: by digest, by bytes and pixels where one has no digest."""
    (digest, *size), (removed_digest, *removed_size) = photo, removed
    if digest and removed_digest:
        return bool(digest == removed_digest)
    return removed_size[0] is None or size == removed_size


def with_digest(images: pa.Table) -> pa.Table:
    """The table with a column `digest`, empty where it was written before digests were kept."""
    if "digest" in images.column_names:
        return images
    return images.append_column("digest", pa.array([""] * len(images), pa.string()))


def table_digest(table: pa.Table) -> str:
    """16 hexadecimal digits that follow from what a table holds."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return hashlib.sha256(sink.getvalue()).hexdigest()[:16]


NONE_REMOVED = Tombstones(_SCHEMA.empty_table())
