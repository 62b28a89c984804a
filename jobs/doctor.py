"""Find what usually goes wrong before a long run: devices, storage, weights, versions, uploads."""

import argparse
from collections.abc import Mapping
from typing import Any

from jobs import command
from lib.errors import ImageSearchError


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this job."""
    arguments = command.parser(
        "Find what usually goes wrong: a GPU that PyTorch does not see, storage that nodes do not\n"
        "share, a working directory too large to upload, missing weights or word vectors, and\n"
        "versions that differ between this process and the workers.",
        "python -m jobs.doctor --db s3://bucket/db --backbone auto",
        "--backbone --weights",
    )
    arguments.add_argument(
        "--db",
        metavar="DB",
        help="database that all nodes must reach; its backbone is checked unless one is named",
    )
    arguments.set_defaults(backbone=None)
    return arguments


def examine(options: argparse.Namespace) -> Mapping[str, Any]:
    """Run every check and print its finding; raises ImageSearchError where one found an error."""
    from lib.cluster import connect
    from lib.doctor import diagnose

    findings = []
    with connect():
        for finding in diagnose(options.db, options.backbone, options.weights):
            print(f"{finding.level:8}{finding.check}: {finding.message}", flush=True)
            if finding.remedy:
                print(f"        → {finding.remedy}")
            findings.append(finding)
    errors = sum(finding.level == "error" for finding in findings)
    if errors:
        message = f"{errors} of {len(findings)} checks found an error"
        raise ImageSearchError(message, {"findings": findings})
    return {"findings": findings}


main = command.main(build_parser, examine, goes_on=False)

if __name__ == "__main__":
    main()
