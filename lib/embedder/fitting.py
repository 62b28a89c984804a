"""Fitting M and b: the closed form, then epochs of margin ranking, kept only where they help."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

from lib.embedder.collectives import least_over_workers, sum_over_workers, world
from lib.embedder.dataset import Examples, ReadDescriptors, Share, load_share
from lib.embedder.losses import MARGIN, in_batch_loss
from lib.embedder.metrics import (
    TRIPLES_PER_CAPTION,
    caption_ranks,
    gains,
    recall,
    triple_accuracy_fixed,
)
from lib.embedder.model import Embedder
from lib.embedder.ridge import (
    Choice,
    Moments,
    RidgePath,
    judge_choices,
    moments,
    normalising_powers,
)
from lib.embedder.triples import uniform_triples

# Share of the descriptor's values dropped at random while ranking (Srivastava et al., JMLR 2014).
# A batch drops the same values of all its images: one draw a value instead of one a value and
# image, which would take longer than the matrix products, and ranks unseen images as well.
DROPOUT = 0.3
# Ranking must beat the closed form on validation images by this many standard errors.
SURE = 2.0
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


@dataclass(frozen=True)
class TrainingData:
    """Training and validation captions, and whether the latter may join the final fit."""

    training: Examples
    validation: Examples
    read: ReadDescriptors
    # Where the job itself held the validation images out, a closed form that wins is fitted once
    # more on all images: it was judged by leaving one out and needs no validation.
    rejoin: bool = False


FitState = dict[str, Any]


def fit(
    data: TrainingData,
    settings: FitSettings,
    device: torch.device,
    state: FitState | None = None,
    after_epoch: Callable[[FitState], None] = lambda state: None,
) -> FitState:
    """Fit an embedder; every worker of a torch.distributed group calls this alike.

    `after_epoch` gets the state after each epoch (tensors and plain values: torch.save takes it);
    given back as `state`, it goes on from there. The final state holds "M" (descriptor_size, d),
    "b" (d,), "chosen" and "history", one dict of metrics an epoch (epoch 0: the closed form).
    """
    share = load_share(data.training, data.read, device)
    judge = ValidationJudge(data, share)
    model = Embedder(share.inputs.shape[1], share.texts.shape[1]).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1.0, fused=True)
    if state is None:
        chosen = start(model, share)
        state = {
            "history": [],
            "chosen": {"strength": chosen.strength, "power": chosen.power},
            "step": settings.learning_rate
            * float(model.dense.weight.detach().square().mean().sqrt()),
        }
        judge(model, state, None)
        after_epoch(state | weights(model, optimizer))
    else:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    dense = DistributedDataParallel(model.dense) if world()[1] > 1 else model.dense
    while judge.wants_more(state, settings):
        epoch = len(state["history"])
        # Half a cosine from the full step to none (Loshchilov and Hutter, 2017).
        part = (epoch - 1) / settings.epochs
        optimizer.param_groups[0]["lr"] = state["step"] * (1 + math.cos(math.pi * part)) / 2
        loss = run_epoch(dense, optimizer, share, settings, epoch)
        judge(model, state, loss)
        after_epoch(state | weights(model, optimizer))
    return finish(state, data, share, device)


def start(model: Embedder, share: Share) -> Choice:
    """Set the model to the closed-form solution that ranks left-out training images best."""
    device = share.inputs.device
    means = share.caption_means()
    targets = torch.nn.functional.normalize(means, dim=1)
    count = int(sum_over_workers(torch.tensor(len(targets), device=device)))
    targets = targets - sum_over_workers(targets.sum(dim=0)) / count
    local = moments(share.inputs, targets)
    path = RidgePath(Moments(sum_over_workers(local.inner), sum_over_workers(local.cross), count))
    noise = (share.texts - means[share.image]).double()
    whiteners = normalising_powers(sum_over_workers(noise.T @ noise) / count)
    choices = judge_choices(path, whiteners, share.inputs, targets, share.texts, share.image)
    gained = sum_over_workers(torch.tensor([choice.gain for choice in choices], device=device))
    best = choices[int(gained.argmax())]
    with torch.no_grad():
        model.dense.weight.copy_((path.solve(best.strength) @ whiteners[best.power]).T)
        model.dense.bias.zero_()
    return best


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
    """Ranks the validation captions among the validation images after each epoch.

    With fewer than two validation images nothing is judged and the closed form stays.
    """

    def __init__(self, data: TrainingData, share: Share) -> None:
        images = data.validation.images[:MAX_VALIDATION_IMAGES]
        kept = np.flatnonzero(np.isin(data.validation.rows, images))
        self._texts = data.validation.texts[kept]
        self._rows = np.searchsorted(images, data.validation.rows[kept])
        self._share = share
        self._inputs = torch.empty(0)
        self._bad = np.empty((0, 0), np.int64)
        if len(images) > 1:
            rng = np.random.default_rng(0)
            triples = uniform_triples(self._rows, len(images), TRIPLES_PER_CAPTION, rng)
            self._bad = triples.bad.reshape(len(self._rows), -1)
            inputs = torch.from_numpy(data.read(images)).to(share.inputs.device)
            self._inputs = inputs.sub_(share.mean).mul_(share.scale)

    def __call__(self, model: Embedder, state: FitState, loss: float | None) -> None:
        """Add an epoch's metrics to the state, and keep its weights where they are the best yet."""
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
            metrics |= {f"validation_recall@{k}": recall(ranks, k) for k in (1, 5, 10)}
            metrics["validation_median_rank"] = float(np.median(ranks))
            metrics["validation_ndcg"] = float(gain.mean())
            # Small validation parts often tie in recall@10; nDCG, which is finer, decides then.
            quality = [metrics["validation_recall@10"], metrics["validation_ndcg"]]
            metrics["validation_triple_accuracy"] = triple_accuracy_fixed(
                self._texts, embeddings, self._rows, self._bad
            )
        if not state["history"] or quality > state["quality"]:
            state["quality"] = quality
            matrix = model.dense.weight.detach().T * self._share.scale[:, None]
            state["M"] = matrix.cpu()
            state["b"] = (model.dense.bias.detach() - self._share.mean @ matrix).cpu()
            state["gain"], state["best_epoch"] = torch.from_numpy(gain), metrics["epoch"]
        if not state["history"]:
            state["closed_form"] = {name: state[name] for name in ("M", "b", "gain")}
        state["history"].append(metrics)

    def wants_more(self, state: FitState, settings: FitSettings) -> bool:
        """Whether another epoch may still find something better."""
        epoch = len(state["history"])
        stale = epoch - 1 - state["best_epoch"] >= settings.patience
        return bool(len(self._inputs)) and epoch <= settings.epochs and not stale


