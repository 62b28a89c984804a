"""Training the embedder of a database on Ray Train; `lib.embedder.fitting` holds what is fitted."""

import dataclasses
import hashlib
import io
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from gensim.models import KeyedVectors

from lib.cluster import require_workers
from lib.datasets.captions import Captions
from lib.descriptors.store import DescriptorIndex, index_descriptors, read_descriptors
from lib.embedder.dataset import Examples, fit_text_side, match_captions
from lib.embedder.fitting import FitSettings, FitState, TrainingData, fit
from lib.embedder.model import Embedder
from lib.embedder.plots import training_plot
from lib.embedder.space import save_semantic_space
from lib.errors import BadArgumentError, BadInputError, ImageSearchError
from lib.storage import absolute, filesystem, join, read_bytes, write_bytes_atomic
from lib.text.encoder import TextEncoder
from lib.text.word_vectors import word_vectors_digest

_ARRAYS = ("texts", "rows", "captions")  # of Examples, in the order of its fields


@dataclass(frozen=True)
class TrainingReport:
    """What a training run did; `history` holds one dict of metrics an epoch."""

    digest: str
    metadata: dict[str, Any]
    history: list[dict[str, Any]]


def train(
    db: str,
    training: Captions,
    validation: Captions,
    vectors: KeyedVectors,
    word_vectors_source: str,
    settings: FitSettings,
    rejoin: bool,
    workers: int = 1,
    use_gpu: bool = False,
) -> TrainingReport:
    """Train the embedder of a database and write `DB/embedder/embedder.npz`.

    Needs a running Ray. rejoin: the validation images were held out from the training file, so
    they may serve the text side and the final fit. A run with the same data and settings that was
    cut short goes on from its last epoch. Raises BadInputError where no caption meets an image.
    """
    db = absolute(db)
    prepared = prepare(db, training, validation, vectors, rejoin)
    index, text = prepared.index, prepared.text
    training_part, validation_part = prepared.training, prepared.validation
    content = _pack(training_part, validation_part, settings, rejoin)
    runs = join(db, "embedder", "runs")
    name = hashlib.sha256("\n".join([*index.files, *index.image_ids]).encode() + content)
    run = name.hexdigest()[:16]
    write_bytes_atomic(join(runs, f"{run}.npz"), content)
    metrics = join(db, "embedder", "metrics.csv")
    config = {"examples": join(runs, f"{run}.npz"), "files": index.files, "metrics": metrics}
    with following(metrics, settings.epochs):
        state = _run_workers(config, runs, run, workers, use_gpu)
    metadata = {
        "descriptors": dataclasses.asdict(index.provenance),
        "word_vectors": {
            "source": word_vectors_source,
            "digest": word_vectors_digest(vectors),
            "dimension": int(vectors.vector_size),
        },
        "captions": _caption_counts(training, validation, training_part, validation_part)
        | {"images_in_database": len(index.image_ids)},
        "settings": dataclasses.asdict(settings),
        "chosen": state["chosen"],
    }
    embedder = Embedder.from_arrays(state["M"].numpy(), state["b"].numpy())
    digest = save_semantic_space(db, text, embedder, metadata)
    write_bytes_atomic(join(db, "embedder", "training.png"), training_plot(state["history"]))
    write_tensorboard(join(db, "embedder", "tensorboard"), state["history"])
    fs, path = filesystem(runs)
    fs.rm(path, recursive=True)
    return TrainingReport(digest, metadata, state["history"])


@dataclass(frozen=True)
class Prepared:
    """The text side, fitted, and the captions matched with the database's descriptors."""

    index: DescriptorIndex
    text: TextEncoder
    training: Examples
    validation: Examples


def prepare(
    db: str, training: Captions, validation: Captions, vectors: KeyedVectors, rejoin: bool
) -> Prepared:
    """Fit the text side and match captions with images; see `train`."""
    index = index_descriptors(db)
    text = fit_text_side(training.texts + (validation.texts if rejoin else []), vectors)
    training_part = match_captions(training, index, text)
    validation_part = match_captions(validation, index, text)
    _require_usable(training_part, validation_part, training, db)
    return Prepared(index, text, training_part, validation_part)


def _require_usable(training: Examples, validation: Examples, captions: Captions, db: str) -> None:
    if not len(training.rows):
        raise BadInputError(
            f"no captions for any image: none of the {len(captions)} training captions of "
            f"{captions.source or 'the captions'} names an image of {db}/descriptors"
        )
    if len(training.images) < 2:
        raise BadInputError("training needs captions of two images or more; there is one")
    shared = np.intersect1d(training.rows, validation.rows).size
    if shared:
        raise BadInputError(
            f"training and validation captions share {shared} images; give files of different ones"
        )


