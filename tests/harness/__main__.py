"""Kills, losses of power and faults at the calls of the storage, in a small run of each job.

`python -m tests.harness DIR [--every N] [--random N] [--store N]` prints each difference from an
undisturbed run, and how many tries there were; it exits with 1 where anything is wrong.
"""

import argparse
import sys
from pathlib import Path

from tests.harness.faults import faults
from tests.harness.kills import drawn_kills, harness_in, kills_at_every_call
from tests.harness.power_loss import power_losses
from tests.harness.store_faults import store_faults


def main() -> None:
    """Try all of them, one kind after another."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("directory", type=Path, help="to work in; it must not be there")
    arguments.add_argument("--every", type=int, default=1, help="of losses and faults each Nth")
    arguments.add_argument("--random", type=int, default=100, help="processes killed for good")
    arguments.add_argument("--store", type=int, default=400, help="requests to S3 that fail")
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    harness = harness_in(options.directory)
    wrong = kills_at_every_call(harness)
    wrong += power_losses(harness, options.every, options.seed)
    wrong += faults(harness, options.every)
    wrong += store_faults(options.directory / "store", options.store, options.seed)
    wrong += drawn_kills(harness, options.random, options.seed)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
