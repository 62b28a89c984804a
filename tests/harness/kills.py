"""Kill a job at every call of the storage that changes something, run it again, and compare.

What stands on disk before a call is what a kill there leaves, and what stands there after the call
before it. `kills_at_every_call` runs each step once, keeps what stands on disk before each call,
and lets the same step begin on each such state. `drawn_kills` ends processes (`os._exit`, as hard
as `kill -9` for files) before drawn calls, up to three times one after another.
"""

import hashlib
import json
import os
import random
import re
import shutil
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lib import storage
from lib.database import opening
from lib.database.compaction import compact_database, delete_unneeded
from lib.database.embed import embed_database
from lib.database.manifest import list_versions, read_manifest
from lib.database.opening import open_database
from lib.database.removal import remove_images
from lib.descriptors.extractor import DescriptorExtractor
from lib.descriptors.listing import ListedTable
from lib.descriptors.merging import merge_files
from lib.descriptors.plan import carry_out, make_plan
from lib.descriptors.shard_files import write_shard
from lib.descriptors.shards import cut_shards
from lib.descriptors.store import remove_leftovers, stored_files
from lib.embedder.fitting import FitSettings
from lib.embedder.training import train
from lib.errors import BadInputError, MissingError
from lib.images.listed import tabulate
from lib.images.listing import list_images
from lib.images.preprocessing import Preprocessing
from lib.parquet import read_table
from lib.schemas import Computation, descriptor_schema
from lib.search import batch
from lib.storage import join
from lib.tasks import run_here
from tests import toy_world
from tests.database.test_embed import PROVENANCE, save_embedder

CHANGING = ("replace", "rename", "link", "unlink", "remove", "mkdir", "rmdir", "fsync", "open")
KILLED = 77


@contextmanager
def watched(act: Callable[[str, tuple[Any, ...]], None]) -> Iterator[None]:
    """Call `act` with name and arguments before each call of the system that changes files."""
    originals = {name: getattr(os, name) for name in CHANGING}
    acting = False

    def watch(name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal acting
            if not acting and (name != "open" or arguments[1] & os.O_CREAT):
                acting = True  # what `act` itself changes is not watched
                try:
                    act(name, arguments)
                finally:
                    acting = False
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
    """Exit status and result of a function in a forked process, killed before a call if asked.

    Its result is None where JSON has no form for it.
    """
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
            os.close(reader)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            with watched(count):
                result = function()
            os.write(writer, json.dumps(result, default=lambda _: None).encode())
            status = 0
        except BaseException:
            os.write(writer, json.dumps(traceback.format_exc()).encode())
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        content = answer.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status, json.loads(content) if content else None


def make(db: str) -> None:
    """Two embedders to train from and queries, beside a database that is still empty."""
    place = Path(db).parent
    for seed in (1, 2):
        save_embedder(str(place / f"start {seed}"), seed, place / "words.txt")
    queries = [f"{word} the" for word in toy_world.WORDS[:4]]
    (place / "queries.txt").write_text("\n".join([*queries, "qxzvw"]))  # the last has no answer
    Path(db).mkdir()


def photograph(file: Path, seed: int | None) -> None:
    """Lay a small picture there where there is none yet; without a seed a damaged one."""
    if file.exists():
        return
    file.parent.mkdir(exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3)).astype(np.uint8)
    Image.fromarray(pixels).resize((40, 40)).save(file, "PNG")
    if seed is None:
        file.write_bytes(b"no picture")
    os.utime(file, (1e9, 1e9))


class Shades:
    """An engine: the mean shade of each eighth of a picture."""

    name, batch_size, decoder = "shades", 4, None

    def __call__(self, pictures: Sequence[Any]) -> np.ndarray:
        """See `Engine`."""
        parts = np.stack(pictures).reshape(len(pictures), 8, -1)
        return parts.mean(axis=2).astype(np.float32) - 128


