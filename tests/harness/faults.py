"""Let a call of the storage fail, at every call of each job: a clear error, and a rerun mends it.

`python -m tests.harness.faults DIR [--every N]`. A disk that is full (ENOSPC), one that fails
(EIO), and one that has become read-only (EROFS): the step must end as it would have, or raise
OSError or an error of the project; what is there then opens; run again, it comes to the rows and
answers of an undisturbed run, with nothing left over.
"""

import argparse
import errno
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from lib.errors import ImageSearchError
from tests.harness.kills import STEPS, Harness, harness_in, in_a_child, run_again, watched

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


def try_fault(harness: Harness, name: str, point: int, code: int) -> str:
    """What is wrong after a fault at a call of a step; nothing where all is as it must be."""
    db = harness.copy_of(name)
    status, problem = in_a_child(partial(run_with_fault, str(db), name, point, code))
    if status or problem[0]:
        return f"status {status}: {problem and problem[0]}"
    status, result = in_a_child(partial(run_again, str(db), STEPS[name]))
    if status or result[0] != harness.after[name]:
        return f"run again: {result and result[0]}\ninstead of {harness.after[name]}"
    return ""


def main() -> None:
    """Try the calls, print what is wrong, and exit with 1 where anything is."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("directory", type=Path, help="to work in; it must not be there")
    arguments.add_argument("--every", type=int, default=1, help="try each Nth call")
    options = arguments.parse_args()
    harness = harness_in(options.directory)
    tried = wrong = 0
    for name, calls in harness.calls.items():
        for point in range(0, calls, options.every):
            tried += 1
            code = FAULTS[tried % len(FAULTS)]
            if problem := try_fault(harness, name, point, code):
                wrong += 1
                print(f"{name}, {errno.errorcode[code]} at call {point}: {problem}", flush=True)
    print(f"{tried} faults in {len(harness.calls)} steps, {wrong} wrong")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
