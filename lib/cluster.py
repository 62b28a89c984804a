"""Ray as this project uses it: joined, or started in this process."""

import logging
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lib.cores import usable_cores
from lib.errors import ImageSearchError
from lib.storage import is_text

_SOCKET_BYTES = 103 if sys.platform == "darwin" else 107  # of a socket's path
PROJECT_ROOT = Path(__file__).parents[1]


def choose_token() -> None:
    """Choose the token by which Ray knows its own; call it before ray is imported.

    `ray start` protects a cluster with the token of ~/.ray/auth_token wherever there is one, but a
    client shows it only where RAY_AUTH_MODE says so. (A cluster without tokens starts no actors for
    a client that shows one: RAY_AUTH_MODE=disabled joins it.) A Ray of this process alone gets a
    token of its own: Ray would make that file, which a home that cannot be written does not allow,
    and from which a later `ray start` would demand it.
    """
    if "RAY_AUTH_MODE" in os.environ:
        return
    if not os.environ.get("RAY_ADDRESS"):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    named = os.environ.keys() & {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}
    if named or (Path.home() / ".ray" / "auth_token").exists():
        os.environ["RAY_AUTH_MODE"] = "token"


@contextmanager
def connect(least_cpus: int = 1) -> Iterator[None]:
    """Ray for the length of a `with` block.

    Joins the cluster that RAY_ADDRESS names (set inside a Ray job). Otherwise starts a Ray of its
    own in this process, without dashboard and with quiet logs, and stops it at the end. A Ray that
    already runs in this process is used as it is and left running. A Ray of its own counts
    `least_cpus` CPUs at least, for what must run at the same time. Raises ImageSearchError where
    RAY_ADDRESS names a cluster that does not let this process join, where Ray could not take the
    command line, or does not start.
    """
    os.environ.setdefault("RAY_DEDUP_LOGS", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        yield
        return
    _require_utf8()
    address = os.environ.get("RAY_ADDRESS")
    at_end = signal.getsignal(signal.SIGTERM) or signal.SIG_DFL
    if address:
        # A submitted job has brought its working directory along; any other driver sends this one.
        submitted = "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
        try:
            reach(address)
            _require_head(address)
            ray.init(
                address=address,
                log_to_driver=False,
                logging_level=logging.ERROR,
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
        _require_room_for_sockets()
        try:
            with _imported_from_here():
                ray.init(
                    address="local",
                    num_cpus=least_cpus if usable_cores() < least_cpus else None,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
        except Exception as error:  # Ray raises what it meets, or Exception itself
            load, cores = os.getloadavg()[0], usable_cores()
            raise ImageSearchError(
                f"Ray did not start on this machine: {str(error).rstrip('.')}. Its logs are below "
                f"{_temporary()[1]}/ray; where other programs take its time (load {load:.0f} on "
                f"{cores} cores), try again when they are done"
            ) from error
    if threading.current_thread() is threading.main_thread():
        # Ray's handlers end the process without a word, or with a dump.
        signal.signal(signal.SIGTERM, at_end)
    try:
        yield
    finally:
        ray.shutdown()


def starts_here() -> bool:
    """Whether `connect` would start a Ray of its own in this process."""
    ray = sys.modules.get("ray")
    return not os.environ.get("RAY_ADDRESS") and not (ray and ray.is_initialized())


def _require_utf8() -> None:
    """Raise ImageSearchError for a name that Ray, which records the command line, cannot encode."""
    arguments = [("an argument", argument) for argument in sys.argv]
    for what, name in (("the working directory", str(Path.cwd())), *arguments):
        if not is_text(name):
            shown = os.fsencode(name).decode(errors="backslashreplace")
            raise ImageSearchError(
                f"{what} is {shown}, which is no UTF-8, and Ray takes no such name: rename it, or "
                "make a link to it (ln -s) and name that"
            )


def _require_room_for_sockets() -> None:
    """Raise ImageSearchError where Ray's directory has too long a name for sockets in it."""
    variable, parent = _temporary()
    longest = f"{parent}/ray/session_2000-01-01_00-00-00_000000_0000000/sockets/plasma_store"
    if len(os.fsencode(longest)) > _SOCKET_BYTES:
        raise ImageSearchError(
            f"{variable} is {parent}, too long a name for the sockets that Ray makes below it: set "
            f"{variable} to a shorter one, such as /tmp"
        )


def _temporary() -> tuple[str, str]:
    """The variable that says where Ray keeps its directory, and what it says."""
    variable = "RAY_TMPDIR" if "RAY_TMPDIR" in os.environ else "TMPDIR"
    return variable, os.environ.get(variable, "/tmp")


def reach(address: str) -> None:
    """Raise OSError where nothing listens at HOST:PORT; Ray would try for two minutes."""
    host, _, port = address.rpartition(":")
    if port.isdigit() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _require_head(address: str) -> None:
    """Raise OSError where what listens at HOST:PORT is no head of a Ray, or demands another token.

    Ray would try for up to a minute and a half, and log each time.
    """
    host, _, port = address.rpartition(":")
    if not port.isdigit() or "/" in host or os.environ.get("RAY_USE_TLS", "0") != "0":
        return
    import grpc
    from ray._private.authentication.http_token_authentication import (
        get_auth_headers_if_auth_enabled,
    )

    token = tuple(get_auth_headers_if_auth_enabled({}).items())
    # Ray asks its head past proxies, too.
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=10)
            call = channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetClusterId")
            call(b"", timeout=10, metadata=token)
        except grpc.RpcError as error:
            code = error.code()
            if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNIMPLEMENTED):
                raise OSError(
                    "what listens there is not the head of a Ray cluster, whose port is 6379 "
                    "unless `ray start` was told another (8265 is the dashboard's)"
                ) from error
            if code == grpc.StatusCode.UNAUTHENTICATED:
                raise OSError("it demands a token, and was shown none or another one") from error


def import_path() -> str:
    """PYTHONPATH of a process that is to import lib from where this one does."""
    return os.pathsep.join(filter(None, [str(PROJECT_ROOT), os.environ.get("PYTHONPATH")]))


@contextmanager
def _imported_from_here() -> Iterator[None]:
    """Processes that start meanwhile, and theirs, import lib from where this one does.

    Ray's runtime environment could say so, too, but then no process that Ray keeps ready would do:
    a worker is at work a second later.
    """
    inherited = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = import_path()
    try:
        yield
    finally:
        if inherited is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = inherited
