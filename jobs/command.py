"""What every job shares: argument parsing, exit status, and the summary as text and JSON."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from lib.cluster import choose_token
from lib.errors import BadArgumentError, ImageSearchError

# In the order in which a collection meets them.
ORDER = (
    "doctor",
    "prepare_data",
    "pipeline",
    "extract_descriptors",
    "import_descriptors",
    "make_triples",
    "train_embedder",
    "embed_database",
    "evaluate",
    "query",
    "show",
    "serve",
    "remove_images",
    "compact_database",
)


def parser(name: str, description: str, example: str) -> argparse.ArgumentParser:
    """Parser of `python -m jobs.NAME`, with the options that every job has."""
    made = argparse.ArgumentParser(
        prog=f"python -m jobs.{name}",
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--json", metavar="FILE", help="write the summary as JSON, too")
    return made


def add_database(arguments: argparse.ArgumentParser) -> None:
    """The option --db."""
    arguments.add_argument(
        "--db", required=True, metavar="DB", help="database: a directory, or a URL such as s3://…"
    )


def run(
    arguments: argparse.ArgumentParser,
    job: Callable[[argparse.Namespace], Mapping[str, Any]],
    argv: list[str] | None = None,
) -> NoReturn:
    """Parse, run the job, report what it returns, and exit: 0 done, 1 failed, 2 bad arguments."""
    options = arguments.parse_args(argv)
    choose_token()
    try:
        summary = job(options)
        if options.json:
            text = json.dumps(summary, indent=1, allow_nan=False)
            Path(options.json).write_text(text + "\n")
    except BadArgumentError as error:
        arguments.error(str(error))
    except ImageSearchError as error:
        print(f"{arguments.prog}: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        print(f"{arguments.prog}: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print(f"{arguments.prog}: interrupted; a rerun goes on from here", file=sys.stderr)
        sys.exit(1)
    sys.exit(0)
