"""What every job shares: argument parsing, exit status, and the summary as text and JSON."""

import argparse
import atexit
import dataclasses
import io
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from lib.cluster import PROJECT_ROOT, choose_token
from lib.errors import BadArgumentError, ImageSearchError
from lib.storage import absolute, exists, is_of_store, write_json_atomic

if TYPE_CHECKING:
    from lib.datasets.captions import Captions

Job = Callable[[argparse.Namespace], object]  # returns its summary, see `as_json`
Main = Callable[..., NoReturn]
_OF_COPIES = "working_dir_files"  # Ray's folder of the working directories that come with jobs

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


def seed(text: str) -> int:
    """An option's value as what random numbers begin with, whichever generator makes them."""
    number = int(text)
    if not 0 <= number < 1 << 32:
        raise argparse.ArgumentTypeError(f"must be 0 to {(1 << 32) - 1}, not {number}")
    return number


# Options that several jobs have.
SHARED: dict[str, dict[str, Any]] = {
    "--db": {
        "required": True,
        "metavar": "DB",
        "help": "database: a directory, or a URL such as s3://…",
    },
    "--backbone": {
        "default": "resnet18",
        "metavar": "NAME",
        "help": "a torchvision or timm model, efficientnet_lite0 (packaged weights), or auto: "
        "resnet18, else the packaged one (default resnet18)",
    },
    "--weights": {
        "metavar": "FILE_OR_URL",
        "help": "the backbone's state dict, as in extraction (default: official ImageNet weights)",
    },
    "--embedder": {
        "metavar": "DB_OR_FILE_OR_URL",
        "help": "take one that was trained elsewhere, on descriptors of the same network",
    },
    "--word-vectors": {
        "metavar": "FILE",
        "help": "GloVe or word2vec text file, or a gensim file (default: those of training, else "
        "the packaged glove.6B.50d)",
    },
    "--images": {"required": True, "metavar": "DIR_OR_URL", "help": "where the images are"},
    "--include-hidden": {
        "action": "store_true",
        "help": "take hidden files, thumbnails, recycle bins and conflict copies, too",
    },
    "--allow-private-addresses": {
        "action": "store_true",
        "help": "let http(s) addresses lead to this machine and network, not to public hosts alone",
    },
    "--store-as": {
        "choices": ["float32", "float16"],
        "default": "float32",
        "help": "type of the values in files (default: float32)",
    },
    "--seed": {"type": seed, "default": 0, "help": "of random numbers (default: 0)"},
    "--prune": {"action": "store_true", "help": "drop images that the source no longer has"},
}