def _caption_counts(
    training: Captions, validation: Captions, training_part: Examples, validation_part: Examples
) -> dict[str, Any]:
    both = training_part + validation_part
    return {
        "training": training.source,
        "validation": validation.source,
        "training_captions": len(training_part.rows),
        "training_images": len(training_part.images),
        "validation_captions": len(validation_part.rows),
        "validation_images": len(validation_part.images),
        "captions_of_absent_images": both.absent,
        "captions_without_known_word": both.wordless,
        "images_with_captions": len(both.images),
    }


def _pack(training: Examples, validation: Examples, settings: FitSettings, rejoin: bool) -> bytes:
    sink = io.BytesIO()
    np.savez(
        sink,
        allow_pickle=False,
        **{f"training_{name}": getattr(training, name) for name in _ARRAYS},
        **{f"validation_{name}": getattr(validation, name) for name in _ARRAYS},
        settings=np.array(json.dumps(dataclasses.asdict(settings))),
        rejoin=np.array(rejoin),
    )
    return sink.getvalue()


def unpack(content: bytes, files: list[str]) -> tuple[TrainingData, FitSettings]:
    """What `train` hands to its workers through the storage."""
    with np.load(io.BytesIO(content), allow_pickle=False) as packed:
        data = TrainingData(
            Examples(*(packed[f"training_{name}"] for name in _ARRAYS)),
            Examples(*(packed[f"validation_{name}"] for name in _ARRAYS)),
            lambda rows: read_descriptors(files, rows),
            bool(packed["rejoin"]),
        )
        return data, FitSettings(**json.loads(str(packed["settings"])))


def _run_workers(
    config: dict[str, Any], storage_url: str, name: str, workers: int, use_gpu: bool
) -> FitState:
    """Run `train_worker` on Ray Train; returns the state of its last checkpoint."""
    import pyarrow.fs as pafs
    from fsspec.implementations.local import LocalFileSystem
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    if workers < 1:
        raise BadArgumentError(f"--workers must be 1 or more, not {workers}")
    require_workers(workers, 1, 1.0 if use_gpu else 0.0, "Ask for fewer --workers")
    # The controller looks for reports this often, and a worker waits for it after every epoch.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    fs, path = filesystem(storage_url)
    local = isinstance(fs, LocalFileSystem)
    trainer = TorchTrainer(
        train_worker,
        train_loop_config=config,
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=use_gpu),
        run_config=RunConfig(
            name=name,
            storage_path=path,
            storage_filesystem=None if local else pafs.PyFileSystem(pafs.FSSpecHandler(fs)),
            failure_config=FailureConfig(max_failures=3),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
        ),
    )
    result = trainer.fit()
    if result.checkpoint is None:
        raise ImageSearchError(f"training ended without a result: {result.error}")
    return _load_state(result.checkpoint)


def train_worker(config: dict[str, Any]) -> None:
    """What each Ray Train worker runs: `fit`, with a checkpoint an epoch and one at the end."""
    import ray.train
    from ray.train.torch import get_device

    data, settings = unpack(read_bytes(config["examples"]), config["files"])
    checkpoint = ray.train.get_checkpoint()
    state = _load_state(checkpoint) if checkpoint else None

    def report(state: FitState) -> None:
        metrics = state["history"][-1]
        if ray.train.get_context().get_world_rank() > 0:
            ray.train.report(metrics)
            return
        write_bytes_atomic(config["metrics"], metrics_csv(state["history"]))
        with tempfile.TemporaryDirectory() as directory:
            torch.save(state, Path(directory) / "state.pt")
            ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(directory))

    # Where only the driver died, after the last epoch, nothing is left to fit.
    if state is None or "method" not in state["chosen"]:
        report(fit(data, settings, get_device(), state, after_epoch=report))


def _load_state(checkpoint: Any) -> FitState:
    with checkpoint.as_directory() as directory:
        return torch.load(Path(directory) / "state.pt", weights_only=True, map_location="cpu")


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


def write_tensorboard(url: str, history: Sequence[Mapping[str, Any]]) -> None:
    """The metrics as TensorBoard events: `tensorboard --logdir DB/embedder/tensorboard`."""
    from tensorboardX import SummaryWriter

    with tempfile.TemporaryDirectory() as directory:
        with SummaryWriter(directory) as writer:
            for row in history:
                for name, value in row.items():
                    if name not in ("epoch", "time") and value is not None:
                        writer.add_scalar(name, value, row["epoch"], row["time"])
        (events,) = Path(directory).iterdir()
        # One fixed name: a new run replaces the old curve.
        write_bytes_atomic(join(url, "events.out.tfevents.training"), events.read_bytes())
