"""Listed images compared with those that a database has, as Arrow tables of one range of paths."""

import os
import posixpath
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from fsspec.implementations.local import LocalFileSystem

from lib.descriptors.store import EDITS
from lib.images.addresses import open_filesystem
from lib.images.decoding import ImageError
from lib.images.listed import LISTED, ListedImage
from lib.images.reading import read_image
from lib.schemas import content_digest

_READERS = 16
_MOUNTS = Path("/etc/fstab")  # what is to be mounted where, whether it is or not


@dataclass
class Counts:
    """How many images a comparison met in each state."""

    listed: int = 0
    described: int = 0  # listed, unchanged, and in the database
    failed: int = 0  # listed, unchanged, and a known failure
    changed: int = 0  # listed with another content than the database has
    removed: int = 0  # in the database, no longer listed
    repeated: int = 0  # listed again under the same path
    namesakes: int = 0  # at another address than the image whose name they were listed under
    doubled: int = 0  # rows that say the same of an image again
    moved: int = 0  # the same content at another address, or with another time
    clash: str = ""  # why nothing may be changed: a name that is taken, a drive that is not there

    def add(self, other: "Counts") -> None:
        """Count the images of another range of paths, too."""
        for name, value in vars(other).items():
            own = getattr(self, name)
            setattr(self, name, own or value if name == "clash" else own + value)


def compare(
    listed: pa.Table, known: pa.Table, prune: bool, retry_failed: bool, source: str = ""
) -> tuple[Counts, pa.Table, pa.Table]:
    """All images of a range of paths: counts, what is pending, what is to change in files.

    Of rows that say the same of an image the first stays; one that is listed twice counts once.
    `source`: what was listed, of which nothing is pruned where a drive is not mounted.
    """
    listed, namesakes = _tell_apart(_as_described(listed, known), known)
    paths = pa.chunked_array([*listed["path"].chunks, *known["path"].chunks], pa.string())
    codes = paths.combine_chunks().dictionary_encode().indices.to_numpy()
    own, theirs = codes[: len(listed)], codes[len(listed) :]
    first = np.full(int(codes.max(initial=-1)) + 1, -1)
    first[own[::-1]] = np.arange(len(own))[::-1]  # the last assignment stays: the first place
    at = first[theirs]  # the listed row of each row of the database, -1 where there is none
    met = np.flatnonzero(at >= 0)
    there = known.filter(pa.array(at >= 0))
    # Paths are the same, and ids do not matter.
    here = listed.select(["uri", "bytes", "etag"]).take(at[met])
    elsewhere = pc.not_equal(here["uri"], there["uri"]).to_numpy()
    elsewhere &= pc.not_equal(there["uri"], "").to_numpy()
    # Of an image at another address in a list of addresses, only its content tells which it is.
    comparable = pc.or_(pc.not_equal(there["digest"], ""), there["failed"]).to_numpy()
    unknown = without_version(here).to_numpy() & elsewhere & comparable
    differs = _differs(here, there) | unknown
    same = differs & _have_the_same_content(here, there, differs)
    differs &= ~same
    failed = there["failed"].to_numpy()
    valid = ~differs & ~(failed & retry_failed)
    keeper = np.full(len(first), -1)  # of each path, the row of `there` that stays
    candidates = np.flatnonzero(valid)
    keeper[theirs[met[candidates[::-1]]]] = candidates[::-1]
    stays = np.zeros(len(met), bool)
    stays[keeper[keeper >= 0]] = True
    moved = stays & (elsewhere | same)
    # A list may come to give some of its images other addresses; not most.
    suspicious = ~unknown | (2 * int((differs & unknown).sum()) > len(met))
    counts = Counts(
        listed=int((first >= 0).sum()),
        described=int((stays & ~failed).sum()),
        failed=int((stays & failed).sum()),
        changed=int(differs.sum()),
        removed=len(theirs) - len(met),
        repeated=len(own) - int((first >= 0).sum()),
        namesakes=namesakes,
        doubled=int((valid & ~stays).sum()),
        moved=int(moved.sum()),
        clash=_clash(here, there, np.flatnonzero(differs & elsewhere & suspicious)),
    )
    if prune and source:
        counts.clash = counts.clash or _not_mounted(known.filter(pa.array(at < 0)), source)
    gone = np.concatenate([met[~stays], np.flatnonzero(at < 0) if prune else np.empty(0, int)])
    dropped = _edits(known.take(gone), None)
    edits = pa.concat_tables([dropped, _edits(there.filter(moved), here.filter(moved))])
    return counts, _pending(listed, np.sort(first[(first >= 0) & (keeper < 0)]), first), edits


