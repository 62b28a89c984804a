"""Fitting M and b: the closed form, then epochs of margin ranking, kept only where they help."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypedDict

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

from lib.embedder.closed_form import Judged, judge
from lib.embedder.collectives import least_over_workers, sum_over_workers, world
from lib.embedder.dataset import (
    Examples,
    Share,
    TrainingData,
    load_share,
    own_images,
    read_into_memory,
)
from lib.embedder.layer import EmbedderLayer
from lib.embedder.losses import in_batch_loss
from lib.embedder.metrics import (
    TRIPLES_PER_CAPTION,
    caption_ranks,
    gains,
    rank_figures,
    triple_accuracy_fixed,
)
from lib.embedder.triples import MARGIN, uniform_triples
from lib.errors import BadArgumentError

# Share of the descriptor's values dropped at random while ranking (Srivastava et al., JMLR 2014).
# A batch drops the same values of all its images: one draw a value instead of one a value and
# image, which would take longer than the matrix products, and ranks unseen images as well.
DROPOUT = 0.3
# Ranking must beat the closed form on validation images by this many standard errors, and have as
# many validation images at least: fewer tell nothing, and take the time all the same.
SURE = 2.0
MIN_VALIDATION_IMAGES = 100
MAX_VALIDATION_IMAGES = 5000


@dataclass(frozen=True)
class FitSettings:
    """What one may set; everything else is chosen on training and validation images."""

    margin: float = MARGIN
    epochs: int = 30
    batch_size: int = 512  # images over all workers, each with one caption
    learning_rate: float = 0.01  # of Adam, relative to the weights' root mean square
    patience: int = 10  # epochs without improvement before training stops
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise BadArgumentError for what no training can go by."""
        for name, least in (("margin", 0), ("epochs", 0), ("patience", 1), ("batch_size", 1)):
            value = getattr(self, name)
            if not least <= value < math.inf:
                option = f"--{name.replace('_', '-')}"
                raise BadArgumentError(f"{option} must be {least} or more, not {value}")


class FitState(TypedDict, total=False):
    """What a run has come to after an epoch: tensors and plain values, which torch.save takes."""

    M: torch.Tensor  # (descriptor_size, d), the best yet
    b: torch.Tensor  # (d,)
    whitening: torch.Tensor  # (d, d), which M was multiplied by last
    chosen: dict[str, Any]
    history: list[dict[str, Any]]  # metrics of each epoch; epoch 0 is the closed form
    gains: list[torch.Tensor]  # of each validation image, an epoch each
    step: float  # of Adam, at its largest
    best_epoch: int
    quality: list[float]  # of that epoch, on validation images
    model: dict[str, torch.Tensor]
    optimizer: dict[str, Any]


def begin(
    data: TrainingData, settings: FitSettings, device: torch.device, judged: Judged | None = None
) -> FitState:
    """The state before the first epoch of ranking: the closed form.

    judged: of all training images, where that is known already.
    """
    data = read_once(data)
    share = load_share(data.training, data.read, data.standardisation, device)
    return _begin(share, data, ValidationJudge(data, share), settings, judged)


def _begin(
    share: Share,
    data: TrainingData,
    validate: "ValidationJudge",
    settings: FitSettings,
    judged: Judged | None,
) -> FitState:
    closed = (judged or judge(share, data)).solve()
    model = _layer_for(share)
    closed.put_into(model)
    state: FitState = {
        "history": [],
        "gains": [],
        "chosen": closed.chosen(),
        "whitening": closed.whitening.cpu(),
        "step": _step(model, settings),
        "model": model.state_dict(),
    }
    validate(model, state, None)
    return state


