"""Training the embedder of a database on Ray Train; `lib.embedder.fitting` holds what is fitted."""

import dataclasses
import hashlib
import io
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from lib.cluster import connect
from lib.datasets.captions import Captions
from lib.descriptors.store import DescriptorIndex, index_descriptors, read_descriptors
from lib.embedder.closed_form import MIN_JUDGES, Judged, judge
from lib.embedder.dataset import (
    ReadDescriptors,
    TrainingData,
    fit_text_side,
    load_share,
    match_captions,
    nothing,
    read_into_memory,
    word_covariance,
)
from lib.embedder.fitting import FitSettings, FitState, begin, fit, tries_ranking
from lib.embedder.model import Embedder
from lib.embedder.prior import (
    Lesson,
    Prior,
    Standardisation,
    prior_of_classes,
    prior_of_embedder,
    teach_classes,
)
from lib.embedder.ridge import whitening_powers
from lib.embedder.seen import captions_digest, keep_training_images
from lib.embedder.space import load_semantic_space, save_semantic_space
from lib.errors import BadArgumentError, BadInputError, ImageSearchError, MissingError
from lib.nodes import require_workers
from lib.storage import (
    absolute,
    delete,
    filesystem,
    join,
    read_bytes,
    sweep_temporary,
    write_bytes_atomic,
)
from lib.text.caption_words import caption_words
from lib.text.encoder import TextEncoder
from lib.text.word_vectors import word_vectors_digest

if TYPE_CHECKING:  # gensim brings scipy.stats along, a second that not every process needs
    from gensim.models import KeyedVectors

# Powers of the IDF to choose from; the first is taken where there is nothing to choose by.
POWERS = (0.25, 0.5, 1.0)
PRIOR_GAMMA = 0.5  # of the covariance of words, where there are no captions
MAX_SAMPLE = 20_000  # images that standardise descriptors and teach class names
MAX_POWER_JUDGES = 1500
CPU = torch.device("cpu")


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
            if workers == 1:  # more of them share the closed form's work, too
                first = begin(data, settings, CPU, prepared.judged)
                write_bytes_atomic(metrics, metrics_csv(first["history"]))
            if first and not tries_ranking(data.validation, settings):
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
    assert data.standardisation is not None
    assert data.word_covariance is not None
    whitening = whitening_powers(torch.from_numpy(data.word_covariance))[PRIOR_GAMMA]
    matrix = torch.from_numpy(data.prior) @ whitening
    mean = torch.from_numpy(data.standardisation[0])
    chosen = {"method": "prior alone", "epoch": 0, "gamma": PRIOR_GAMMA}
    return {
        "M": matrix,
        "b": -mean @ matrix,
        "whitening": whitening,
        "chosen": chosen,
        "history": [],
    }


@dataclass(frozen=True)
class Prepared:
    """The text side, fitted, and the captions matched with the database's descriptors."""

    index: DescriptorIndex
    text: TextEncoder
    data: TrainingData
    prior: str  # its source, or why there is none
    judged: Judged | None = None  # the closed form for `data`, where that chose the IDF's power


def prepare(
    db: str,
    training: Captions | None,
    validation: Captions | None,
    vectors: "KeyedVectors",
    rejoin: bool,
    start: str | None = None,
    weights: str | None = None,
) -> Prepared:
    """Fit the text side and the prior, and match captions with images; see `train`.

    The power of the IDF is the one of POWERS with which left-out images rank best in closed form.
    """
    index = index_descriptors(db)
    sample = sample_collection(index)
    if start:
        space = load_semantic_space(start, vectors)
        space.require_fits(index.provenance, start)
        taught: Taught = (space.text, prior_of_embedder(space, start))
        return prepare_from(sample, training, validation, vectors, rejoin, taught)
    try:
        lesson = teach_classes(index, sample.rows, sample.descriptors, weights)
    except MissingError as error:
        if training is None:
            raise MissingError(
                f"{db} can only be trained with --captions FILE, or from an embedder made "
                f"elsewhere (--start DB_OR_FILE): {error}"
            ) from error
        prepared = prepare_from(sample, training, validation, vectors, rejoin, None)
        return replace(prepared, prior=f"none ({error})")
    return prepare_from(sample, training, validation, vectors, rejoin, lesson)


