"""Taking images out of a database, and bringing them back: a commit of tombstones."""

import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from lib.database.manifest import Manifest, ManifestFile, commit_version, read_manifest, read_rows
from lib.database.ordering import natural_key
from lib.database.tombstones import IDENTITY
from lib.errors import BadInputError, ConflictError

_READERS = 8  # files read at a time


@dataclass(frozen=True)
class RemovalReport:
    """What a removal did, in images."""

    changed: int  # hidden now, or shown again
    to_embed: int = 0  # brought back, but compacted away: `embed_database` embeds them again


def remove_images(db: str, image_ids: list[str], undo: bool = False) -> RemovalReport:
    """Take images out of the database with a tombstone each, or bring them back (`undo`).

    A tombstone hides the photo that has the id now, not one saved later under the same name. Files
    of embeddings stay as they are until `lib.database.compaction` rewrites them; those that may
    hold one of the ids are read, no others. What another job commits meanwhile is built upon.
    Raises BadInputError where an id is not in the database (`undo`: was not removed); nothing is
    changed then.
    """
    while True:
        manifest = read_manifest(db)
        change = _undo if undo else _remove
        changed, report = change(db, manifest, set(image_ids))
        if changed == manifest:
            return report
        with suppress(ConflictError):
            commit_version(db, changed)
            return report


def _remove(db: str, manifest: Manifest, ids: set[str]) -> tuple[Manifest, RemovalReport]:
    unknown, removed, hidden = ids - set(manifest.tombstones.image_ids), [], {}
    for file, images in _images_with(db, manifest, ids):
        unknown -= set(images["image_id"].to_pylist())
        visible = images.filter(pa.array(~manifest.tombstones.hides(images)))
        removed.append(visible)
        hidden[file.name] = len(visible)
    _require_none(unknown, f"are not in {db}")
    count = sum(hidden.values())
    if not count:
        return manifest, RemovalReport(0)
    tombstones = manifest.tombstones.with_rows(pa.concat_tables(removed))
    files = _with_hidden(manifest, hidden)
    changed = dataclasses.replace(manifest, files=files, tombstones=tombstones)
    return changed, RemovalReport(count)


def _undo(db: str, manifest: Manifest, ids: set[str]) -> tuple[Manifest, RemovalReport]:
    _require_none(ids - set(manifest.tombstones.image_ids), f"were not removed from {db}")
    tombstones = manifest.tombstones.without_ids(ids)
    shown, absent = {}, set(ids)
    for file, images in _images_with(db, manifest, ids):
        back = images.filter(pa.array(manifest.tombstones.hides(images)))
        absent -= set(back["image_id"].to_pylist())
        shown[file.name] = -len(back)
    files = _with_hidden(manifest, shown)
    if absent:  # a file that names no source is embedded again from all of them
        files = tuple(
            dataclasses.replace(file, sources=())
            if file.dropped and _may_hold(file, absent)
            else file
            for file in files
        )
    changed = dataclasses.replace(manifest, files=files, tombstones=tombstones)
    return changed, RemovalReport(len(ids), len(absent))


def _with_hidden(manifest: Manifest, more: dict[str, int]) -> tuple[ManifestFile, ...]:
    return tuple(
        dataclasses.replace(file, hidden=file.hidden + more[file.name])
        if more.get(file.name) and file.hidden >= 0
        else file
        for file in manifest.files
    )


def _images_with(
    db: str, manifest: Manifest, ids: set[str]
) -> Iterator[tuple[ManifestFile, pa.Table]]:
    """The rows with one of the ids, removed ones too, of each file that may have some: IDENTITY."""
    # As bytes: half a letter, which a shell may give, is no text for Arrow, and in no id.
    values = pa.array([each.encode("utf-8", "surrogatepass") for each in ids], pa.binary())

    def read(file: ManifestFile) -> tuple[ManifestFile, pa.Table]:
        images = read_rows(db, file, IDENTITY)
        return file, images.filter(pc.is_in(images["image_id"].cast(pa.binary()), value_set=values))

    with ThreadPoolExecutor(_READERS) as pool:
        yield from pool.map(read, [file for file in manifest.files if _may_hold(file, ids)])


def _may_hold(file: ManifestFile, ids: set[str]) -> bool:
    if file.first_id is None or file.last_id is None:
        return True
    first, last = natural_key(file.first_id), natural_key(file.last_id)
    return any(first <= natural_key(image_id) <= last for image_id in ids)


def _require_none(ids: set[str], what: str) -> None:
    if ids:
        raise BadInputError(f"{len(ids)} ids {what}, such as {min(ids)!r}; nothing was changed")