def fit(
    data: TrainingData,
    settings: FitSettings,
    device: torch.device,
    state: FitState | None = None,
    after_epoch: Callable[[FitState], None] = lambda state: None,
) -> FitState:
    """Fit an embedder; every worker of a torch.distributed group calls this alike.

    `after_epoch` gets the state after each epoch; given back as `state`, it goes on from there.
    """
    data = read_once(data)
    share = load_share(data.training, data.read, data.standardisation, device)
    validate = ValidationJudge(data, share)
    if state is None:
        state = _begin(share, data, validate, settings, None)
        after_epoch(state)
    if tries_ranking(data.validation, settings):
        model = _layer_for(share)
        model.load_state_dict(state["model"])
        optimizer = _adam(model)
        if "optimizer" in state:
            optimizer.load_state_dict(state["optimizer"])
        dense = _over_workers(model)
        while validate.wants_more(state, settings):
            epoch = len(state["history"])
            optimizer.param_groups[0]["lr"] = state["step"] * _schedule(epoch, settings)
            loss = run_epoch(dense, optimizer, share, settings, epoch)
            validate(model, state, loss)
            state |= {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            after_epoch(state)
    return finish(state, data, settings, share, device)


def tries_ranking(validation: Examples, settings: FitSettings) -> bool:
    """Whether epochs of ranking may follow the closed form."""
    return settings.epochs > 0 and len(validation.images) >= MIN_VALIDATION_IMAGES


def read_once(data: TrainingData) -> TrainingData:
    """The same with the descriptors that this worker needs in memory, from one pass over files."""
    rows = [own_images(data.training), data.validation.images[:MAX_VALIDATION_IMAGES]]
    if data.rejoin:
        rows.append(own_images(data.training + data.validation))
    return replace(data, read=read_into_memory(data.read, np.unique(np.concatenate(rows))))


def _adam(model: EmbedderLayer) -> torch.optim.Optimizer:
    """Its rate is set before each epoch. The first one imports PyTorch's compiler, for seconds."""
    return torch.optim.Adam(model.parameters(), lr=1.0, fused=True)


def _layer_for(share: Share) -> EmbedderLayer:
    size, dimension = share.inputs.shape[1], share.texts.shape[1]
    return EmbedderLayer(size, dimension).to(share.inputs.device)


def _step(model: EmbedderLayer, settings: FitSettings) -> float:
    return settings.learning_rate * float(model.dense.weight.detach().square().mean().sqrt())


def _schedule(epoch: int, settings: FitSettings) -> float:
    """Half a cosine from the full step to none (Loshchilov and Hutter, 2017)."""
    return (1 + math.cos(math.pi * (epoch - 1) / settings.epochs)) / 2


def _over_workers(model: EmbedderLayer) -> torch.nn.Module:
    return DistributedDataParallel(model.dense) if world()[1] > 1 else model.dense


def run_epoch(
    dense: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    share: Share,
    settings: FitSettings,
    epoch: int,
) -> float:
    """Show every image once with one of its captions; returns the mean loss.

    In a batch every other image serves as the bad image of a caption, and every other caption as
    the bad caption of an image.
    """
    rank, size = world()
    device = share.inputs.device
    seed = settings.seed * 1_000_003 + epoch * 1009
    generator = torch.Generator().manual_seed(seed + rank)
    dropping = torch.Generator().manual_seed(seed)
    least = least_over_workers(len(share.inputs), device)
    steps = max(1, round(least * size / settings.batch_size))
    order = torch.randperm(len(share.inputs), generator=generator)
    counts = torch.bincount(share.image, minlength=len(order)).cpu()
    picked = (torch.rand(len(order), generator=generator) * counts).long()
    captions = (counts.cumsum(0) - counts + picked)[order]
    batch = least // steps
    inputs = torch.empty(batch, share.inputs.shape[1], device=device)
    kept = (
        torch.bernoulli(torch.full((steps, inputs.shape[1]), 1 - DROPOUT), generator=dropping)
        .div_(1 - DROPOUT)
        .to(device)
    )
    total = torch.zeros((), device=device)
    for step, (images, texts) in enumerate(
        zip(order.to(device).split(batch)[:steps], captions.to(device).split(batch), strict=False)
    ):
        torch.index_select(share.inputs, 0, images, out=inputs).mul_(kept[step])
        loss = in_batch_loss(dense(inputs), share.texts.index_select(0, texts), settings.margin)
        optimizer.zero_grad()
        # DDP takes the mean over the workers, of what is a sum.
        (loss * size).backward()
        optimizer.step()
        total += loss.detach()
    return float(sum_over_workers(total)) / steps


class ValidationJudge:
    """Ranks the validation captions among the validation images after each epoch, from two on."""

    def __init__(self, data: TrainingData, share: Share) -> None:
        images = data.validation.images[:MAX_VALIDATION_IMAGES]
        kept = np.flatnonzero(np.isin(data.validation.rows, images))
        self._texts = data.validation.texts[kept]
        self._rows = np.searchsorted(images, data.validation.rows[kept])
        self._share = share
        self._inputs = torch.empty(0)
        self._negatives = np.empty((0, 0), np.int64)
        if len(images) > 1:
            rng = np.random.default_rng(0)
            triples = uniform_triples(self._rows, len(images), TRIPLES_PER_CAPTION, rng)
            self._negatives = triples.bad.reshape(len(self._rows), -1)
            inputs = torch.from_numpy(data.read(images)).to(share.inputs.device)
            self._inputs = inputs.sub_(share.mean).mul_(share.scale)

    def __call__(self, model: EmbedderLayer, state: FitState, loss: float | None) -> None:
        """Add an epoch's metrics to the state."""
        metrics: dict[str, Any] = {
            "epoch": len(state["history"]),
            "loss": loss,
            "time": time.time(),
        }
        gain, quality = np.zeros(1), [0.0, 0.0]
        if len(self._inputs):
            with torch.no_grad():
                embeddings = model(self._inputs).cpu().numpy()
            ranks = caption_ranks(self._texts, embeddings, self._rows)
            gain = np.bincount(self._rows, gains(ranks)) / np.bincount(self._rows)
            figures = rank_figures(ranks)
            metrics |= {f"validation_{name}": value for name, value in figures.items()}
            metrics["validation_ndcg"] = float(gain.mean())
            # Small validation parts often tie in recall@10; nDCG, which is finer, decides then.
            quality = [metrics["validation_recall@10"], metrics["validation_ndcg"]]
            metrics["validation_triple_accuracy"] = triple_accuracy_fixed(
                self._texts, embeddings, self._rows, self._negatives
            )
        state["gains"].append(torch.from_numpy(gain))
        if not state["history"] or quality > state["quality"]:
            state["quality"], state["best_epoch"] = quality, metrics["epoch"]
        if not state["history"]:
            state["M"], state["b"] = unstandardise(model, self._share)
        state["history"].append(metrics)

    def wants_more(self, state: FitState, settings: FitSettings) -> bool:
        """Whether another epoch may still find something better."""
        epoch = len(state["history"])
        stale = epoch - 1 - state["best_epoch"] >= settings.patience
        return epoch <= settings.epochs and not stale


def finish(
    state: FitState,
    data: TrainingData,
    settings: FitSettings,
    share: Share,
    device: torch.device,
) -> FitState:
    """Decide between ranking and closed form, and fit what won on everything."""
    gain, error = gain_of_ranking(torch.stack(state["gains"]).numpy())
    ranked = state["best_epoch"] > 0 and gain > SURE * error
    epochs = state["best_epoch"] if ranked else 0
    state["chosen"] |= {
        "method": "ranking" if ranked else "closed form",
        "epoch": epochs,
        "validation_gain": gain,
        "validation_gain_standard_error": error,
    }
    again = data.rejoin and len(data.validation.rows)
    if not again and not ranked:
        return state
    if again:
        everything = data.training + data.validation
        share = load_share(everything, data.read, data.standardisation, device)
    model = _layer_for(share)
    closed = judge(share, data).solve()
    closed.put_into(model)
    if epochs:
        _rank_again(model, share, settings, epochs)
    state["chosen"] |= closed.chosen()
    state["whitening"] = closed.whitening.cpu()
    state["M"], state["b"] = unstandardise(model, share)
    return state


def _rank_again(model: EmbedderLayer, share: Share, settings: FitSettings, epochs: int) -> None:
    optimizer = _adam(model)
    dense, step = _over_workers(model), _step(model, settings)
    for epoch in range(1, epochs + 1):
        optimizer.param_groups[0]["lr"] = step * _schedule(epoch, settings)
        run_epoch(dense, optimizer, share, settings, epoch)


def gain_of_ranking(gains_of_epochs: np.ndarray) -> tuple[float, float]:
    """Mean gain over the closed form and its standard error, without the bias of choosing.

    gains_of_epochs: (epochs + 1, V), row 0 the closed form's, of V validation images. Half of the
    images choose the epoch by which the other half are judged, and the other way round: the best of
    many epochs on the images that chose it would gain by luck alone.
    """
    better = gains_of_epochs - gains_of_epochs[0]
    halves = [np.arange(better.shape[1]) % 2 == half for half in (0, 1)]
    judged = np.zeros(better.shape[1])
    for half in halves:
        if half.any() and not half.all():
            judged[half] = better[better[:, ~half].mean(axis=1).argmax()][half]
    error = judged.std(ddof=1) / np.sqrt(len(judged)) if len(judged) > 1 else 0.0
    return float(judged.mean()), float(error)


def unstandardise(model: EmbedderLayer, share: Share) -> tuple[torch.Tensor, torch.Tensor]:
    """M and b for descriptors as they are stored."""
    matrix = model.dense.weight.detach().T * share.scale[:, None]
    return matrix.cpu(), (model.dense.bias.detach() - share.mean @ matrix).cpu()
