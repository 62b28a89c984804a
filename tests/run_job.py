"""Runs a job as its command does, in this process and in the tests' own Ray."""

import contextlib
import importlib
import io
import os
from pathlib import Path
from unittest.mock import patch

import pytest

ROOT = Path(__file__).parents[1]


def run_job(name: str, *arguments: object, status: int = 0, cwd: Path = ROOT) -> tuple[str, str]:
    """Run `jobs.NAME` with what a shell would give it; returns what it printed and its errors."""
    job = importlib.import_module(f"jobs.{name}")
    printed, errors = io.StringIO(), io.StringIO()
    with (
        # Ray reads this when it is imported, here before the job can ask for a token: one that it
        # left behind would shut out the Ray that a later test starts.
        patch.dict(os.environ, {"RAY_AUTH_MODE": "disabled"}),
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(errors),
        pytest.raises(SystemExit) as ended,
    ):
        job.main([str(argument) for argument in arguments])
    output = printed.getvalue(), errors.getvalue()
    assert ended.value.code == status, "\n".join(output)
    return output