def finish(state: FitState, data: TrainingData, share: Share, device: torch.device) -> FitState:
    """Decide between ranking and closed form by the validation images."""
    better = (state["gain"] - state["closed_form"]["gain"]).numpy()
    error = better.std(ddof=1) / np.sqrt(len(better)) if len(better) > 1 else 0.0
    ranked = state["best_epoch"] > 0 and better.mean() > SURE * error
    state["chosen"] |= {
        "method": "ranking" if ranked else "closed form",
        "epoch": state["best_epoch"] if ranked else 0,
        "validation_gain": float(better.mean()),
        "validation_gain_standard_error": float(error),
    }
    if ranked:
        return state
    state |= state["closed_form"]
    if data.rejoin and len(data.validation.rows):
        share = load_share(data.training + data.validation, data.read, device)
        model = Embedder(share.inputs.shape[1], share.texts.shape[1]).to(device)
        chosen = start(model, share)
        state["chosen"] |= {"strength": chosen.strength, "power": chosen.power}
        matrix = model.dense.weight.detach().T * share.scale[:, None]
        state |= {"M": matrix.cpu(), "b": (-share.mean @ matrix).cpu()}
    return state


def weights(model: Embedder, optimizer: torch.optim.Optimizer) -> FitState:
    """What the next epoch needs of model and optimizer."""
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
