"""Inputs that coverage leads to: whatever they hold, an answer or an error of the project.

`python -m tests.harness.fuzz TARGET DIR [--seconds S]`, on Linux. DIR keeps the inputs that reached
something new, and those that broke something. No input may take more than ten seconds, or a
gigabyte beyond what the imports take.
"""

import argparse
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["lib", "csv", "json", "zipfile", "tarfile"]):
    from tests.harness.fuzz_targets import TARGETS, read_input

_SECONDS = 10
_MEGABYTES = 2_000  # with the imports, which take half of that


def main() -> None:
    """Fuzz one target for a while; libFuzzer ends the process, with 0 where nothing broke."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("target", choices=TARGETS)
    arguments.add_argument("directory", type=Path)
    arguments.add_argument("--seconds", type=int, default=60)
    options = arguments.parse_args()
    corpus = options.directory / options.target
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(TARGETS[options.target][1]):
        (corpus / f"seed-{number}").write_bytes(seed)
    work = options.directory / f"{options.target}-work"
    work.mkdir(exist_ok=True)

    def try_input(content: bytes) -> None:
        read_input(options.target, content, work)

    limits = [f"-max_total_time={options.seconds}", f"-timeout={_SECONDS}"]
    limits += [f"-rss_limit_mb={_MEGABYTES}", f"-artifact_prefix={options.directory}/broke-"]
    atheris.Setup([sys.argv[0], *limits, str(corpus)], try_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
