"""Cut the power at any call of the storage: what a disk may then hold opens, and a rerun mends it.

A step is run once, its changes of files are recorded, with the `fsync`s between them. From each
prefix of them follow states that a disk may be in: what was not flushed is there, or is not, name
by name; a file that was not flushed is empty. One is laid out, opened, run again, and compared with
an undisturbed run.
"""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.harness.kills import STEPS, Harness, count_wrong, run_again, state, watched

Names = dict[str, int]  # file number by path; a number stands for an inode


class Disk:
    """What a disk holds for sure, and what it may hold, while changes go on in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.contents: list[bytes] = []
        self.live: Names = {}  # as the processes see it
        self.sure: Names = {}  # as flushed
        self.flushed: set[int] = set()
        self.moments: list[tuple[Names, Names, set[int]]] = []
        for file in sorted(directory.rglob("*")):
            if file.is_file():
                self.live[str(file)] = len(self.contents)
                self.flushed.add(len(self.contents))
                self.contents.append(file.read_bytes())
        self.sure = dict(self.live)

    def note(self, name: str, arguments: tuple[Any, ...]) -> None:
        """A change that is about to be made; the state before it is one where power may go."""
        self.moments.append((dict(self.live), dict(self.sure), set(self.flushed)))
        first, second = (*map(str, arguments), "", "")[:2]
        if name == "open":
            self.live[first] = len(self.contents)
            self.contents.append(b"")
        elif name in ("replace", "rename"):
            self.live[second] = self.live.pop(first)
        elif name == "link":
            self.live[second] = self.live[first]
        elif name in ("unlink", "remove"):
            self.live.pop(first, None)
        elif name == "fsync":
            self._flush(Path(f"/proc/self/fd/{first}").resolve())

    def _flush(self, path: Path) -> None:
        if path.is_dir():
            inside = {name for name in {*self.live, *self.sure} if Path(name).parent == path}
            for name in inside:
                self.sure.pop(name, None)
                if name in self.live:
                    self.sure[name] = self.live[name]
        elif str(path) in self.live:
            number = self.live[str(path)]
            self.contents[number] = path.read_bytes()
            self.flushed.add(number)

    def lay_out(self, moment: int, draw: random.Random, target: Path) -> None:
        """A state that the disk may be in, if power goes at a moment; the worst at last."""
        live, sure, flushed = self.moments[moment]
        last = moment == len(self.moments) - 1
        # Of the changes since the last flush so many are there.
        share = 0.0 if last else draw.choice([0.0, 0.5, 1.0])
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        for name in {*live, *sure}:
            number = (live if draw.random() < share else sure).get(name)
            if number is not None:
                file = target / Path(name).relative_to(self.directory)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(self.contents[number] if number in flushed else b"")


def power_losses(harness: Harness, every: int, seed: int) -> int:
    """Cut the power at each Nth moment of each step; returns how many went wrong."""

    def tries() -> Iterator[tuple[str, str]]:
        for name, step in STEPS.items():
            if name == "map":  # the copy that is mapped is not made by the calls watched alone
                continue
            disk = Disk(harness.copy_of(name))
            with watched(disk.note):
                step(str(disk.directory))
            disk.note("end", ())
            last = len(disk.moments) - 1
            for moment in [*range(seed % every, last, every), last]:
                db = harness.directory / f"cut {moment}"
                disk.lay_out(moment, random.Random(f"{seed} {name} {moment}"), db)
                # What has ended is there without being run again.
                finish = (lambda db, _: state(db)) if moment == last else run_again
                problem = harness.difference(name, db, finish)
                yield f"{name}, power lost before call {moment}", problem
                shutil.rmtree(db)

    return count_wrong("power losses", tries)
