"""What every job shares: argument parsing, exit status, and the summary as text and JSON."""

import argparse
import dataclasses
import math
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from lib.cluster import choose_token
from lib.errors import BadArgumentError, ImageSearchError
from lib.storage import write_json_atomic

if TYPE_CHECKING:
    from lib.datasets.captions import Captions

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
    arguments = argparse.ArgumentParser(
        prog=f"python -m jobs.{name}",
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    arguments.register("action", None, _StoreOnce)
    arguments.add_argument("--json", metavar="FILE", help="write the summary as JSON, too")
    return arguments


class _StoreOnce(argparse._StoreAction):
    """An option that refuses to be given again, where the last one would win silently."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option: str | None = None,
    ) -> None:
        seen = vars(namespace).setdefault("given", set())
        if option and self.dest in seen:
            parser.error(f"{option} is given twice")
        seen.add(self.dest)
        super().__call__(parser, namespace, values, option)


def add_database(arguments: argparse.ArgumentParser) -> None:
    """The option --db."""
    arguments.add_argument(
        "--db", required=True, metavar="DB", help="database: a directory, or a URL such as s3://…"
    )


def load_captions(source: str) -> "Captions":
    """Captions of a file, with a line on stderr for what was left out of it."""
    from lib.datasets.captions import load_captions

    captions = load_captions(source)
    for note in captions.notes:
        print(f"note: {note}", file=sys.stderr)
    return captions


def run(
    arguments: argparse.ArgumentParser,
    job: Callable[[argparse.Namespace], Mapping[str, Any]],
    argv: list[str] | None = None,
) -> NoReturn:
    """Parse, run the job, report what it returns, and exit: 0 done, 1 failed, 2 bad arguments."""
    options = arguments.parse_args(argv)
    choose_token()
    try:
        if options.json and Path(options.json).is_dir():
            raise BadArgumentError(f"--json {options.json} is a directory; name a file")
        _write(options.json, job(options))
        sys.stdout.flush()
    except BrokenPipeError:  # who read has enough, as in `| head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except BadArgumentError as error:
        arguments.error(str(error))
    except KeyboardInterrupt:
        print(f"{arguments.prog}: interrupted; a rerun goes on from here", file=sys.stderr)
        sys.exit(1)
    except (ImageSearchError, OSError) as error:
        print(f"{arguments.prog}: {error}", file=sys.stderr)
        try:
            _write(options.json, {**getattr(error, "summary", {}), "error": str(error)})
        except OSError as unwritten:
            print(f"{arguments.prog}: {unwritten}", file=sys.stderr)
        sys.exit(1)
    sys.exit(0)


def _write(url: str | None, summary: Mapping[str, Any]) -> None:
    if url:
        write_json_atomic(url, as_json(summary))


def as_json(value: Any) -> Any:
    """A summary as JSON has it: dataclasses and mappings as objects, numbers that are none null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: as_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if hasattr(value, "tolist"):  # numpy's arrays and scalars
        return as_json(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Sequence | set | frozenset):
        return [as_json(item) for item in value]
    return str(value)
