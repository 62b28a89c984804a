"""The epochs of a training: printed as they end, as CSV, as a plot and for TensorBoard."""

import io
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from lib.storage import delete, join, read_bytes, write_bytes_atomic


def metrics_csv(history: Sequence[Mapping[str, Any]]) -> bytes:
    """One line of metrics an epoch."""
    return pd.DataFrame(list(history)).to_csv(index=False).encode()


@contextmanager
def following(metrics_url: str, epochs: int) -> Iterator[None]:
    """Print each epoch that the workers add to the metrics file, for as long as they train."""
    done = threading.Event()
    started = time.monotonic()
    # What an earlier run left must not be taken for this one's.
    write_bytes_atomic(metrics_url, b"epoch\n")

    def follow() -> None:
        shown, ended = 0, False
        while not ended:
            ended = done.wait(1)
            rows = pd.read_csv(io.BytesIO(read_bytes(metrics_url))).to_dict("records")
            for row in rows[shown:]:
                print(_epoch_line(row, epochs, time.monotonic() - started), flush=True)
            shown = max(shown, len(rows))

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _epoch_line(row: dict[Any, Any], epochs: int, seconds: float) -> str:
    head = "closed form" if row["epoch"] == 0 else f"epoch {row['epoch']} of at most {epochs}"
    parts = [f"loss {row['loss']:.5f}"] if row["epoch"] else []
    if "validation_recall@10" in row:
        parts.append(f"validation recall@1 {row['validation_recall@1']:.3f}")
        parts.append(f"recall@10 {row['validation_recall@10']:.3f}")
        parts.append(f"median rank {row['validation_median_rank']:g}")
    return f"{head}: {', '.join(parts) or 'no validation images'} ({seconds:.0f} s)"


def write_curves(db: str, history: Sequence[Mapping[str, Any]]) -> None:
    """The metrics of epochs as a plot and for TensorBoard; an earlier run's go in any case."""
    plot = join(db, "embedder", "training.png")
    # One fixed name: a new run replaces the old curve.
    events = join(db, "embedder", "tensorboard", "events.out.tfevents.training")
    if len(history) > 1:
        from lib.embedder.plots import training_plot  # matplotlib: a second to import

        write_bytes_atomic(plot, training_plot(history))
        write_bytes_atomic(events, tensorboard_events(history))
    else:  # one point is no curve
        delete(plot)
        delete(events)


def tensorboard_events(history: Sequence[Mapping[str, Any]]) -> bytes:
    """The metrics as one file: `tensorboard --logdir DB/embedder/tensorboard`."""
    from tensorboardX import SummaryWriter

    with tempfile.TemporaryDirectory() as directory:
        with SummaryWriter(directory) as writer:
            for row in history:
                for name, value in row.items():
                    if name not in ("epoch", "time") and value is not None:
                        writer.add_scalar(name, value, row["epoch"], row["time"])
        (events,) = Path(directory).iterdir()
        return events.read_bytes()
