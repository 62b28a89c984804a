"""Training the embedder with Ray Train: closed-form start, then ranking, best weights kept."""

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
import torch.distributed as dist
from gensim.models import KeyedVectors

from lib.captions import Captions
from lib.descriptors import DescriptorIndex, index_descriptors, read_descriptors
from lib.embedder import Embedder
from lib.errors import BadArgumentError, BadInputError, ImageSearchError
from lib.evaluation import evaluate_retrieval, ndcg, recall
from lib.ranking import MARGIN, in_batch_loss
from lib.ridge import STRENGTHS, Moments, RidgePath, moments
from lib.semantic_space import save_semantic_space
from lib.storage import filesystem, join, read_bytes, write_bytes_atomic
from lib.text import TextEncoder, fit_idf
from lib.word_vectors import word_vectors_digest

MAX_GALLERY = 5000  # images that judge a choice, as many as in COCO's larger protocol


@dataclass(frozen=True)
class TrainingSettings:
    """What one may choose; everything else is chosen on the training and validation images."""

    margin: float = MARGIN
    epochs: int = 30
    batch_size: int = 1024  # pairs of caption and image over all workers
    learning_rate: float = 1e-3
    patience: int = 5  # epochs without improvement before training stops
    seed: int = 0


@dataclass(frozen=True)
class Examples:
    """Captions of one part of the data, matched with rows of the descriptors."""

    text_embeddings: np.ndarray  # (C, d) float32 unit
    rows: np.ndarray  # (C,) int64
    absent: int = 0  # captions whose image has no descriptor
    wordless: int = 0  # captions of which no word is known


def match_captions(captions: Captions, index: DescriptorIndex, text: TextEncoder) -> Examples:
    """The captions whose image has a descriptor and whose words are known, embedded."""
    rows = captions.rows_among(index.image_ids, index.paths)
    present = np.flatnonzero(rows >= 0)
    embeddings = text.embed([captions.texts[i] for i in present])
    known = embeddings.any(axis=1)
    return Examples(
        embeddings[known], rows[present][known], len(rows) - len(present), int((~known).sum())
    )


def fit_text_side(captions: Captions, vectors: KeyedVectors) -> TextEncoder:
    """Text encoder whose IDF and common direction come from these captions alone."""
    idf = fit_idf(captions.texts)
    mean = TextEncoder(vectors, idf).embed(captions.texts).mean(axis=0)
    norm = np.linalg.norm(mean)
    return TextEncoder(vectors, idf, (mean / norm).astype(np.float32) if norm > 0 else None)


@dataclass(frozen=True)
class TrainingReport:
    """What a training run did; `history` holds one row of metrics an epoch."""

    digest: str
    metadata: dict[str, Any]
    history: list[dict[str, Any]]


def train(
    db: str,
    training: Captions,
    validation: Captions,
    vectors: KeyedVectors,
    word_vectors_source: str,
    settings: TrainingSettings,
    workers: int = 1,
    use_gpu: bool = False,
) -> TrainingReport:
    """Train the embedder of a database and write `DB/embedder/embedder.npz`.

    Needs a running Ray. A run with the same data and settings that was cut short goes on from its
    last epoch. Raises BadInputError where no caption meets an image.
    """
    index = index_descriptors(db)
    text = fit_text_side(training, vectors)
    train_part = match_captions(training, index, text)
    validation_part = match_captions(validation, index, text)
    _require_usable(train_part, validation_part, training, db)
    run_url = join(db, "embedder", "runs")
    sink = io.BytesIO()
    np.savez(
        sink,
        allow_pickle=False,
        texts=train_part.text_embeddings,
        rows=train_part.rows,
        validation_texts=validation_part.text_embeddings,
        validation_rows=validation_part.rows,
    )
    name = hashlib.sha256(
        json.dumps([dataclasses.asdict(settings), dataclasses.asdict(index.provenance)]).encode()
        + "\n".join(index.image_ids).encode()
        + sink.getbuffer()
    ).hexdigest()[:16]
    examples_url = join(run_url, f"{name}.npz")
    write_bytes_atomic(examples_url, sink.getbuffer())
    state, history = _run_workers(
        {
            "examples": examples_url,
            "files": index.files,
            "settings": dataclasses.asdict(settings),
        },
        run_url,
        name,
        workers,
        use_gpu,
    )
    embedder = Embedder.from_arrays(state["M"], state["b"])
    metadata = {
        "descriptors": dataclasses.asdict(index.provenance),
        "word_vectors": {
            "source": word_vectors_source,
            "digest": word_vectors_digest(vectors),
            "dimension": int(vectors.vector_size),
        },
        "captions": {
            "training": training.source,
            "validation": validation.source,
            "training_captions": len(train_part.rows),
            "training_images": len(np.unique(train_part.rows)),
            "validation_captions": len(validation_part.rows),
            "validation_images": len(np.unique(validation_part.rows)),
            "captions_of_absent_images": train_part.absent + validation_part.absent,
            "captions_without_known_word": train_part.wordless + validation_part.wordless,
            "images_without_captions": len(index.image_ids)
            - len(np.unique(np.concatenate([train_part.rows, validation_part.rows]))),
        },
        "settings": dataclasses.asdict(settings),
        "chosen": state["chosen"],
    }
    digest = save_semantic_space(db, text, embedder, metadata)
    _remove(run_url)
    return TrainingReport(digest, metadata, history)


