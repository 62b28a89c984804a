"""A kill, a loss of power or a fault at any call of the storage costs a rerun and nothing else."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
# What a disk would hold is worked out, so a disk need not be waited for.
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


@pytest.mark.reports
def test_kills_losses_of_power_and_faults_change_nothing_that_a_rerun_comes_to() -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        options = ["--every", "20", "--random", "3", "--store", "4"]
        command = [sys.executable, "-m", "tests.harness", f"{directory}/harness", *options]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-3000:]
    kinds = re.findall(r"^([a-z ]+): (\d+), 0 wrong$", done.stdout, re.MULTILINE)
    least = {"kills": 130, "power losses": 15, "faults": 12, "store faults": 4, "drawn kills": 3}
    assert {kind: int(count) >= least[kind] for kind, count in kinds} == dict.fromkeys(least, True)