def extract(db: str, photographs: Path, retry_failed: bool = False) -> None:
    """What the job does, driver and workers, of which each has its turn here; with `--prune`."""
    remove_leftovers(db)
    listing = map(ListedTable.of, tabulate(list_images(str(photographs))))
    plan = make_plan(listing, db, True, retry_failed)
    carry_out(plan)
    preprocessing = Preprocessing(32, 32, (0, 0, 0), (1, 1, 1))
    schema = descriptor_schema(PROVENANCE, Computation("float32", Shades.name))
    extractor = DescriptorExtractor(Shades(), preprocessing, schema, 1)
    for shard in cut_shards(plan.pending, 4):
        write_shard(db, shard, extractor.extract(shard.images))


def extracted(db: str, place: Path) -> None:
    """Twelve images, one of them damaged, in three shards."""
    for number in range(12):
        photograph(place / "photos" / f"{number}.png", number or None)
    extract(db, place / "photos")


def extracted_later(db: str, place: Path) -> None:
    """Elsewhere: some images, one that is another now, and the damaged one restored."""
    for name in ("0.png", "3.png"):
        (place / "photos" / name).unlink(missing_ok=True)
    for number, seed in {0: 20, 2: 2, 3: 23, 5: 5, 6: 6}.items():
        photograph(place / "later" / f"{number}.png", seed)
    extract(db, place / "later", retry_failed=True)


def open_mapped(db: str) -> None:
    """Make the ordered copy that a large version is mapped from.

    Raises MissingError where the version lies in memory instead, as where a disk is full.
    """
    if open_database(db).embeddings.flags.owndata:
        raise MissingError("no copy of the embeddings was mapped")


def merge(db: str) -> None:
    """Descriptor files as one and a rest; the version goes on to be what it is."""
    merge_files(db, file_rows=8, grace_s=0)
    embed_database(db)


def trained(db: str, seed: int) -> None:
    """An embedder without captions."""
    place = Path(db).parent
    start, words = str(place / f"start {seed}"), str(place / "words.txt")
    train(db, None, None, toy_world.word_vectors(), words, FitSettings(), False, start=start)


def trained_and_embedded(db: str) -> None:
    """What `pipeline` does once more is known of the text side."""
    trained(db, 2)
    embed_database(db)


