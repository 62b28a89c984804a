"""What measures speed and quality: `python -m benchmarks.NAME --help`."""

import argparse
import json
from pathlib import Path


def parser(description: str) -> argparse.ArgumentParser:
    """Parser of a benchmark, with --json."""
    arguments = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--json", metavar="FILE", help="write the figures, too")
    return arguments


def write_json(file: str | None, figures: object) -> None:
    """Write figures to a file, where one is named."""
    if file:
        Path(file).write_text(json.dumps(figures, indent=1) + "\n")
