"""The one place that starts or joins Ray: the cluster of RAY_ADDRESS, else this machine."""

import logging
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lib.errors import ImageSearchError

PROJECT_ROOT = Path(__file__).parents[1]


def choose_token() -> None:
    """Choose the token by which Ray knows its own; call it before ray is imported.

    `ray start` protects a cluster with the token of ~/.ray/auth_token wherever there is one, but a
    client shows it only where RAY_AUTH_MODE says so. A cluster without tokens does not mind. A Ray
    of this process alone gets a token of its own: Ray would make that file, which a home that
    cannot be written does not allow, and from which a later `ray start` would demand it.
    """
    if "RAY_AUTH_MODE" in os.environ:
        return
    if not os.environ.get("RAY_ADDRESS"):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    named = os.environ.keys() & {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}
    if named or (Path.home() / ".ray" / "auth_token").exists():
        os.environ["RAY_AUTH_MODE"] = "token"


@contextmanager
def connect() -> Iterator[None]:
    """Ray for the length of a `with` block.

    Joins the cluster that RAY_ADDRESS names (set inside a Ray job). Otherwise starts a Ray of its
    own in this process, without dashboard and with quiet logs, and stops it at the end. A Ray that
    already runs in this process is used as it is and left running. Raises ImageSearchError where
    RAY_ADDRESS names a cluster that does not let this process join.
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
        try:
            _reach(address)
            ray.init(
                address=address,
                log_to_driver=False,
                logging_level=logging.WARNING,
                runtime_env=None if submitted else {"working_dir": str(PROJECT_ROOT)},
            )
        except (OSError, ValueError) as error:
            reason = str(error).rstrip(".")
            raise ImageSearchError(
                f"RAY_ADDRESS is {address}: {reason}. Is the cluster up? If it demands a token, "
                "put that into ~/.ray/auth_token or RAY_AUTH_TOKEN here; to use this machine "
                "alone, unset RAY_ADDRESS"
            ) from error
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


def _reach(address: str) -> None:
    """Raise OSError where nothing listens at HOST:PORT; Ray would try for two minutes."""
    host, _, port = address.rpartition(":")
    if port.isdigit() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _python_path() -> str:
    inherited = os.environ.get("PYTHONPATH")
    return os.pathsep.join([str(PROJECT_ROOT), *([inherited] if inherited else [])])