def queried(db: str) -> None:
    """Five queries in three shards, answered into files."""
    for kept in (batch._open, batch._load_space):  # by the process: each try stands for a new one
        kept.cache_clear()
    queries = str(Path(db).parent / "queries.txt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "MAPPED_ROWS", 100)  # mapping is a step of its own
        batch.run_batch_queries(
            db, queries, f"{db}/answers", 4, shard_queries=2, database_shards=1, run=run_here
        )


STEPS: dict[str, Callable[[str], object]] = {
    "extract": lambda db: extracted(db, Path(db).parent),
    "train": lambda db: trained(db, 1),
    "embed": embed_database,
    "remove": lambda db: remove_images(db, ["1.png", "7.png"]),
    "train again and embed": trained_and_embedded,
    "compact": lambda db: compact_database(db, file_rows=8, grace_s=0),
    "undo": lambda db: remove_images(db, ["1.png"], undo=True) if "1.png" in removed(db) else None,
    "embed again": lambda db: embed_database(db, check=True),
    "merge": merge,
    "extract later": lambda db: extracted_later(db, Path(db).parent),
    "embed what is there": embed_database,
    "query": queried,
    "map": open_mapped,
}


def removed(db: str) -> list[str]:
    """Ids that tombstones hide."""
    return read_manifest(db).tombstones.image_ids


def described(db: str) -> tuple[list[str], set[str]]:
    """Digests of the rows of descriptors and of failures, and the names of their files."""
    digests, names = [], set()
    for kind in ("descriptors", "failures"):
        files = stored_files(db, kind)
        tables = [read_table(join(db, kind, file.name)).to_pylist() for file in files]
        rows = sorted(repr(row) for table in tables for row in table)
        digests.append(hashlib.sha256("\n".join(rows).encode()).hexdigest())
        names |= {f"{kind}/{file.name}" for file in files}
    return digests, names


def shown(db: str) -> list[Any]:
    """What the newest version shows, and its answers to some queries."""
    database = open_database(db)
    queries = np.random.default_rng(0).normal(size=(3, database.embeddings.shape[1]))
    hits = database.search_images(queries.astype(np.float32), 4)
    digest = hashlib.sha256(database.embeddings.tobytes()).hexdigest()
    answers = [hits.images["image_id"].to_pylist(), hits.scores.tolist()]
    return [database.version, digest, list(database.image_ids), *answers]


def without_times(name: str) -> str:
    """A file's name but for what follows, in the names of lists, from the times of files."""
    return re.sub(r"files-[0-9a-f]+", "files", name)


def state(db: str) -> list[Any]:
    """What all files hold, and their names but for those that may go; answers of the newest."""
    equal = [*Path(db, "embedder").glob("*.npz"), *Path(db, "answers").glob("*")]  # bit for bit
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(equal)]
    rows, cut = described(db)
    newest: list[Any] = []
    if list_versions(db):
        delete_unneeded(db, 0)
        newest = [read_manifest(db).images, *shown(db)]
        copies = sorted(copy.name for copy in Path(db, "mapped").iterdir())
        assert len(copies) == 2, copies  # a copy and its lock
        assert copies[1] == f"{copies[0]}.lock", copies
        shutil.rmtree(Path(db, "mapped"))
    names = sorted(
        without_times(str(file.relative_to(db)))
        for file in Path(db).rglob("*")
        # What is left of a shard is cut into others.
        if file.is_file() and str(file.relative_to(db)) not in cut
    )
    return [*newest, digests, rows, names]


def openable(db: str) -> bool:
    """Whether the database opens, or says that there is none yet."""
    try:
        open_database(db)
    except (MissingError, BadInputError) as error:
        return "run jobs.embed_database first" in str(error)
    return True


Finish = Callable[[str, Callable[[str], object]], list[Any]]


def run_again(db: str, step: Callable[[str], object]) -> list[Any]:
    """What a step comes to that was killed, after looking at what it left."""
    assert openable(db)
    step(db)
    return state(db)


