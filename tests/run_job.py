"""Runs a job as its command does, in this process and in the tests' own Ray."""

import contextlib
import importlib
import io
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run_job(name: str, *arguments: object, status: int = 0, cwd: Path = ROOT) -> tuple[str, str]:
    """Run `jobs.NAME` with what a shell would give it; returns what it printed and its errors."""
    job = importlib.import_module(f"jobs.{name}")
    printed, errors = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(errors),
        pytest.raises(SystemExit) as ended,
    ):
        job.main([str(argument) for argument in arguments])
    output = printed.getvalue(), errors.getvalue()
    assert ended.value.code == status, "\n".join(output)
    return output