def _require_usable(training: Examples, validation: Examples, captions: Captions, db: str) -> None:
    if not len(training.rows):
        raise BadInputError(
            f"no captions for any image: none of the {len(captions)} training captions of "
            f"{captions.source or 'the captions'} names an image in {db}/descriptors"
        )
    if len(np.unique(training.rows)) < 2:
        raise BadInputError("training needs captions of two images or more; there is one")
    if np.intersect1d(training.rows, validation.rows).size:
        raise BadInputError(
            "training and validation captions share images; give files of different images"
        )


def _remove(url: str) -> None:
    fs, path = filesystem(url)
    fs.rm(path, recursive=True)


def _run_workers(
    config: dict[str, Any], run_url: str, name: str, workers: int, use_gpu: bool
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run `train_worker` on Ray Train; returns the last checkpoint's result and all metrics."""
    import pyarrow.fs as pafs
    from fsspec.implementations.local import LocalFileSystem
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    if workers < 1:
        raise BadArgumentError(f"--workers must be 1 or more, not {workers}")
    fs, path = filesystem(run_url)
    storage = None if isinstance(fs, LocalFileSystem) else pafs.PyFileSystem(pafs.FSSpecHandler(fs))
    trainer = TorchTrainer(
        train_worker,
        train_loop_config=config,
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=use_gpu),
        run_config=RunConfig(
            name=name,
            storage_path=path,
            storage_filesystem=storage,
            failure_config=FailureConfig(max_failures=3),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
        ),
    )
    result = trainer.fit()
    if result.checkpoint is None:
        raise ImageSearchError(f"training ended without a result: {result.error}")
    with result.checkpoint.as_directory() as directory:
        state = torch.load(Path(directory) / "state.pt", weights_only=True)
    best = state["best"]
    return (
        {"M": best["M"].numpy(), "b": best["b"].numpy(), "chosen": state["chosen"]},
        state["history"],
    )


def train_worker(config: dict[str, Any]) -> None:
    """What each Ray Train worker runs: its share of the images, the closed form, then epochs."""
    import ray.train
    from ray.train.torch import get_device, prepare_model

    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    settings = TrainingSettings(**config["settings"])
    share = load_share(config["examples"], config["files"], rank, world, get_device())
    model = Embedder(share.inputs.shape[1], share.texts.shape[1]).to(share.inputs.device)
    trained = prepare_model(model, move_to_device=False)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    checkpoint = ray.train.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as directory:
            state = torch.load(Path(directory) / "state.pt", weights_only=True, map_location="cpu")
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    else:
        state = {"history": [], "chosen": start_from_ridge(model, share)}
        judge(model, share, state, epoch=0, loss=None)
        _report(state, model, optimizer, rank)
    for epoch in range(len(state["history"]), settings.epochs + 1):
        if epoch - state["best_epoch"] > settings.patience:
            break
        loss = run_epoch(trained, optimizer, share, settings, epoch, rank, world)
        judge(model, share, state, epoch, loss)
        _report(state, model, optimizer, rank)


@dataclass(frozen=True)
class Share:
    """One worker's part of the training images, standardised, and all validation images."""

    inputs: torch.Tensor  # (n, descriptor_size) float32: (descriptor - mean) * scale
    texts: torch.Tensor  # (c, d) float32 unit
    image: torch.Tensor  # (c,) int64, the row of `inputs` that each caption describes
    mean: torch.Tensor  # (descriptor_size,) over the training images of all workers
    scale: torch.Tensor  # (descriptor_size,) 1 / standard deviation; 0 where that is 0
    validation_inputs: torch.Tensor
    validation_texts: np.ndarray
    validation_image: np.ndarray

    def targets(self) -> torch.Tensor:
        """(n, d): each image's mean caption embedding at unit length, centred over all images."""
        sums = torch.zeros(len(self.inputs), self.texts.shape[1], device=self.texts.device)
        units = torch.nn.functional.normalize(sums.index_add_(0, self.image, self.texts), dim=1)
        count = sum_over_workers(torch.tensor(float(len(units)), device=units.device))
        return units - sum_over_workers(units.sum(dim=0)) / count


