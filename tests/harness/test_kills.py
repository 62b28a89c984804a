"""A kill, or a loss of power, at any call of the storage costs a rerun and nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.reports
def test_a_power_loss_leaves_the_old_version_or_the_new(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.harness.power_loss", str(tmp_path / "cut")]
    done = subprocess.run(
        [*command, "--every", "9"], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-3000:]
    assert done.stdout.endswith("of 9 steps, 0 wrong\n")


@pytest.mark.reports
def test_a_call_that_fails_is_a_clear_error_and_a_rerun_mends_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.harness.faults", str(tmp_path / "faults")]
    done = subprocess.run(
        [*command, "--every", "9"], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-3000:]
    assert done.stdout.endswith("in 10 steps, 0 wrong\n")


@pytest.mark.reports
def test_a_kill_at_any_call_changes_nothing_that_a_rerun_comes_to(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.harness.kills", str(tmp_path / "kills")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-3000:]
    points, wrong = done.stdout.split()[0], done.stdout.split("steps, ")[1].split()[0]
    assert (int(points) >= 200, wrong) == (True, "0")
