"""What a run has to do: a listing compared with what a database already has.

Both sides are Arrow tables. Those of a small collection are compared here; large ones are cut into
ranges of paths, each compared in a Ray task of its own, so that the driver holds references alone.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.exceptions import RayTaskError

from lib.descriptors.listing import ListedTable, planning_cpus
from lib.descriptors.store import (
    EDITS,
    KNOWN,
    apply_edits,
    known_images,
    row_counts,
    shard_states,
)
from lib.errors import MismatchError
from lib.images.decoding import ImageError
from lib.images.listing import LISTED, ListedImage
from lib.images.reading import read_image
from lib.schemas import content_digest

_PART_ROWS = 250_000  # of a listing, at least, that a task cuts
_HERE_ROWS = 250_000  # of listing and database, at most, that are compared in this process
_RANGE_ROWS = 1_000_000
_MOST_RANGES = 200
_FILES_A_TASK = 200
_BLOCK = 1_000
_SAMPLED_TABLES = 8
_READERS = 16
_Result = TypeVar("_Result")


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
    clash: str = ""  # an image of another source under a name that is taken

    def add(self, other: "Counts") -> None:
        """Count the images of another range of paths, too."""
        for name, value in vars(other).items():
            setattr(
                self,
                name,
                getattr(self, name) or value if name == "clash" else getattr(self, name) + value,
            )


@dataclass
class ExtractionPlan(Counts):
    """A listing against a database: what is to do, and what is in the way."""

    pending: "Pending" = field(default_factory=lambda: Pending([], []))
    edits: list[Any] = field(default_factory=list)  # tables of EDITS, or references to them
    files: dict[str, str] = field(default_factory=dict)  # and states of them; edits number them


@dataclass
class Pending:
    """Images to describe, in order of path, each with its position in the sorted listing."""

    tables: list[Any]  # LISTED and position, or references to such
    counts: list[int]

    @property
    def count(self) -> int:
        """Images in all tables."""
        return sum(self.counts)

    def sample(self, count: int) -> list[ListedImage]:
        """Some images, spread over all tables, or over a few where those are many."""
        filled = [i for i, length in enumerate(self.counts) if length]
        chosen = sorted(
            {filled[i] for i in np.linspace(0, len(filled) - 1, _SAMPLED_TABLES, dtype=int)}
        )
        images = []
        for i in chosen if count else ():
            rows = np.linspace(0, self.counts[i] - 1, -(-count // len(chosen)), dtype=int)
            table = resolve(self.tables[i]).select(LISTED.names).take(np.unique(rows))
            images += [ListedImage(**row) for row in table.to_pylist()]
        return images

    def __iter__(self) -> Iterator[tuple[int, ListedImage]]:
        for table, count in zip(self.tables, self.counts, strict=True):
            if not count:
                continue
            for batch in resolve(table).to_batches(_BLOCK):
                positions, *columns = (
                    batch[name].to_pylist() for name in ("position", *LISTED.names)
                )
                yield from zip(positions, map(ListedImage, *columns), strict=True)


def make_plan(
    listing: Iterable[ListedTable], db: str, prune: bool = False, retry_failed: bool = False
) -> ExtractionPlan:
    """Compare a listing, in any order, with what the database has. Ray must be up for large ones.

    Raises MismatchError where the listing has other images than the database under the same names,
    and those still lie where they were described.
    """
    states = shard_states(db)
    files = list(states)
    rows = row_counts(files)
    compared = partial(_compare, prune=prune, retry_failed=retry_failed)
    total, first, parts = sum(rows), [], iter(listing)
    while total <= _HERE_ROWS and (part := next(parts, None)):
        first.append(part)
        total += part.rows
    if total <= _HERE_ROWS:
        listed = pa.concat_tables([LISTED.empty_table(), *(resolve(part.table) for part in first)])
        counts, pending, edits = compared(listed, known_images(files, range(len(files))))
        plan = ExtractionPlan(pending=Pending([pending], [len(pending)]), edits=[edits])
        plan.add(counts)
    else:
        plan = _plan_in_tasks(itertools.chain(first, parts), files, rows, compared)
    plan.files = states
    if plan.clash:
        raise MismatchError(plan.clash)
    return plan


def _plan_in_tasks(
    parts: Iterable[ListedTable],
    files: list[str],
    rows: Sequence[int],
    compared: Callable[..., Any],
) -> ExtractionPlan:
    samples, total = [pa.array([], pa.string())], sum(rows)
    listed: list[list[Any]] = []  # tables that are cut together
    length = _PART_ROWS
    for part in parts:
        if length >= _PART_ROWS:
            listed.append([])
            length = 0
        in_store = isinstance(part.table, ray.ObjectRef)
        listed[-1].append(part.table if in_store else ray.put(part.table))
        samples.append(part.paths)
        length += part.rows
        total += part.rows
    count = min(-(-total // _RANGE_ROWS), _MOST_RANGES)
    ordered = pc.sort_indices(sample := pa.chunked_array(samples))
    cuts = np.linspace(0, len(ordered), count + 1).astype(int)[1:-1]
    splitters = sample.take(ordered.take(cuts)).to_pylist()
    cpus = planning_cpus()
    cut = _pieces_task(_cut, count, cpus, "plan: cut a part of the listing")
    read = _pieces_task(_cut_known, count, cpus, "plan: read what is there")
    pieces = [cut(splitters, *tables) for tables in listed]
    names = ray.put(files)
    known = [read(names, group, splitters) for group in _groups(rows)]
    compare = ray.remote(_compare_pieces).options(
        num_returns=3, num_cpus=cpus, name="plan: compare"
    )
    results = [
        compare.remote(compared, len(pieces), *(p[r] for p in pieces), *(k[r] for k in known))
        for r in range(count)
    ]
    plan = ExtractionPlan()
    for summary, pending, edits in results:
        counts, length, edited = ray.get(summary)
        if length:
            plan.pending.tables.append(_Shifted(pending, plan.listed))
            plan.pending.counts.append(length)
        if edited:
            plan.edits.append(edits)
        plan.add(counts)
    return plan


def _groups(rows: Sequence[int]) -> Iterator[range]:
    """The files, of so many rows, that are read together: neither too many nor too large."""
    first, total = 0, 0
    for at, count in enumerate(rows):
        if at > first and (total + count > _RANGE_ROWS or at - first == _FILES_A_TASK):
            yield range(first, at)
            first, total = at, 0
        total += count
    if rows:
        yield range(first, len(rows))


def _pieces_task(
    function: Callable[..., Any], count: int, cpus: int, name: str
) -> Callable[..., list["ray.ObjectRef[Any]"]]:
    """Starts a task that returns `count` tables, each an object of its own."""
    task: Any = ray.remote(function).options(num_returns=count, num_cpus=cpus, name=name)
    return lambda *arguments: [task.remote(*arguments)] if count == 1 else task.remote(*arguments)


@dataclass(frozen=True)
class _Shifted:
    """A table of pending images whose positions count from those of earlier ranges."""

    table: Any
    offset: int


def resolve(table: Any) -> pa.Table:
    """A table of a plan, wherever it lies."""
    if isinstance(table, _Shifted):
        inner = resolve(table.table)
        at = inner.schema.get_field_index("position")
        return inner.set_column(at, "position", pc.add(inner["position"], table.offset))
    return ray.get(table) if isinstance(table, ray.ObjectRef) else table


def _cut(splitters: Sequence[str], *parts: pa.Table) -> Any:
    """The rows of tables in each range of paths, ranges in order."""
    part = pa.concat_tables(parts)
    if not splitters:
        return part
    ranges = _ranges(_listed_names(part["path"]), splitters)
    part = part.take(pa.array(np.argsort(ranges, kind="stable")))
    counts = np.bincount(ranges, minlength=len(splitters) + 1)
    starts = np.cumsum(counts) - counts
    return [part.slice(at, n).combine_chunks() for at, n in zip(starts, counts, strict=True)]


def _ranges(paths: pa.ChunkedArray, splitters: Sequence[str]) -> np.ndarray:
    """How many of the sorted splitters are not above each path, by bisection; (N,) int64."""
    bounds = pa.array(splitters, pa.string())
    ranges = np.zeros(len(paths), np.int64)
    for bit in reversed(range(len(splitters).bit_length())):
        tried = ranges + (1 << bit)
        bound = bounds.take(pa.array(np.minimum(tried, len(splitters)) - 1))
        reached = pc.greater_equal(paths, bound).to_numpy() & (tried <= len(splitters))
        ranges[reached] = tried[reached]
    return ranges


def _listed_names(paths: pa.ChunkedArray) -> pa.ChunkedArray:
    """Paths without what `_tell_apart` added to them."""
    return pc.replace_substring_regex(paths, "#[0-9a-f]{16}$", "")


def _cut_known(files: list[str], group: range, splitters: Sequence[str]) -> Any:
    return _cut(splitters, known_images(files, group))


def _compare_pieces(compared: Callable[..., Any], listed: int, *pieces: pa.Table) -> Any:
    known = pa.concat_tables([KNOWN.empty_table(), *pieces[listed:]])
    counts, pending, edits = compared(
        pa.concat_tables([LISTED.empty_table(), *pieces[:listed]]), known
    )
    return (counts, len(pending), len(edits)), pending, edits


def _compare(
    listed: pa.Table, known: pa.Table, prune: bool, retry_failed: bool
) -> tuple[Counts, pa.Table, pa.Table]:
    """All images of a range of paths: counts, what is pending, what is to change in files.

    Of rows that say the same of an image the first stays; one that is listed twice counts once.
    """
    listed, namesakes = _tell_apart(listed, known)
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
    gone = np.concatenate([met[~stays], np.flatnonzero(at < 0) if prune else np.empty(0, int)])
    dropped = _edits(known.take(gone), None)
    edits = pa.concat_tables([dropped, _edits(there.filter(moved), here.filter(moved))])
    return counts, _pending(listed, np.sort(first[(first >= 0) & (keeper < 0)]), first), edits


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
    names = _listed_names(known["path"])
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
    mask = np.zeros(len(listed), bool)
    mask[rows] = True
    for column, values in (("path", paths), ("image_id", ids)):
        at = LISTED.get_field_index(column)
        replaced = pc.replace_with_mask(listed[column], mask, pa.array(values, pa.string()))
        listed = listed.set_column(at, LISTED.field(at), replaced)
    return listed, len(set(own).intersection(paths))


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


def carry_out(plan: ExtractionPlan) -> None:
    """Drop and change the rows that are stale or moved, before anything is described anew."""
    if not plan.edits:
        return
    if not any(isinstance(edits, ray.ObjectRef) for edits in plan.edits):
        apply_edits(plan.files, range(len(plan.files)), *plan.edits)
        return
    names = ray.put(plan.files)
    task = ray.remote(apply_edits).options(num_cpus=planning_cpus(), name="plan: change files")
    changes = [
        task.remote(names, range(at, min(at + _FILES_A_TASK, len(plan.files))), *plan.edits)
        for at in range(0, len(plan.files), _FILES_A_TASK)
    ]
    try:
        ray.get(changes)
    except RayTaskError as error:
        raise error.cause from error
