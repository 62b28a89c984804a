"""Let a call of the storage fail, at calls of each job: a clear error, and a rerun mends it.

A disk that is full (ENOSPC), one that fails (EIO), and one that has become read-only (EROFS): the
step must end as it would have, or raise OSError or an error of the project; what is there then
opens; run again, it comes to the rows and answers of an undisturbed run, with nothing left over.
"""

import errno
import os
from collections.abc import Iterator
from typing import Any

from lib.errors import ImageSearchError
from tests.harness.kills import STEPS, Harness, count_wrong, run_again, watched

FAULTS = (errno.EIO, errno.ENOSPC, errno.EROFS)


def run_with_fault(db: str, name: str, point: int, code: int) -> str:
    """Run a step whose call number `point` fails; what is wrong with how it ends, or nothing."""
    calls = 0

    def act(call: str, arguments: tuple[Any, ...]) -> None:
        nonlocal calls
        calls += 1
        if calls == point + 1:
            raise OSError(code, os.strerror(code), str(arguments[0]))

    try:
        with watched(act):
            STEPS[name](db)
    except (ImageSearchError, OSError):
        return ""
    except Exception as error:
        return f"an untyped error: {error!r}"
    return ""


def faults(harness: Harness, every: int) -> int:
    """Let each Nth call of each step fail; returns how many went wrong."""

    def tries() -> Iterator[tuple[str, str]]:
        for name in STEPS:
            for point in range(0, harness.calls[name], every):
                code = FAULTS[point // every % len(FAULTS)]
                db = harness.copy_of(name)
                problem = run_with_fault(str(db), name, point, code)
                problem = problem or harness.difference(name, db, run_again)
                yield f"{name}, {errno.errorcode[code]} at call {point}", problem

    return count_wrong("faults", tries)