def _as_described(listed: pa.Table, known: pa.Table) -> pa.Table:
    """What is listed, under the names that the database has for the same files.

    A copy on another system writes accents (NFC, NFD) and capitals otherwise; and a folder above
    or below the one that was the source gives its files other names.
    """
    for key in (_spelling, _file):
        new = np.flatnonzero(pc.invert(_is_in(listed["path"], known["path"])))
        left = known.filter(pc.invert(_is_in(known["path"], listed["path"])))
        if not (len(new) and len(left)):
            break
        images = listed.take(new)
        keys, their_keys = key(images), key(left)
        own, theirs = _paths_by(keys, images, their_keys), _paths_by(their_keys, left, keys)
        names = {
            paths.pop(): theirs[file].pop()
            for file, paths in own.items()
            if len(paths) == 1 and len(theirs.get(file, ())) == 1
        }
        was, ids = images["path"].to_pylist(), images["image_id"].to_pylist()
        paths = [names.get(path, path) for path in was]
        ids = [i if i != old else path for i, old, path in zip(ids, was, paths, strict=True)]
        listed = _named(listed, new, paths, ids)
    return listed


def _is_in(values: pa.ChunkedArray, those: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.is_in(values, value_set=those.combine_chunks())


def _paths_by(
    keys: pa.ChunkedArray, images: pa.Table, others: pa.ChunkedArray
) -> dict[str, set[str]]:
    """The paths of images by their keys, of those keys alone that others have, too."""
    met = pc.and_(keys.is_valid(), _is_in(keys, others))
    paths: dict[str, set[str]] = {}
    for key, path in zip(
        keys.filter(met).to_pylist(), images["path"].filter(met).to_pylist(), strict=True
    ):
        paths.setdefault(key, set()).add(path)
    return paths


def _spelling(images: pa.Table) -> pa.ChunkedArray:
    """What a copy keeps of a name, with its size; null where that is not known."""
    return _joined(one_spelling(images["path"]), images, pc.greater_equal(images["bytes"], 0))


def _file(images: pa.Table) -> pa.ChunkedArray:
    """What opens a file in its version; null where that is not known."""
    versions = pc.binary_join_element_wise(images["uri"], images["etag"], " ")
    return _joined(versions, images, pc.not_equal(images["etag"], ""))


def _joined(texts: pa.ChunkedArray, images: pa.Table, known: pa.ChunkedArray) -> pa.ChunkedArray:
    joined = pc.binary_join_element_wise(texts, images["bytes"].cast(pa.string()), " ")
    return pc.if_else(known, joined, None)


def _named(listed: pa.Table, rows: np.ndarray, paths: list[str], ids: list[str]) -> pa.Table:
    """What is listed, some of it under other names and ids."""
    mask = np.zeros(len(listed), bool)
    mask[rows] = True
    for column, values in (("path", paths), ("image_id", ids)):
        at = LISTED.get_field_index(column)
        replaced = pc.replace_with_mask(listed[column], mask, pa.array(values, pa.string()))
        listed = listed.set_column(at, LISTED.field(at), replaced)
    return listed


def _tell_apart(listed: pa.Table, known: pa.Table) -> tuple[pa.Table, int]:
    """What is listed, with a path of its own for each address; and how many have a new one.

    Lists of addresses give many images one name. The address that the database has under it keeps
    it, else the one that sorts first. The others add a digest of theirs, also once the first is
    gone, and to their ids, where these are the same: whatever the order of the list, a rerun
    finds each as it was described.
    """
    codes = listed["path"].combine_chunks().dictionary_encode().indices.to_numpy()
    last = np.zeros(int(codes.max(initial=-1)) + 1, int)
    last[codes] = np.arange(len(codes))
    shared = np.zeros(len(last), bool)
    shared[codes[pc.not_equal(listed["uri"], listed["uri"].take(last[codes])).to_numpy()]] = True
    names = listed_names(known["path"])
    apart = names.filter(pc.not_equal(names, known["path"]))
    rows = np.flatnonzero(shared[codes] | pc.is_in(listed["path"], apart).to_numpy())
    if not len(rows):
        return listed, 0
    images = [ListedImage(**row) for row in listed.take(rows).to_pylist()]
    there = known.filter(pc.is_in(names, pa.array({image.path for image in images}, pa.string())))
    described = set(zip(there["path"].to_pylist(), there["uri"].to_pylist(), strict=True))
    own = [f"{image.path}#{content_digest(image.uri.encode())}" for image in images]
    plain: dict[str, tuple[bool, str, str]] = {}  # what keeps a name: its address, and its id
    for image, name in zip(images, own, strict=True):
        if (name, image.uri) not in described:
            claim = (image.path, image.uri) not in described, image.uri, image.image_id
            plain[image.path] = min(claim, plain.get(image.path, claim))
    paths, ids = [], []
    for image, name in zip(images, own, strict=True):
        _, uri, image_id = plain.get(image.path, (True, "", image.path))
        renamed = image.uri != uri
        paths.append(name if renamed else image.path)
        same = renamed and image.image_id == image_id
        ids.append(image.image_id + name[len(image.path) :] if same else image.image_id)
    return _named(listed, rows, paths, ids), len(set(own).intersection(paths))


def without_version(listed: pa.Table) -> pa.ChunkedArray:
    """(N,) bool: of which listed images the source tells neither size nor version."""
    return pc.and_(pc.less(listed["bytes"], 0), pc.equal(listed["etag"], ""))


def _differs(here: pa.Table, there: pa.Table) -> np.ndarray:
    """Whether size or version say that a listed image is not the one in the database."""
    size = pc.and_(pc.greater_equal(here["bytes"], 0), pc.not_equal(here["bytes"], there["bytes"]))
    tag = pc.and_(pc.not_equal(here["etag"], ""), pc.not_equal(here["etag"], there["etag"]))
    return pc.or_(size, tag).to_numpy().copy()


def _have_the_same_content(here: pa.Table, there: pa.Table, differs: np.ndarray) -> np.ndarray:
    """Read images of another version, but no other size, and look whether their bytes are the same.

    As after `touch`, a copy, or an upload; that costs a reading instead of an extraction.
    """
    equal = np.zeros(len(here), bool)
    size = pc.equal(here["bytes"], there["bytes"]).to_numpy() | without_version(here).to_numpy()
    known = pc.not_equal(there["digest"], "").to_numpy()
    rows = np.flatnonzero(differs & size & known)
    if not len(rows):
        return equal
    images = [ListedImage("", **row, image_id="") for row in here.take(rows).to_pylist()]
    with ThreadPoolExecutor(_READERS) as pool:
        digests = list(pool.map(_digest, images))
    equal[rows] = np.array(digests) == np.array(there["digest"].take(rows).to_pylist())
    return equal


def _digest(image: ListedImage) -> str:
    try:
        return content_digest(read_image(image))
    except ImageError:
        return ""


def _clash(here: pa.Table, there: pa.Table, rows: np.ndarray) -> str:
    """What is wrong where changed images are, unchanged, at the address of those described."""
    for row in rows[:3]:
        new, old = here.slice(row, 1).to_pylist()[0], there.slice(row, 1).to_pylist()[0]
        there_now = _digest(ListedImage("", old["uri"], new["bytes"], old["etag"], ""))
        if there_now in ("", _digest(ListedImage("", **new, image_id=""))):
            continue
        return (
            f"{old['path']} is another image than the one in the database under this name: "
            f"{old['uri']} is there, {new['uri']} was listed ({len(rows):,} names or more are "
            "taken like this). Give this source another --db, or put both below one folder and "
            "name that"
        )
    return ""


def _not_mounted(gone: pa.Table, source: str) -> str:
    """What is wrong where images that are listed no longer lay on a drive that is not there.

    Only below the source: a place where it was mounted before may be empty.
    """
    fs, root = open_filesystem(source)
    if not isinstance(fs, LocalFileSystem):
        return ""
    folders: dict[str, str] = {}
    for path, uri in zip(gone["path"].to_pylist(), gone["uri"].to_pylist(), strict=True):
        file = uri if uri.startswith(f"{root}/") else f"{root}/{path}"
        folders.setdefault(posixpath.dirname(file), path)
    standing: dict[str, str] = {}
    for folder, path in folders.items():
        while not os.path.lexists(folder):
            folder = posixpath.dirname(folder)
        standing.setdefault(folder, path)
    mounts = _mount_points()
    for folder, path in standing.items():
        # Something lies there only as long as it is mounted; others empty folders as well.
        may_be_a_drive = Path(folder).is_symlink() or os.path.realpath(folder) in mounts
        if may_be_a_drive and not _shows_files(folder):
            return (
                f"{folder} is empty or leads nowhere, as where a drive is not mounted, and --prune "
                f"would drop what was described there, such as {path}. Mount the drive; or remove "
                f"{folder}, if its images are gone for good"
            )
    return ""


def _mount_points() -> set[str]:
    """Where _MOUNTS says that something is to be mounted."""
    try:
        lines = _MOUNTS.read_text(errors="replace").splitlines()
    except OSError:
        return set()
    columns = map(str.split, lines)
    return {fields[1].replace("\\040", " ") for fields in columns if len(fields) > 1}


def _shows_files(folder: str) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(not entry.name.startswith(".") for entry in entries)
    except NotADirectoryError:  # an archive
        return True
    except OSError:  # a link to nothing
        return False


def _pending(listed: pa.Table, rows: np.ndarray, first: np.ndarray) -> pa.Table:
    """The rows to describe in order of path, with their positions among all that are listed."""
    if not len(rows):
        return LISTED.empty_table().append_column("position", pa.array([], pa.int64()))
    distinct = np.sort(first[first >= 0])
    order = distinct[pc.sort_indices(listed["path"].take(distinct)).to_numpy()]
    positions = np.flatnonzero(np.isin(order, rows))
    return listed.take(order[positions]).append_column("position", pa.array(positions, pa.int64()))


def _edits(known: pa.Table, listed: pa.Table | None) -> pa.Table:
    """Rows of files to drop, or to give the address and version of what is listed now."""
    nothing = pa.nulls(len(known), pa.string())
    uri, etag = (nothing, nothing) if listed is None else (listed["uri"], listed["etag"])
    return pa.table([known["file"], known["row"], uri, etag], EDITS)


def listed_names(paths: pa.ChunkedArray) -> pa.ChunkedArray:
    """Paths without what `_tell_apart` added to them."""
    return pc.replace_substring_regex(paths, "#[0-9a-f]{16}$", "")


def one_spelling(paths: pa.ChunkedArray) -> pa.ChunkedArray:
    """Paths in composed small letters and slashes: the same, whatever a system makes of a name."""
    return pc.replace_substring(pc.utf8_lower(pc.utf8_normalize(paths, "NFC")), "\\", "/")
