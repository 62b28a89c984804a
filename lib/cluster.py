"""The one place that starts or joins Ray: the cluster of RAY_ADDRESS, else this machine."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROJECT_ROOT = Path(__file__).parents[1]


@contextmanager
def connect() -> Iterator[None]:
    """Ray for the length of a `with` block.

    Joins the cluster that RAY_ADDRESS names (set inside a Ray job). Otherwise starts a Ray of its
    own in this process, without dashboard and with quiet logs, and stops it at the end. A Ray that
    already runs in this process is used as it is and left running.
    """
    os.environ.setdefault("RAY_DEDUP_LOGS", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        yield
        return
    # Workers import lib from the same place as the driver, whatever the working directory.
    environment: dict[str, Any] = {"env_vars": {"PYTHONPATH": _python_path()}}
    address = os.environ.get("RAY_ADDRESS")
    if address:
        # A submitted job has brought its working directory along; any other driver sends this one.
        submitted = "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.WARNING,
            runtime_env=None if submitted else {"working_dir": str(PROJECT_ROOT)},
        )
    else:
        ray.init(
            address="local",
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env=environment,
        )
    try:
        yield
    finally:
        ray.shutdown()


def _python_path() -> str:
    inherited = os.environ.get("PYTHONPATH")
    return os.pathsep.join([str(PROJECT_ROOT), *([inherited] if inherited else [])])
