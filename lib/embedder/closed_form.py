"""The embedder in closed form: ridge onto captions and a prior, whitened, its choices averaged."""

from dataclasses import dataclass, replace
from typing import Any

import torch

from lib.embedder.collectives import sum_over_workers, world
from lib.embedder.dataset import Share, TrainingData
from lib.embedder.layer import EmbedderLayer
from lib.embedder.ridge import (
    Basis,
    Choice,
    Moments,
    RidgePath,
    judge_choices,
    mix_covariances,
    moments,
    weigh,
    whitening_powers,
)

# Of the prior, relative to the scale that fits the captions best by itself: what captions teach is
# better learnt from them, in the directions in which there is enough of it.
PRIOR_SCALES = (0.0, 0.5, 0.75, 1.0)
# With fewer captioned images nothing can be judged: a prior then stays as it is.
MIN_JUDGES = 10


@dataclass(frozen=True)
class ClosedForm:
    """M of standardised descriptors, whitened; and what was chosen by images left out."""

    matrix: torch.Tensor  # (D, d) float32
    whitening: torch.Tensor  # (d, d)
    best: Choice

    def put_into(self, model: EmbedderLayer) -> None:
        """Set a model to it."""
        with torch.no_grad():
            model.dense.weight.copy_(self.matrix.T)
            model.dense.bias.zero_()

    def chosen(self) -> dict[str, Any]:
        """For the record."""
        return {
            "ridge_lambda": self.best.ridge_lambda,
            "gamma": self.best.gamma,
            "left_out_ndcg": self.best.gain,
            "prior_scale": self.best.prior_scale,
        }


@dataclass(frozen=True)
class Judged:
    """Every choice of the closed form, judged by images left out, and what it is solved from."""

    path: RidgePath
    prior: torch.Tensor  # (D, d) for standardised descriptors; 0 without one
    whitenings: dict[float, torch.Tensor]  # (d, d) for every γ
    choices: list[Choice]

    @property
    def best(self) -> Choice:
        """The one with which left-out images rank best."""
        return max(self.choices, key=lambda choice: choice.gain)

    def solve(self) -> ClosedForm:
        """The mean of the solutions, those that judge better counting more."""
        whitening = torch.zeros_like(self.whitenings[0.0])
        solutions: dict[tuple[float | None, float], float] = {}
        weights = weigh([choice.gain for choice in self.choices])
        for choice, weight in zip(self.choices, weights.tolist(), strict=True):
            kind = choice.ridge_lambda, choice.prior_scale
            solutions[kind] = solutions.get(kind, 0.0) + weight
            power = self.whitenings[choice.gamma]
            whitening += weight * power / power.square().mean().sqrt()
        matrix = self.path.mix(self.prior, solutions)
        return ClosedForm(matrix @ whitening, whitening, self.best)


def judge(share: Share, data: TrainingData, basis: Basis | None = None) -> Judged:
    """Judge every choice; every worker of a torch.distributed group calls this alike.

    basis: the one of an earlier call for the same images, whatever the captions were.
    """
    device = share.inputs.device
    means = share.caption_means()
    targets = torch.nn.functional.normalize(means, dim=1)
    count = int(sum_over_workers(torch.tensor(len(targets), device=device)))
    targets = targets - sum_over_workers(targets.sum(dim=0)) / count
    prior = torch.zeros(share.inputs.shape[1], targets.shape[1], device=device)
    if data.prior is not None:
        prior = torch.from_numpy(data.prior).to(device)
        prior = torch.where(share.scale[:, None] > 0, prior / share.scale[:, None], 0)
    said = share.inputs @ prior
    products = sum_over_workers(torch.stack([(said * targets).sum(), said.square().sum()]))
    scale = max(0.0, float(products[0] / products[1])) if float(products[1]) > 0 else 0.0
    if scale > 0:
        centred = said - sum_over_workers(said.sum(dim=0)) / count
        targets = torch.cat([targets, centred], dim=1)
    local = moments(share.inputs, targets)
    summed = Moments(sum_over_workers(local.inner), sum_over_workers(local.cross), count)
    path = RidgePath(summed, basis)
    noise = (share.texts - means[share.image]).double()
    covariance = sum_over_workers(noise.T @ noise)
    captions = int(sum_over_workers(torch.tensor(len(noise), device=device)))
    words = None if data.word_covariance is None else torch.from_numpy(data.word_covariance)
    whitenings = whitening_powers(
        mix_covariances(covariance, captions, None if words is None else words.to(device))
    )
    choices = judge_choices(
        path,
        whitenings,
        share.inputs,
        targets,
        share.texts,
        share.image,
        said if scale > 0 else None,
        [scale * part for part in PRIOR_SCALES] if scale > 0 else (0.0,),
    )
    gains = sum_over_workers(torch.tensor([choice.gain for choice in choices], device=device))
    gains /= world()[1]
    if scale > 0 and count < MIN_JUDGES:
        alone = [(c.ridge_lambda is None) and c.gamma == 0.5 for c in choices]
        gains = torch.tensor(alone, device=device).float()
    judged = [
        replace(choice, gain=gain) for choice, gain in zip(choices, gains.tolist(), strict=True)
    ]
    return Judged(path, prior, whitenings, judged)
