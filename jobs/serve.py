"""Serve a database over HTTP: an API, and a page to search with."""

import argparse
import signal
from typing import Any

from jobs import command
from lib.errors import BadArgumentError
from lib.service.launcher import own_proxy, require_address, running


def build_parser() -> argparse.ArgumentParser:
    """The job's options."""
    arguments = command.parser(
        __doc__,
        "python -m jobs.serve --db DB --port 8000",
        "--db --embedder --word-vectors --weights",
    )
    arguments.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    arguments.add_argument("--port", type=int, default=8000, help="port to listen on (%(default)s)")
    arguments.add_argument("--captions", metavar="FILE", help="captions to show beside the images")
    arguments.add_argument(
        "--max-replicas",
        type=command.at_least(1),
        default=1,
        help="search replicas that may run under load (%(default)s)",
    )
    arguments.add_argument(
        "--root-path", default="", metavar="PREFIX", help="where a reverse proxy shows it: /photos"
    )
    arguments.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME",
        help="further name by which it may be called without IMAGE_SEARCH_TOKEN; may be repeated",
    )
    return arguments


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Serve until interrupted."""
    if not 0 < options.port < 65536:
        raise BadArgumentError(f"--port {options.port}: ports are 1 to 65535")
    if options.root_path and not options.root_path.startswith("/"):
        raise BadArgumentError(f"--root-path {options.root_path}: begins with /, as /photos")
    require_address(options.host, options.port)
    if options.embedder:
        from lib.database.embed import embed_database
        from lib.embedder.space import adopt_embedder

        adopt_embedder(options.db, options.embedder)
        embed_database(options.db)
    with own_proxy(options.host, options.port):
        from lib.service.deployment import ServiceSettings

        settings = ServiceSettings(
            db=options.db,
            captions=options.captions,
            word_vectors=options.word_vectors,
            weights=options.weights,
            max_replicas=options.max_replicas,
            host=options.host,
            hosts=options.allowed_host,
            root_path=options.root_path,
        )
        with running(settings, options.host, options.port) as address:
            # Only now: Ray puts its own handler in place, which ends without stopping the proxy.
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            try:
                print(f"{address}  the page\n{address}/docs  the API\nCtrl-C stops it", flush=True)
                signal.pause()
            except KeyboardInterrupt:
                print("stopping", flush=True)
    return {"address": address}


main = command.main(build_parser, run, goes_on=False)

if __name__ == "__main__":
    main()
