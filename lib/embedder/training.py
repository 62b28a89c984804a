"""Training the embedder of a database on Ray Train; `lib.embedder.fitting` holds what is fitted."""

import dataclasses
import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lib.cluster import connect
from lib.datasets.captions import Captions
from lib.embedder.dataset import TrainingData
from lib.embedder.fitting import FitSettings, FitState, begin, fit, tries_ranking
from lib.embedder.model import Embedder
from lib.embedder.preparation import CPU, MAX_SAMPLE, prepare
from lib.embedder.ridge import whitening_powers
from lib.embedder.seen import captions_digest, keep_training_images
from lib.embedder.space import save_semantic_space
from lib.embedder.training_log import following, metrics_csv, write_curves
from lib.errors import BadArgumentError, ImageSearchError
from lib.nodes import require_workers
from lib.storage import absolute, filesystem, join, sweep_temporary, write_bytes_atomic
from lib.text.word_vectors import word_vectors_digest

if TYPE_CHECKING:  # gensim brings scipy.stats along, a second that not every process needs
    from gensim.models import KeyedVectors

PRIOR_GAMMA = 0.5  # of the covariance of words, where there are no captions


@dataclass(frozen=True)
class TrainingReport:
    """What a training run did; `history` holds one dict of metrics an epoch."""

    digest: str
    metadata: dict[str, Any]
    history: list[dict[str, Any]]


def train(
    db: str,
    training: Captions | None,
    validation: Captions | None,
    vectors: "KeyedVectors",
    word_vectors_source: str,
    settings: FitSettings,
    rejoin: bool,
    workers: int = 1,
    start: str | None = None,
    weights: str | None = None,
) -> TrainingReport:
    """Train the embedder of a database and write `DB/embedder/embedder.npz`.

    training: None where there are no captions; class names, or the embedder `start`, then decide
    alone. Ray is started or joined only where ranking is tried, or for several workers: it takes
    longer than the closed form. rejoin: the validation images were held out from the training file,
    so they may serve the text side and the final fit. start: a database, file or URL whose embedder
    is the prior in place of class names. weights: the backbone's file, which its class names may
    need. A run with the same data and settings that was cut short goes on from its last epoch.
    Raises BadArgumentError for fewer than one worker, BadInputError where no caption meets an
    image, MissingError where there is neither a caption nor a prior.
    """
    if workers < 1:
        raise BadArgumentError(f"--workers must be 1 or more, not {workers}")
    db = absolute(db)
    sweep_temporary(join(db, "embedder"))
    if training is not None:
        count = len(training) + (len(validation) if validation else 0)
        _say(f"matching {count:,} captions with images, and weighing words by images left out")
    prepared = prepare(db, training, validation, vectors, rejoin, start, weights)
    index, data = prepared.index, prepared.data
    metadata: dict[str, Any] = {
        "descriptors": dataclasses.asdict(index.provenance),
        "word_vectors": {
            "source": word_vectors_source,
            "digest": word_vectors_digest(vectors),
            "dimension": int(vectors.vector_size),
        },
        "captions": _caption_counts(training, validation, data)
        | {
            "images_in_database": len(index),
            "copies_of_training_images": prepared.copies,
            "digest": captions_digest(part for part in (training, validation) if part),
        },
        "settings": dataclasses.asdict(settings),
        "prior": prepared.prior,
    }
    if training is None:
        state = fit_prior(data)
    else:
        captions = [part for part in (training, validation) if part is not None]
        inputs = [line for part in captions for line in (*part.image_ids, *part.texts)]
        inputs += [metadata["word_vectors"]["digest"], prepared.prior]
        # What a run is known by again: never a computed number, whose last bits may differ.
        names = (
            hashlib.sha256("\n".join(ids.to_pylist()).encode()).hexdigest()
            for ids in index.image_ids.chunks  # one file's at a time
        )
        known_by = [*index.files, *names, *inputs, repr(settings), str(rejoin)]
        metrics = join(db, "embedder", "metrics.csv")
        with following(metrics, settings.epochs):
            first = None
            ranks = tries_ranking(data.validation, settings)
            # Several workers share this, too; one may have more memory than there is here.
            if workers == 1 and not (ranks and len(data.training.images) > MAX_SAMPLE):
                first = begin(data, settings, CPU, prepared.judged)
                write_bytes_atomic(metrics, metrics_csv(first["history"]))
            if first and not ranks:
                state = fit(data, settings, CPU, first)
            else:
                _say(f"starting Ray Train for {workers} worker{'s' * (workers > 1)} to try ranking")
                with connect():
                    state = _fit_on_ray(db, data, known_by, settings, workers, metrics, first)
    metadata["chosen"] = state["chosen"] | {"idf_power": prepared.text.idf.power}
    embedder = Embedder(state["M"].numpy(), state["b"].numpy())
    prior = None
    if data.prior is not None:
        alone = fit_prior(data)
        prior = Embedder(alone["M"].numpy(), alone["b"].numpy())
    digest = save_semantic_space(
        db, prepared.text, embedder, metadata, state["whitening"].numpy(), prior
    )
    taught = data.training + data.validation if rejoin else data.training
    keep_training_images(db, digest, index.ids_of(taught.images))
    write_curves(db, state["history"])
    return TrainingReport(digest, metadata, state["history"])


