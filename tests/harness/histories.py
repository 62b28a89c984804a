"""Writers and readers of one database at the same time, and what each of them saw.

`python -m tests.harness.histories DIR [--operations N] [--seconds S] [--s3]`.
Processes remove images, bring them back, embed and compact, each at random; others open the newest
version and look. From what each operation returned, and when, follows whether all of it could have
happened one after another: versions only rise, each is made by one writer, a removal whose command
has ended is in every version opened after that and stays until it is taken back, and no reader
meets a file that is gone.
"""

import argparse
import json
import multiprocessing
import random
import sys
import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from benchmarks.s3 import running
from lib.database.compaction import compact_database
from lib.database.embed import embed_database
from lib.database.opening import open_database
from lib.database.removal import remove_images
from lib.errors import BadInputError, ConflictError
from tests.database.test_embed import save_embedder, write_descriptors

FILES, ROWS = 6, 8
WRITERS, READERS = 8, 4
_IMAGES = FILES * ROWS
_GRACE_S = 60.0  # so that versions go while others are at work; no operation takes as long


def write(db: str, log: str, seed: int, operations: int, seconds: float) -> None:
    """One writer: it alone removes, and brings back, the images of its own ids."""
    until = time.monotonic() + seconds
    draw = random.Random(seed)
    own = [str(number) for number in range(seed, _IMAGES, WRITERS)]
    gone: set[str] = set()
    with Path(log).open("w", buffering=1) as file:
        for _ in range(operations):
            if time.monotonic() > until:
                break
            kind = draw.choices(["remove", "undo", "embed", "compact"], [6, 4, 1, 1])[0]
            image = draw.choice(own)
            if kind == "remove" and image in gone:
                kind = "undo"
            elif kind == "undo" and image not in gone:
                kind = "remove"
            start = time.monotonic()
            outcome = "done"
            try:
                if kind == "embed":
                    embed_database(db)
                elif kind == "compact":
                    compact_database(db, file_rows=draw.choice([8, 16, 64]), grace_s=_GRACE_S)
                else:
                    remove_images(db, [image], undo=kind == "undo")
            except ConflictError:
                outcome = "conflict"
            except BadInputError:  # it was brought back, and is not embedded again yet
                outcome = "not there"
            entry = {"kind": kind, "image": image, "start": start, "end": time.monotonic()}
            file.write(json.dumps(entry | {"outcome": outcome}) + "\n")
            if outcome == "done" and kind in ("remove", "undo"):
                gone ^= {image}


def read(db: str, log: str, stop: Any) -> None:
    """One reader: opens the newest version again and again."""
    with Path(log).open("w", buffering=1) as file:
        while not stop.is_set():
            start = time.monotonic()
            collection = open_database(db)
            shown = list(collection.image_ids)
            entry = {"start": start, "end": time.monotonic(), "version": collection.version}
            file.write(json.dumps(entry | {"shown": shown}) + "\n")
            stop.wait(entry["end"] - start)  # half of the work at most is that of readers


def check(writers: list[list[dict[str, Any]]], readers: list[list[dict[str, Any]]]) -> list[str]:
    """What cannot have happened one after another."""
    problems = []
    for number, looks in enumerate(readers):
        versions = [look["version"] for look in looks]
        if versions != sorted(versions):
            problems.append(f"reader {number}: a version older than the last: {versions}")
    looks = sorted((look for part in readers for look in part), key=lambda look: look["start"])
    shown_by: dict[int, set[str]] = {}
    for look in looks:
        shown = set(look["shown"])
        if len(shown) != len(look["shown"]):
            problems.append(f"version {look['version']} shows an image twice")
        if shown_by.setdefault(look["version"], shown) != shown:
            problems.append(f"version {look['version']} is not the same to all")
    compactions = [e for part in writers for e in part if e["kind"] == "compact"]
    for entry in (e for part in writers for e in part if e["outcome"] == "not there"):
        if not any(each["start"] < entry["end"] for each in compactions):
            problems.append(f"{entry['image']} was not there, and nothing had been compacted")
    for operations in writers:
        changes = [
            e for e in operations if e["outcome"] == "done" and e["kind"] in ("remove", "undo")
        ]
        for image in {entry["image"] for entry in changes}:
            mine = [entry for entry in changes if entry["image"] == image]
            ends = [later["start"] for later in mine[1:]] + [float("inf")]
            for before, entry, until in zip([mine[0], *mine], mine, ends, strict=False):
                # What a compaction dropped meanwhile comes back with the next embedding.
                if entry["kind"] == "undo" and any(
                    before["start"] < c["end"] and c["start"] < entry["end"] for c in compactions
                ):
                    continue
                for look in looks:
                    if entry["end"] < look["start"] and look["end"] < until:
                        seen = image in set(look["shown"])
                        if seen != (entry["kind"] == "undo"):
                            problems.append(f"{image}: {entry['kind']} lost at {look['start']}")
    return problems


def run(db: str, directory: Path, operations: int, seconds: float) -> list[str]:
    """Let them work, and return what is wrong."""
    for number in range(FILES):
        photos = {str(number * ROWS + row): f"photo {number} {row}" for row in range(ROWS)}
        write_descriptors(db, f"{number}.parquet", photos)
    save_embedder(db, 0, directory / "words.txt")
    embed_database(db)
    # Processes without the threads of this one; what they import is imported once.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.database.test_embed"])
    stop = context.Event()
    logs = [str(directory / f"writer-{n}.jsonl") for n in range(WRITERS)]
    views = [str(directory / f"reader-{n}.jsonl") for n in range(READERS)]
    started = [
        context.Process(target=write, args=(db, log, n, operations // WRITERS, seconds))
        for n, log in enumerate(logs)
    ]
    looking = [context.Process(target=read, args=(db, log, stop)) for log in views]
    for process in [*started, *looking]:
        process.start()
    for process in started:
        process.join()
    stop.set()
    for process in looking:
        process.join()
    problems = [f"{p.name} ended with {p.exitcode}" for p in [*started, *looking] if p.exitcode]
    done, seen = ([_lines(log) for log in part] for part in (logs, views))
    counts = Counter(f"{e['kind']} {e['outcome']}" for part in done for e in part)
    print(f"{counts.total()} operations, {dict(sorted(counts.items()))}")
    versions = {look["version"] for part in seen for look in part}
    print(f"{sum(map(len, seen))} looks at {len(versions)} versions")
    return problems + check(done, seen)


def _lines(log: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(log).read_text().splitlines()]


def main() -> None:
    """Run, print what is wrong, and exit with 1 where anything is."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("directory", type=Path, help="to work in; it must not be there")
    arguments.add_argument("--operations", type=int, default=400)
    arguments.add_argument("--seconds", type=float, default=3600, help="no operation begins after")
    arguments.add_argument("--s3", action="store_true", help="on an S3 server, not on this disk")
    options = arguments.parse_args()
    options.directory.mkdir(parents=True)
    place = "s3://histories" if options.s3 else options.directory
    with running("histories") if options.s3 else nullcontext():
        problems = run(f"{place}/db", options.directory, options.operations, options.seconds)
    for problem in problems[:20]:
        print(problem)
    print(f"{len(problems)} wrong")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