def load_share(
    examples_url: str, files: list[str], rank: int, world: int, device: torch.device
) -> Share:
    """Read worker `rank`'s images: every world-th of those that have captions."""
    with np.load(io.BytesIO(read_bytes(examples_url)), allow_pickle=False) as examples:
        texts, rows = examples["texts"], examples["rows"]
        validation_texts, validation_rows = (
            examples["validation_texts"],
            examples["validation_rows"],
        )
    mine = np.unique(rows)[rank::world]
    kept = np.isin(rows, mine)
    judged = np.unique(validation_rows)[:MAX_GALLERY]
    judging = np.isin(validation_rows, judged)
    inputs = torch.from_numpy(read_descriptors(files, mine)).to(device)
    mean, scale = _mean_and_scale(inputs)
    validation_inputs = torch.from_numpy(read_descriptors(files, judged)).to(device)
    return Share(
        inputs.sub_(mean).mul_(scale),
        torch.from_numpy(texts[kept]).to(device),
        torch.from_numpy(np.searchsorted(mine, rows[kept])).to(device),
        mean,
        scale,
        validation_inputs.sub_(mean).mul_(scale),
        validation_texts[judging],
        np.searchsorted(judged, validation_rows[judging]),
    )


def _mean_and_scale(inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    count = sum_over_workers(torch.tensor(float(len(inputs)), device=inputs.device))
    mean = sum_over_workers(inputs.sum(dim=0, dtype=torch.float64)) / count
    squares = sum((part - mean).square().sum(dim=0) for part in inputs.split(8192))
    deviation = (sum_over_workers(squares) / count).sqrt()
    scale = torch.where(deviation > 1e-12, 1 / deviation, 0.0)
    return mean.float(), scale.float()


def sum_over_workers(tensor: torch.Tensor) -> torch.Tensor:
    """The sum of a tensor over all workers of a run; the tensor itself where there is one."""
    if dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(tensor)
    return tensor


def start_from_ridge(model: Embedder, share: Share) -> dict[str, float]:
    """Set the model to the ridge solution whose strength ranks left-out images best."""
    targets = share.targets()
    local = moments(share.inputs, targets)
    path = RidgePath(
        Moments(
            sum_over_workers(local.inner),
            sum_over_workers(local.cross),
            int(sum_over_workers(torch.tensor(local.count, device=targets.device))),
        )
    )
    judged = share.image < MAX_GALLERY
    texts, image = share.texts[judged].cpu().numpy(), share.image[judged].cpu().numpy()
    gains = torch.tensor(
        [
            ndcg(evaluate_retrieval(texts, normalise(left_out), image).caption_to_image)
            for left_out in path.left_out(
                share.inputs[:MAX_GALLERY], targets[:MAX_GALLERY], STRENGTHS
            )
        ],
        device=targets.device,
    )
    best = int(sum_over_workers(gains).argmax())
    with torch.no_grad():
        model.dense.weight.copy_(path.solve(STRENGTHS[best]).T)
        model.dense.bias.zero_()
    return {"ridge_strength": STRENGTHS[best]}


def normalise(vectors: torch.Tensor) -> np.ndarray:
    """Rows at unit length, as numpy."""
    return torch.nn.functional.normalize(vectors, dim=1).cpu().numpy()


def run_epoch(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    share: Share,
    settings: TrainingSettings,
    epoch: int,
    rank: int,
    world: int,
) -> float:
    """Show every caption once, each batch's images serving as each other's bad ones."""
    generator = torch.Generator().manual_seed(hash((settings.seed, epoch, rank)) % 2**63)
    order = torch.randperm(len(share.texts), generator=generator).to(share.texts.device)
    steps = max(1, len(order) * world // settings.batch_size)
    total = 0.0
    for batch in order.tensor_split(steps):
        image = share.image[batch]
        scores = share.texts[batch] @ model(share.inputs[image]).T
        loss = in_batch_loss(scores, image[:, None] != image[None, :], settings.margin)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / steps


def judge(
    model: Embedder, share: Share, state: dict[str, Any], epoch: int, loss: float | None
) -> None:
    """Add an epoch's metrics to the state, and keep its weights where they are the best so far."""
    metrics: dict[str, Any] = {"epoch": epoch, "loss": loss}
    gain = 0.0
    if len(share.validation_texts):
        with torch.no_grad():
            images = model(share.validation_inputs).cpu().numpy()
        ranks = evaluate_retrieval(
            share.validation_texts, images, share.validation_image
        ).caption_to_image
        gain = ndcg(ranks)
        metrics |= {f"validation_recall@{k}": recall(ranks, k) for k in (1, 5, 10)}
        metrics |= {"validation_median_rank": float(np.median(ranks)), "validation_ndcg": gain}
    state["history"].append(metrics)
    if epoch == 0 or gain > state["best_gain"]:
        matrix = model.dense.weight.detach().T * share.scale[:, None]
        state["best"] = {
            "M": matrix.cpu(),
            "b": (model.dense.bias - share.mean @ matrix).detach().cpu(),
        }
        state["best_gain"], state["best_epoch"] = gain, epoch


def _report(
    state: dict[str, Any], model: Embedder, optimizer: torch.optim.Optimizer, rank: int
) -> None:
    import ray.train

    metrics = state["history"][-1]
    if rank:
        ray.train.report(metrics)
        return
    state["model"], state["optimizer"] = model.state_dict(), optimizer.state_dict()
    with tempfile.TemporaryDirectory() as directory:
        torch.save(state, Path(directory) / "state.pt")
        ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(directory))