def _say(what: str) -> None:
    """What is waited for, which may take half a minute."""
    print(what, file=sys.stderr, flush=True)


def _fit_on_ray(
    db: str,
    data: TrainingData,
    known_by: Sequence[str],
    settings: FitSettings,
    workers: int,
    metrics: str,
    first: FitState | None,
) -> FitState:
    runs = join(db, "embedder", "runs")
    run = hashlib.sha256("\n".join(known_by).encode("utf-8", "surrogatepass")).hexdigest()[:16]
    worker = partial(train_worker, data, settings, metrics, first)
    state = _run_workers(worker, runs, run, workers)
    fs, path = filesystem(runs)
    fs.rm(path, recursive=True)
    return state


def fit_prior(data: TrainingData) -> FitState:
    """The embedder before any caption: the prior, whitened by the covariance of words."""
    assert data.prior is not None
    assert data.word_covariance is not None
    whitening = whitening_powers(torch.from_numpy(data.word_covariance))[PRIOR_GAMMA]
    matrix = torch.from_numpy(data.prior) @ whitening
    mean = torch.from_numpy(data.standardisation.mean)
    chosen = {"method": "prior alone", "epoch": 0, "gamma": PRIOR_GAMMA}
    return {
        "M": matrix,
        "b": -mean @ matrix,
        "whitening": whitening,
        "chosen": chosen,
        "history": [],
    }


def _caption_counts(
    training: Captions | None, validation: Captions | None, data: TrainingData
) -> dict[str, Any]:
    both = data.training + data.validation
    return {
        "training": training.source if training else "",
        "validation": validation.source if validation else "",
        "training_captions": len(data.training.rows),
        "training_images": len(data.training.images),
        "validation_captions": len(data.validation.rows),
        "validation_images": len(data.validation.images),
        "captions_of_absent_images": both.absent,
        "captions_without_known_word": both.wordless,
        "repeated_captions": both.repeated,
        "images_with_captions": len(both.images),
    }


def _run_workers(worker: Callable[[], None], storage_url: str, name: str, workers: int) -> FitState:
    """Run a `train_worker` on Ray Train; returns the state of its last checkpoint."""
    import pyarrow.fs as pafs
    import ray
    from fsspec.implementations.local import LocalFileSystem
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    use_gpu = ray.cluster_resources().get("GPU", 0) >= workers
    require_workers(workers, 1, 1.0 if use_gpu else 0.0, "Ask for fewer --workers")
    # The controller looks for reports this often, and a worker waits for it after every epoch.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    fs, path = filesystem(storage_url)
    local = isinstance(fs, LocalFileSystem)
    trainer = TorchTrainer(
        worker,
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


def train_worker(
    data: TrainingData, settings: FitSettings, metrics_url: str, first: FitState | None
) -> None:
    """What each Ray Train worker runs: `fit`, with a checkpoint an epoch and one at the end.

    first: the closed form, where the driver has it.
    """
    import ray.train
    from ray.train.torch import get_device

    checkpoint = ray.train.get_checkpoint()
    state = _load_state(checkpoint) if checkpoint else first

    def report(state: FitState) -> None:
        metrics = state["history"][-1]
        if ray.train.get_context().get_world_rank() > 0:
            ray.train.report(metrics)
            return
        write_bytes_atomic(metrics_url, metrics_csv(state["history"]))
        with tempfile.TemporaryDirectory() as directory:
            torch.save(state, Path(directory) / "state.pt")
            ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(directory))

    # Where only the driver died, after the last epoch, nothing is left to fit.
    if state is None or "method" not in state["chosen"]:
        report(fit(data, settings, get_device(), state, after_epoch=report))


def _load_state(checkpoint: Any) -> FitState:
    with checkpoint.as_directory() as directory:
        return torch.load(Path(directory) / "state.pt", weights_only=True, map_location="cpu")