class Harness:
    """Snapshots of a database before each step, and what each step must lead to."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.before = {name: directory / f"before {name}" for name in STEPS}
        self.calls: dict[str, int] = {}
        status, result = in_a_child(self._undisturbed)
        if status:
            raise SystemExit(f"the undisturbed run failed: {result}")
        self.after, self.calls = result

    def _undisturbed(self) -> tuple[dict[str, list[Any]], dict[str, int]]:
        """What each step comes to, and how many calls of it change files."""
        db = self.directory / "db"
        make(str(db))
        after, calls, watched_calls = {}, {}, list[str]()
        for name, step in STEPS.items():
            shutil.copytree(db, self.before[name])
            with watched(lambda call, _: watched_calls.append(call)):
                step(str(db))
            calls[name] = len(watched_calls)
            watched_calls.clear()
            after[name] = state(str(db))
        return after, calls

    def copy_of(self, name: str) -> Path:
        """The database as it was before a step, in a directory that the last copy gives up."""
        db = self.directory / "tried"
        shutil.rmtree(db, ignore_errors=True)
        return shutil.copytree(self.before[name], db)

    def difference(self, name: str, db: Path, finish: Finish) -> str:
        """What is wrong with a database once a step has ended there; nothing where all is well."""
        try:
            comes_to = json.loads(json.dumps(finish(str(db), STEPS[name])))
        except Exception:
            return traceback.format_exc()
        after = self.after[name]
        return "" if comes_to == after else f"{comes_to}\ninstead of {after}"


def harness_in(directory: Path) -> Harness:
    """A harness that works in a new directory, with a cache of its own."""
    # What is left over is left for some minutes to a writer who may be at work: not here.
    storage.LEFTOVER_AGE_S = 0
    opening.MAPPED_ROWS = 1
    directory.mkdir(parents=True)
    os.environ["XDG_CACHE_HOME"] = str(directory / "cache")
    return Harness(directory)


def count_wrong(kind: str, tries: Callable[[], Iterator[tuple[str, str]]]) -> int:
    """How many tries, all in one forked process, went wrong.

    Each is what was done, and what is wrong with what it came to; prints that, and how many tries
    there were.
    """
    status, result = in_a_child(lambda: list(tries()))
    if status:
        print(f"{kind} ended with {status}: {result}", flush=True)
        return 1
    problems = [f"{done}: {problem}" for done, problem in result if problem]
    print(*problems, f"{kind}: {len(result)}, {len(problems)} wrong", sep="\n", flush=True)
    return len(problems)


class Moments:
    """What stands in a directory before each call of a step; equal ones once."""

    def __init__(self, db: Path, links: Path) -> None:
        self.db = db
        self.links = links
        self.states: dict[int, dict[str, tuple[int, bytes] | None]] = {}  # by number of the call
        self._last: dict[str, tuple[int, bytes] | None] | None = None
        self._calls = 0
        links.mkdir()

    def note(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Keep what stands there now: content of each file, and its inode, by a link to it."""
        state: dict[str, tuple[int, bytes] | None] = {}
        for path in sorted(self.db.rglob("*")):
            name = str(path.relative_to(self.db))
            if path.is_dir():
                state[name] = None
                continue
            inode = path.stat().st_ino
            state[name] = inode, path.read_bytes()
            if not (self.links / str(inode)).exists():
                os.link(path, self.links / str(inode))
        if state != self._last:
            self.states[self._calls] = self._last = state
        self._calls += 1

    def lay_out(self, call: int, target: Path) -> None:
        """Put there what stood before a call, each file with its inode and times as they were."""
        target.mkdir()
        for name, file in self.states[call].items():
            if file is None:
                (target / name).mkdir()
                continue
            inode, content = file
            link = self.links / str(inode)
            if link.read_bytes() == content:
                os.link(link, target / name)
            else:  # it was still being written
                (target / name).write_bytes(content)


def kills_at_every_call(harness: Harness) -> int:
    """Begin again on what a kill before each call of each step leaves; returns how many failed."""

    def tries() -> Iterator[tuple[str, str]]:
        for name, step in STEPS.items():
            moments = Moments(harness.copy_of(name), harness.directory / f"links {name}")
            with watched(moments.note):
                step(str(moments.db))
            for call in moments.states:
                db = harness.directory / f"killed {call}"
                moments.lay_out(call, db)
                yield f"{name}, killed before call {call}", harness.difference(name, db, run_again)
                shutil.rmtree(db)
            shutil.rmtree(moments.links)

    print(f"{sum(harness.calls.values())} calls in {len(STEPS)} steps: {harness.calls}")
    return count_wrong("kills", tries)


def drawn_kills(harness: Harness, count: int, seed: int) -> int:
    """Kill processes before drawn calls of drawn steps; returns how many tries failed."""

    def tries() -> Iterator[tuple[str, str]]:
        draw = random.Random(seed)
        for name in draw.choices(list(STEPS), k=count):
            calls = [draw.randrange(harness.calls[name]) for _ in range(draw.randint(1, 3))]
            db = harness.copy_of(name)
            ends = [in_a_child(partial(STEPS[name], str(db)), call) for call in calls]
            problem = "".join(str(end) for end in ends if end[0] not in (0, KILLED))
            problem = problem or harness.difference(name, db, run_again)
            yield f"{name}, killed before calls {calls}", problem

    return count_wrong("drawn kills", tries)
