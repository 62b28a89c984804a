"""Kill a job at every call of the storage that changes something, run it again, and compare.

`python -m tests.harness.kills DIR` tries every point of a small run; `--random N` tries N drawn
ones, each killed up to three times before it may end. It prints each difference, and how many
points were tried.

A process that has imported everything and computed nothing forks one for each run: that one counts
the calls that change files, and ends (`os._exit`, as hard as `kill -9` for files) before a chosen
one. What stands on disk before a call is what stands there after the call before it.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import random
import re
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lib import storage
from lib.database import opening
from lib.database.compaction import compact_database, delete_unneeded
from lib.database.embed import embed_database
from lib.database.manifest import read_manifest
from lib.database.opening import open_database
from lib.database.removal import remove_images
from lib.descriptors.merging import merge_files
from lib.descriptors.store import EDITS, apply_edits, known_images, remove_leftovers, shard_states
from lib.errors import BadInputError, MissingError
from tests.database.test_embed import save_embedder, write_descriptors

CHANGING = ("replace", "rename", "link", "unlink", "remove", "mkdir", "rmdir", "fsync", "open")
KILLED = 77
DROPPED = ["1", "4", "7", "8", "9", "10", "11"]


@contextmanager
def watched(act: Callable[[str, tuple[Any, ...]], None]) -> Iterator[None]:
    """Call `act` with name and arguments before each call of the system that changes files."""
    originals = {name: getattr(os, name) for name in CHANGING}

    def watch(name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if name != "open" or arguments[1] & os.O_CREAT:
                act(name, arguments)
            return originals[name](*arguments, **named)

        return call

    for name in CHANGING:
        setattr(os, name, watch(name))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(os, name, original)


def in_a_child(function: Callable[[], object], stop_before: int | None = None) -> tuple[int, Any]:
    """Exit status and result of a function in a forked process, killed before a call if asked."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        calls = 0

        def count(name: str, arguments: tuple[Any, ...]) -> None:
            nonlocal calls
            if calls == stop_before:
                os._exit(KILLED)
            calls += 1

        status = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            with watched(count):
                result = function()
            os.write(writer, json.dumps([result, calls]).encode())
            status = 0
        except BaseException:
            os.write(writer, json.dumps([traceback.format_exc(), calls]).encode())
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        content = answer.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status, json.loads(content) if content else None


def make(db: str) -> None:
    """Descriptors of a few images, and an embedder."""
    save_embedder(db, 0)
    for number in range(3):
        photos = {str(number * 4 + row): f"photo {number} {row}" for row in range(4)}
        write_descriptors(db, f"{number}.parquet", photos)


def open_mapped(db: str) -> None:
    """Make the ordered copy that a large version is mapped from.

    Raises MissingError where the version lies in memory instead, as where a disk is full.
    """
    if open_database(db).embeddings.flags.owndata:
        raise MissingError("no copy of the embeddings was mapped")


def drop(db: str) -> None:
    """Take a row out of one descriptor file, two out of another, and a third file away."""
    remove_leftovers(db)
    states = shard_states(db)
    known = known_images(list(states), range(len(states)))
    gone = known.filter(pc.is_in(known["path"], value_set=pa.array(DROPPED)))
    nothing = pa.nulls(len(gone), pa.string())
    edits = pa.table([gone["file"], gone["row"], nothing, nothing], EDITS)
    apply_edits(states, range(len(states)), edits)


def merge(db: str) -> None:
    """Descriptor files as one and a rest; the version goes on to be what it is."""
    merge_files(db, file_rows=8, grace_s=0)
    embed_database(db)


def trained_and_embedded(db: str) -> None:
    """What `pipeline` does once captions have changed."""
    save_embedder(db, 1)
    embed_database(db)


STEPS: dict[str, Callable[[str], object]] = {
    "embed": embed_database,
    "remove": lambda db: remove_images(db, ["1", "7"]),
    "embed another embedder": trained_and_embedded,
    "compact": lambda db: compact_database(db, file_rows=8, grace_s=0),
    "undo": lambda db: remove_images(db, ["1"], undo=True) if "1" in removed(db) else None,
    "embed again": lambda db: embed_database(db, check=True),
    "merge": merge,
    "drop": drop,
    "embed what is left": embed_database,
    "map": open_mapped,
}


def removed(db: str) -> list[str]:
    """Ids that tombstones hide."""
    return read_manifest(db).tombstones.image_ids


