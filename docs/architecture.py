"""Draws docs/architecture.png from the code's own imports: `python -m docs.architecture`."""

import ast
import tomllib
from collections import Counter
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

ROOT = Path(__file__).parents[1]
WIDTH, BOX, GAP = 13.0, 1.15, 0.4  # of the picture and of a package's box, in inches


def layers() -> list[list[str]]:
    """The packages from the top down, as the import contract of pyproject.toml orders them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (names,) = [c["layers"] for c in contracts["contracts"] if c["type"] == "layers"]
    rows = [[name.strip() for name in layer.split("|")] for layer in names]
    # The modules of the root stand in one row: everything imports them.
    first = next(i for i, row in enumerate(rows) if "lib.tasks" in row)
    return [*rows[:first], [name for row in rows[first:] for name in row]]


def modules(package: str) -> list[Path]:
    """The source files of a package or module."""
    path = ROOT / package.replace(".", "/")
    return sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


def arrows(packages: list[str]) -> Counter[tuple[str, str]]:
    """How many import statements lead from one package to another."""
    counts: Counter[tuple[str, str]] = Counter()
    for package in packages:
        for module in modules(package):
            for node in ast.walk(ast.parse(module.read_text())):
                names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
                names += [a.name for a in node.names] if isinstance(node, ast.Import) else []
                for name in names:
                    for other in packages:
                        if other != package and (name == other or name.startswith(f"{other}.")):
                            counts[package, other] += 1
    return counts


def draw(target: Path) -> None:
    """One row a layer, one box a package with its modules, an arrow where one imports another."""
    rows = layers()
    figure = Figure(figsize=(WIDTH, len(rows) * (BOX + GAP)))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(-len(rows) * (BOX + GAP) + GAP - 0.1, 0.1))
    axes.axis("off")
    place: dict[str, tuple[float, float]] = {}
    for number, row in enumerate(rows):
        y, width = -number * (BOX + GAP), (WIDTH - 0.4 * (len(row) + 1)) / len(row)
        width = min(width, 11.0)
        left = (WIDTH - len(row) * width - 0.4 * (len(row) - 1)) / 2
        for column, package in enumerate(row):
            x = left + column * (width + 0.4)
            place[package] = (x + width / 2, y)
            outline = FancyBboxPatch(
                (x, y - BOX),
                width,
                BOX,
                zorder=2,
                boxstyle="round,pad=0.02",
                facecolor="#f4f6fa",
                edgecolor="#445566",
            )
            axes.add_patch(outline)
            files = modules(package)
            names = [f.stem for f in files if not f.stem.startswith("__")]
            lines = sum(len(f.read_text().splitlines()) for f in files)
            room = (ROOT / package.replace(".", "/")).is_dir()
            label = f"{package}   {lines:,} lines" if room else package
            axes.text(x + 0.12, y - 0.24, label, weight="bold", fontsize=9, zorder=3)
            text = _wrapped(names, int(width * 12)) if room else f"{lines:,} lines"
            axes.text(x + 0.12, y - 0.36, text, fontsize=8.5, va="top", zorder=3)
    counts = arrows([package for row in rows[:-1] for package in row])
    for (source, target_package), count in counts.items():
        (x0, y0), (x1, y1) = place[source], place[target_package]
        bend = 0.0 if abs(y0 - y1) < 1.5 * (BOX + GAP) else 0.3
        axes.add_patch(
            FancyArrowPatch(
                (x0, y0 - BOX),
                (x1, y1),
                connectionstyle=f"arc3,rad={bend}",
                arrowstyle="-|>",
                mutation_scale=10,
                linewidth=0.5 + 0.12 * count,
                color="#4567a0",
                alpha=0.6 if bend == 0 else 0.3,
                zorder=1 if bend == 0 else 4,
            )
        )
    figure.savefig(target, dpi=72)


def _wrapped(names: list[str], width: int) -> str:
    lines = [""]
    for name in names:
        if len(lines[-1]) + len(name) > width:
            lines.append("")
        lines[-1] += f"{name}  "
    return "\n".join(lines)


if __name__ == "__main__":
    draw(ROOT / "docs" / "architecture.png")
