"""Training the embedder of a database on Ray Train; `lib.fitting` holds what is fitted."""

import dataclasses
import hashlib
import io
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gensim.models import KeyedVectors

from lib.captions import Captions
from lib.descriptors import index_descriptors, read_descriptors
from lib.embedder import Embedder
from lib.errors import BadArgumentError, BadInputError, ImageSearchError
from lib.examples import Examples, fit_text_side, match_captions
from lib.fitting import Settings, State, TrainingData, fit
from lib.semantic_space import save_semantic_space
from lib.storage import filesystem, join, read_bytes, write_bytes_atomic
from lib.word_vectors import word_vectors_digest


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
    settings: Settings,
    rejoin: bool,
    workers: int = 1,
    use_gpu: bool = False,
) -> TrainingReport:
    """Train the embedder of a database and write `DB/embedder/embedder.npz`.

    Needs a running Ray. rejoin: the validation images were held out from the training file, so
    they may serve the text side and the final fit. A run with the same data and settings that was
    cut short goes on from its last epoch. Raises BadInputError where no caption meets an image.
    """
    index = index_descriptors(db)
    text = fit_text_side(training.texts + (validation.texts if rejoin else []), vectors)
    training_part = match_captions(training, index, text)
    validation_part = match_captions(validation, index, text)
    _require_usable(training_part, validation_part, training, db)
    content = _pack(training_part, validation_part, settings, rejoin)
    runs = join(db, "embedder", "runs")
    name = hashlib.sha256("\n".join([*index.files, *index.image_ids]).encode() + content)
    run = name.hexdigest()[:16]
    write_bytes_atomic(join(runs, f"{run}.npz"), content)
    config = {"examples": join(runs, f"{run}.npz"), "files": index.files}
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
    fs, path = filesystem(runs)
    fs.rm(path, recursive=True)
    return TrainingReport(digest, metadata, state["history"])


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


def _pack(training: Examples, validation: Examples, settings: Settings, rejoin: bool) -> bytes:
    sink = io.BytesIO()
    np.savez(
        sink,
        allow_pickle=False,
        texts=training.texts,
        rows=training.rows,
        validation_texts=validation.texts,
        validation_rows=validation.rows,
        settings=np.array(json.dumps(dataclasses.asdict(settings))),
        rejoin=np.array(rejoin),
    )
    return sink.getvalue()


def unpack(content: bytes, files: list[str]) -> tuple[TrainingData, Settings]:
    """What `train` hands to its workers through the storage."""
    with np.load(io.BytesIO(content), allow_pickle=False) as packed:
        data = TrainingData(
            Examples(packed["texts"], packed["rows"]),
            Examples(packed["validation_texts"], packed["validation_rows"]),
            lambda rows: read_descriptors(files, rows),
            bool(packed["rejoin"]),
        )
        return data, Settings(**json.loads(str(packed["settings"])))


def _run_workers(
    config: dict[str, Any], storage_url: str, name: str, workers: int, use_gpu: bool
) -> State:
    """Run `train_worker` on Ray Train; returns the state of its last checkpoint."""
    import pyarrow.fs as pafs
    from fsspec.implementations.local import LocalFileSystem
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    if workers < 1:
        raise BadArgumentError(f"--workers must be 1 or more, not {workers}")
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
    if state is None or "method" not in state["chosen"]:
        report(fit(data, settings, get_device(), state, after_epoch=report))


def report(state: State) -> None:
    """Hand the last epoch's metrics, and from the first worker the state, to Ray Train."""
    import ray.train

    metrics = state["history"][-1]
    if ray.train.get_context().get_world_rank() > 0:
        ray.train.report(metrics)
        return
    with tempfile.TemporaryDirectory() as directory:
        torch.save(state, Path(directory) / "state.pt")
        ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(directory))


def _load_state(checkpoint: Any) -> State:
    with checkpoint.as_directory() as directory:
        return torch.load(Path(directory) / "state.pt", weights_only=True, map_location="cpu")