def state(db: str) -> list[Any]:
    """Rows and answers of the newest version, and the names of all files that need not go."""
    manifest = read_manifest(db)
    delete_unneeded(db, 0)
    database = open_database(db)
    copies = sorted(copy.name for copy in Path(db, "mapped").iterdir())
    assert len(copies) == 2, copies  # a copy and its lock
    assert copies[1] == f"{copies[0]}.lock", copies
    shutil.rmtree(Path(db, "mapped"))
    queries = np.random.default_rng(0).normal(size=(3, database.embeddings.shape[1]))
    hits = database.search_images(queries.astype(np.float32), 4)
    rows = hashlib.sha256(database.embeddings.tobytes()).hexdigest()
    answers = hits.images["image_id"].to_pylist(), hits.scores.tolist()
    names = sorted(
        # The lists' names follow from the times of files, too.
        re.sub(r"files-[0-9a-f]+", "files", str(file.relative_to(db)))
        for file in Path(db).rglob("*")
        if file.is_file()
    )
    return [manifest.version, manifest.images, list(database.image_ids), rows, answers, names]


def openable(db: str) -> bool:
    """Whether the database opens, or says that there is none yet."""
    try:
        open_database(db)
    except (MissingError, BadInputError) as error:
        return "run jobs.embed_database first" in str(error)
    return True


def run_again(db: str, step: Callable[[str], object]) -> list[Any]:
    """What a step comes to that was killed, after looking at what it left."""
    assert openable(db)
    step(db)
    return state(db)


@dataclasses.dataclass
class Harness:
    """Snapshots of a database before each step, and what each step must lead to."""

    directory: Path
    before: dict[str, Path] = dataclasses.field(default_factory=dict)
    after: dict[str, Any] = dataclasses.field(default_factory=dict)
    calls: dict[str, int] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        db = self.directory / "db"
        self._check(*in_a_child(lambda: make(str(db))))
        for name, step in STEPS.items():
            self.before[name] = shutil.copytree(db, self.directory / f"before {name}")
            result = in_a_child(lambda step=step: (step(str(db)), None)[1])  # type: ignore[misc]
            self._check(*result)
            self.calls[name] = result[1][1]
            self.after[name] = in_a_child(lambda: state(str(db)))[1][0]

    def _check(self, status: int, result: Any) -> None:
        if status:
            raise SystemExit(f"the undisturbed run failed: {result[0]}")

    def copy_of(self, name: str) -> Path:
        """The database as it was before a step, in a directory that the last copy gives up."""
        db = self.directory / "tried"
        shutil.rmtree(db, ignore_errors=True)
        return shutil.copytree(self.before[name], db)

    def try_points(self, name: str, points: list[int]) -> str:
        """Kill a step before each of some calls, in one run after another; then let it end.

        Returns what is wrong; nothing where all is as after an undisturbed run.
        """
        db = self.copy_of(name)
        step = STEPS[name]
        for point in points:
            status, result = in_a_child(lambda: (step(str(db)), None)[1], point)
            if status not in (0, KILLED):
                return f"run {point}: {result[0]}"
        status, result = in_a_child(lambda: run_again(str(db), step))
        if status or result[0] != self.after[name]:
            return f"after {points}: {result[0]}\ninstead of {self.after[name]}"
        return ""


def harness_in(directory: Path) -> Harness:
    """A harness that works in a new directory, with a cache of its own."""
    # What is left over is left for some minutes to a writer who may be at work: not here.
    storage.LEFTOVER_AGE_S = 0
    opening.MAPPED_ROWS = 1
    directory.mkdir(parents=True)
    os.environ["XDG_CACHE_HOME"] = str(directory / "cache")
    return Harness(directory)


def main() -> None:
    """Try the points, print what is wrong, and exit with 1 where anything is."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("directory", type=Path, help="to work in; it must not be there")
    arguments.add_argument("--random", type=int, metavar="N", help="try N drawn points")
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    harness = harness_in(options.directory)
    tries = [(name, [point]) for name in STEPS for point in range(harness.calls[name])]
    if options.random:
        draw = random.Random(options.seed)
        names = draw.choices(list(STEPS), k=options.random)
        tries = [
            (name, [draw.randrange(harness.calls[name]) for _ in range(draw.randint(1, 3))])
            for name in names
        ]
    wrong = 0
    for name, points in tries:
        problem = harness.try_points(name, points)
        if problem:
            wrong += 1
            print(f"{name}: {problem}", flush=True)
    print(f"{len(tries)} points of {len(STEPS)} steps, {wrong} wrong; calls: {harness.calls}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