@dataclass(frozen=True)
class Sample:
    """A collection, and the descriptors of MAX_SAMPLE images of it at most, evenly spread."""

    index: DescriptorIndex
    rows: np.ndarray  # (S,) int64
    descriptors: np.ndarray  # (S, D) float32
    standardisation: Standardisation
    read: ReadDescriptors


def sample_collection(index: DescriptorIndex) -> Sample:
    """Read the sample."""
    count = len(index)
    rows = np.unique(np.linspace(0, count - 1, min(count, MAX_SAMPLE)).astype(np.int64))
    descriptors = read_descriptors(index.files, rows)
    return Sample(
        index,
        rows,
        descriptors,
        Standardisation.of(descriptors),
        partial(read_descriptors, index.files),
    )


# What is known before captions: classes, or another embedder with its text side.
Taught = Lesson | tuple[TextEncoder, Prior] | None


def prepare_from(
    sample: Sample,
    training: Captions | None,
    validation: Captions | None,
    vectors: "KeyedVectors",
    rejoin: bool,
    taught: Taught,
    powers: Sequence[float] = POWERS,
) -> Prepared:
    """`prepare` for a collection in memory. With another embedder its text side is taken over."""
    captions = [part for part in (training, validation if rejoin else None) if part]
    texts = [text for part in captions for text in part.texts]

    parts = [part and (part, part.match(sample.index.images())) for part in (training, validation)]

    def prepared(power: float) -> Prepared:
        prior = None
        if isinstance(taught, tuple):
            text, prior = taught
        else:
            text = fit_text_side(texts, vectors, power, caption_words())
        if isinstance(taught, Lesson):
            prior = prior_of_classes(
                taught, sample.descriptors, sample.standardisation, text, caption_words()
            )
        matched, unseen = (
            match_captions(part[0], sample.index, text, part[1])
            if part
            else nothing(text.dimension)
            for part in parts
        )
        data = TrainingData(
            matched,
            unseen,
            sample.read,
            rejoin,
            prior.matrix if prior else None,
            (sample.standardisation.mean, sample.standardisation.scale),
            word_covariance(text),
        )
        return Prepared(sample.index, text, data, prior.source if prior else "")

    first = prepared(powers[0])
    if training is None:
        return first
    _require_usable(first.data, training)
    if isinstance(taught, tuple) or len(first.data.training.images) < MIN_JUDGES:
        return first
    candidates = (first, *map(prepared, powers[1:]))
    images = first.data.training.images
    judges = images[:: max(1, -(-len(images) // MAX_POWER_JUDGES))]
    judged = _judge_on([candidate.data for candidate in candidates], judges)
    best = int(np.argmax([closed.best.gain for closed in judged]))
    of_all = len(judges) == len(images)
    return replace(candidates[best], judged=judged[best] if of_all else None)


def _judge_on(candidates: Sequence[TrainingData], images: np.ndarray) -> list[Judged]:
    """The closed form of candidates that differ in their texts alone, on some of their images."""
    read = read_into_memory(candidates[0].read, images)
    judged: list[Judged] = []
    for data in candidates:
        part = data.training.of_images(images)
        share = load_share(part, read, CPU, data.standardisation)
        basis = judged[0].path.basis if judged else None
        judged.append(judge(share, replace(data, training=part), basis))
    return judged


def _require_usable(data: TrainingData, captions: Captions) -> None:
    training = data.training
    if not len(training.rows):
        raise BadInputError(
            f"no captions for any image: none of the {len(captions)} training captions of "
            f"{captions.source or 'the captions'} names an image that has a descriptor"
        )
    if len(training.images) < 2:
        raise BadInputError(
            "training needs captions of two images or more; there is one. Without --captions the "
            "network's class names do alone"
        )
    if np.ptp(training.texts, axis=0).max() < 1e-6:
        raise BadInputError(
            f"all {len(training.rows)} captions of {captions.source or 'the captions'} say the "
            "same: nothing can be learnt from them. Train without --captions, by class names"
        )
    shared = np.intersect1d(training.rows, data.validation.rows).size
    if shared:
        raise BadInputError(
            f"training and validation captions share {shared} images; give files of different ones"
        )


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