def parser(description: str | None, example: str, shared: str = "") -> argparse.ArgumentParser:
    """Parser of the job of an example `python -m jobs.NAME …`: options of SHARED, and --json."""
    arguments = argparse.ArgumentParser(
        prog=" ".join(example.split()[:3]),
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    arguments.register("action", None, _StoreOnce)
    for name in shared.split():
        arguments.add_argument(name, **SHARED[name])
    arguments.add_argument("--json", metavar="FILE", help="write the summary as JSON, too")
    return arguments


class _StoreOnce(argparse._StoreAction):
    """An option that refuses to be given again, where the last one would win silently.

    And to be empty, as of a variable that is not set: that would be the working directory.
    """

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
        if values == "" and self.default != "":
            parser.error(f"{option} is empty; give it a value")
        seen.add(self.dest)
        super().__call__(parser, namespace, values, option)


def at_least(least: int, kind: type[float] = int) -> Callable[[str], float]:
    """What makes a number of an option's value, which must be no less."""

    def number(text: str) -> float:
        value = kind(text)
        if not value >= least:  # also of what is no number
            raise argparse.ArgumentTypeError(f"must be at least {least}, not {text}")
        return value

    return number


def load_captions(source: str) -> "Captions":
    """Captions of a file, with a line on stderr for what was left out of it."""
    from lib.datasets.captions import load_captions

    captions = load_captions(source)
    note_all(captions.notes)
    return captions


def note_all(notes: Iterable[str]) -> None:
    """Say on stderr what was left out of what was given, or taken otherwise."""
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def captions_of_images(source: str | None, db: str) -> dict[str, list[str]]:
    """The captions of a file that are of a database's images, by id; none where no file is named.

    Raises BadInputError where none is.
    """
    if not source:
        return {}
    from lib.database.opening import searchable_names

    return load_captions(source).texts_in(searchable_names(db), db)


def main(
    build_parser: Callable[[], argparse.ArgumentParser], job: Job, goes_on: bool = True
) -> Main:
    """What runs a job as a command, with the arguments of this process unless others are given.

    goes_on: whether a run after one that was interrupted finds what that one did.
    """
    return lambda argv=None: run(build_parser(), job, argv, goes_on)


def run(
    arguments: argparse.ArgumentParser,
    job: Job,
    argv: list[str] | None = None,
    goes_on: bool = True,
) -> NoReturn:
    """Parse, run the job, report what it returns, and exit: 0 done, 1 failed, 2 bad arguments."""
    for stream in ("stdout", "stderr"):
        if getattr(sys, stream) is None:  # closed by who started this, as `>&-` does
            setattr(sys, stream, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
    options, unknown = arguments.parse_known_args(argv)
    if unknown:
        arguments.error(_of_unknown(unknown))
    if isinstance(sys.stdout, io.TextIOWrapper):  # whose encoding may lack what names are made of
        sys.stdout.reconfigure(errors="backslashreplace")
    choose_token()
    if threading.current_thread() is threading.main_thread():
        # As Ctrl-C: of systemd, Kubernetes, `timeout` and `ray job stop`.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if options.json and Path(options.json).is_dir():
            raise BadArgumentError(f"--json {options.json} is a directory; name a file")
        _require_lasting(options)
        _write(options.json, job(options))
        sys.stdout.flush()
    except BrokenPipeError:  # who read has enough, as in `| head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except BadArgumentError as error:
        arguments.error(str(error))
    except (KeyboardInterrupt, SystemExit) as end:
        # While Ray starts, its handler of SIGTERM is in place.
        if isinstance(end, SystemExit) and end.code != signal.SIGTERM:
            raise
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        rerun = "; a rerun goes on from here" if goes_on else ""
        print(f"{arguments.prog}: interrupted{rerun}", file=sys.stderr)
        _end_at_once()
    except Exception as error:
        if not (is_of_store(error) or isinstance(error, ImageSearchError | OSError)):
            raise
        print(f"{arguments.prog}: {error}", file=sys.stderr)
        try:
            _write(options.json, {**getattr(error, "summary", {}), "error": str(error)})
        except OSError as unwritten:
            print(f"{arguments.prog}: {unwritten}", file=sys.stderr)
        sys.exit(1)
    sys.exit(0)


def _require_lasting(options: argparse.Namespace) -> None:
    """Raise BadArgumentError for a result in a submitted job's copy of the working directory."""
    copied = _OF_COPIES in PROJECT_ROOT.parts
    for name in ("db", "output", "page", "json") if copied else ():
        place = getattr(options, name, None)
        if place and Path(absolute(place)).is_relative_to(PROJECT_ROOT) and not exists(place):
            raise BadArgumentError(
                f"--{name} {place} would lie in the copy of the working directory that Ray makes "
                "for a job and deletes; name a URL such as s3://bucket/name, or the whole path of "
                "a directory that all nodes share"
            )


def _of_unknown(words: list[str]) -> str:
    """What is wrong with words that belong to no option."""
    if not os.path.lexists(words[0]):
        return f"unrecognized arguments: {' '.join(words)}"
    more = f" and {len(words) - 1:,} more" if len(words) > 1 else ""
    return (
        f"{words[0]}{more}: an option takes one name. Put quotes around a glob, which the shell "
        "writes out otherwise, or name the folder"
    )


def _end_at_once() -> NoReturn:
    """End with status 1, without taking the interpreter down.

    Threads of a Ray that was just starting can crash it then; and after an interrupt in `exec` of a
    text, as in the import of a dataclass, Python ends by SIGINT, whoever handled the exception.
    """
    atexit._run_exitfuncs()  # stops what Ray has started
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def _write(url: str | None, summary: object) -> None:
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
