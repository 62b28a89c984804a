"""Plots of training and of evaluation, as PNG bytes."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure


def training_plot(history: Sequence[Mapping[str, Any]]) -> bytes:
    """Loss, triple accuracy and validation recall over the epochs; epoch 0 is the closed form."""
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    panels = {
        "margin ranking loss": ["loss"],
        "triple accuracy": ["validation_triple_accuracy"],
        "validation recall": [f"validation_recall@{k}" for k in (1, 5, 10)],
    }
    for axes, (title, names) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        for name in names:
            points = [(row["epoch"], row[name]) for row in history if row.get(name) is not None]
            if points:
                label = name.removeprefix("validation_")
                axes.plot(*zip(*points, strict=True), marker=".", label=label)
                axes.legend(frameon=False)
        axes.set(title=title, xlabel="epoch")
        axes.grid(alpha=0.3)
    return _png(figure)


def recall_plot(ranks: Mapping[str, np.ndarray], chance: Mapping[str, np.ndarray]) -> bytes:
    """Recall against k for each direction, with chance as a dotted line.

    ranks: (Q,) ranks of each direction; chance: (candidates,), see metrics.chance_recall.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, values in ranks.items():
        ks = np.unique(np.geomspace(1, len(chance[name]), 200).round().astype(int))
        shares = np.searchsorted(np.sort(values), ks, side="right") / len(values)
        (line,) = axes.plot(ks, shares, label=name.replace("_", " "))
        axes.plot(ks, chance[name][ks - 1], ":", color=line.get_color(), alpha=0.6)
    axes.set(xscale="log", xlabel="k", ylabel="recall@k", ylim=(0, 1.02))
    axes.set_title("share of queries whose right answer is among the first k (dotted: chance)")
    axes.title.set_fontsize(9)
    axes.legend(frameon=False)
    axes.grid(alpha=0.3, which="both")
    return _png(figure)


def _png(figure: Figure) -> bytes:
    sink = io.BytesIO()
    figure.savefig(sink, format="png", dpi=120)
    return sink.getvalue()
