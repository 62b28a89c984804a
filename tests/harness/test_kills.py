"""A kill, or a loss of power, at any call of the storage costs a rerun and nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run_harness(name: str, directory: Path, *options: str) -> str:
    """What a harness prints, which has met nothing wrong."""
    command = [sys.executable, "-m", f"tests.harness.{name}", str(directory / name), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.reports
def test_a_power_loss_leaves_the_old_version_or_the_new(tmp_path: Path) -> None:
    printed = run_harness("power_loss", tmp_path, "--every", "9")
    assert printed.endswith("of 9 steps, 0 wrong\n")


@pytest.mark.reports
def test_a_call_that_fails_is_a_clear_error_and_a_rerun_mends_it(tmp_path: Path) -> None:
    printed = run_harness("faults", tmp_path, "--every", "9")
    assert printed.endswith("in 10 steps, 0 wrong\n")


@pytest.mark.reports
def test_a_kill_at_any_call_changes_nothing_that_a_rerun_comes_to(tmp_path: Path) -> None:
    printed = run_harness("kills", tmp_path)
    points, wrong = printed.split()[0], printed.split("steps, ")[1].split()[0]
    assert (int(points) >= 200, wrong) == (True, "0")
