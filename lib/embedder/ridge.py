"""The best linear embedder that needs no iteration: ridge regression, then WCCN.

Ridge: with Z the standardised descriptors and Y the centred caption embeddings, or what a prior
leaves of them, M = (ZᵀZ + λI)⁻¹ ZᵀY (Hoerl and Kennard, 1970). Leaving a fold F of images out
changes the predictions for it to Y_F - (I - H_FF)⁻¹(Y - HY)_F, H = Z(ZᵀZ + λI)⁻¹Zᵀ, without fitting
again (Allen's PRESS, 1974, for many at once): the images of a fold then judge the choices as unseen
ones would, captions of the fold among images of the fold. Leaving single images out would not do:
each image's rivals would have learnt its captions, and too strong a shrinkage would win.

WCCN, within-class covariance normalisation (Hatch, Kajarekar and Stolcke, Interspeech 2006):
captions of one image differ more in some directions of the text space than in others, and the noisy
ones should count less. With W the covariance of captions about their image's mean, the predictions
are multiplied by W^-γ, which leaves one matrix M·W^-γ. Before there are captions, W is that of the
words of a caption, taken as independent; both are mixed as captions come.

A prior is scaled before ridge learns what it leaves: what captions can teach is better learnt from
them. No single λ, γ and scale is right beyond noise: all are averaged, those that judge better
counting more.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

# λ per training image and value of the (standardised) descriptor, so one grid fits all backbones.
LAMBDAS = tuple(float(x) for x in np.logspace(-3, 0.5, 8))
# γ; 0 is ridge alone, 0.5 whitens.
GAMMAS = (0.0, 0.25, 0.375, 0.5, 0.625, 0.75, 1.0)
# Directions in which captions hardly differ are rounded up to this share of the largest variance.
VARIANCE_FLOOR = 0.05
# Captions whose covariance counts as much as that of independent words.
WORD_COVARIANCE_CAPTIONS = 100
MAX_JUDGES = 1000  # images that judge a choice, and thrice as many captions
FOLDS, ROUNDS = 5, 2  # the judging images are dealt into folds this many times
# Difference of nDCG at which a choice counts 1/e as much as another: what chance makes of it.
INDIFFERENCE = 0.006


@dataclass(frozen=True)
class Moments:
    """ZᵀZ (D, D) and ZᵀY (D, d), float64, and the number of images they sum over.

    Sums over parts of the images add up to those of all, so workers can share the work.
    """

    inner: torch.Tensor
    cross: torch.Tensor
    count: int


def moments(inputs: torch.Tensor, targets: torch.Tensor, chunk: int = 8192) -> Moments:
    """Moments of centred inputs (N, D) and targets (N, d), summed up in float64."""
    size, dimension = inputs.shape[1], targets.shape[1]
    inner = torch.zeros(size, size, dtype=torch.float64, device=inputs.device)
    cross = torch.zeros(size, dimension, dtype=torch.float64, device=inputs.device)
    for start in range(0, len(inputs), chunk):
        part = inputs[start : start + chunk]
        inner += part.T @ part
        cross += part.T @ targets[start : start + chunk]
    return Moments(inner, cross, len(inputs))


class Basis(NamedTuple):
    """Eigenvalues (k,) and eigenvectors (D, k), float64, of the directions that images span."""

    values: torch.Tensor
    vectors: torch.Tensor

    @classmethod
    def of(cls, inner: torch.Tensor) -> "Basis":
        """Of ZᵀZ (D, D); directions that carry rounding only are left out."""
        values, vectors = torch.linalg.eigh(inner)
        spanned = values > values[-1] * 1e-9
        return cls(values[spanned], vectors[:, spanned])


class RidgePath:
    """The ridge solutions for every λ, from one eigendecomposition.

    basis: the one of these images, where it is known already.
    """

    def __init__(self, moments: Moments, basis: Basis | None = None) -> None:
        self.basis = basis or Basis.of(moments.inner)
        self._values, self._vectors = self.basis
        self._projected = self._vectors.T @ moments.cross
        self._count = moments.count
        self._penalty = moments.count * moments.inner.shape[0]

    def solve(self, ridge_lambda: float) -> torch.Tensor:
        """M, (D, d) float32, for λ = ridge_lambda · number of images · D."""
        return (self._vectors @ self._shrink(ridge_lambda)).float()

    def mix(
        self, prior: torch.Tensor, weights: Mapping[tuple[float | None, float], float]
    ) -> torch.Tensor:
        """M, (D, d) float32: the weighted sum of solutions, each over the spread of what it says.

        weights: of each λ and scale of the prior (D, d): the scaled prior, and ridge onto what it
        leaves; λ None is the prior alone. The path is onto the targets and what the prior says,
        side by side; ridge is linear in both. The spread is the root mean square of the values that
        a solution predicts for the images.
        """
        size = prior.shape[1]
        rotated = self._vectors.T @ prior.double()  # (k, d)
        learnt, share = torch.zeros_like(rotated), 0.0
        for (ridge_lambda, scale), weight in weights.items():
            own = torch.zeros_like(rotated)
            if ridge_lambda is None:
                scale = 1.0
            else:
                shrunk = self._shrink(ridge_lambda)  # (k, d) or, with a prior, (k, 2d)
                own = shrunk[:, :size] - (scale * shrunk[:, size:] if scale else 0)
            predicted = own + scale * rotated
            total = float((self._values[:, None] * predicted.square()).sum())
            weight /= max(math.sqrt(total / (self._count * size)), 1e-12)  # over the spread
            learnt += weight * own
            share += weight * scale
        return (self._vectors @ learnt).float() + share * prior

    def _shrink(self, ridge_lambda: float) -> torch.Tensor:
        return self._projected / (self._values + ridge_lambda * self._penalty)[:, None]

    def left_out(
        self,
        inputs: torch.Tensor,
        targets: torch.Tensor,
        lambdas: Sequence[float],
        folds: Sequence[torch.Tensor],
    ) -> Iterator[list[torch.Tensor]]:
        """For each λ, predictions (len(fold), d) float32 of each fold's images as if none had been
        trained on.

        inputs (n, D) and targets (n, d) of training images; folds: rows of these.
        """
        rotated = inputs.double() @ self._vectors  # (n, k)
        for ridge_lambda in lambdas:
            inverse = 1 / (self._values + ridge_lambda * self._penalty)
            predicted = rotated @ (inverse[:, None] * self._projected)
            results = []
            for fold in folds:
                part, own = rotated[fold], targets[fold].double()
                rest = torch.eye(len(fold), dtype=part.dtype, device=part.device)
                rest -= (part * inverse) @ part.T
                results.append((own - torch.linalg.solve(rest, own - predicted[fold])).float())
            yield results


def whitening_powers(covariance: torch.Tensor) -> dict[float, torch.Tensor]:
    """W^-γ, (d, d) float32, of a covariance W for every γ of GAMMAS; W's largest variance is 1."""
    values, vectors = torch.linalg.eigh(covariance.double())
    values = (values / values[-1].clamp(min=1e-12)).clamp(min=VARIANCE_FLOOR)
    return {gamma: ((vectors * values**-gamma) @ vectors.T).float() for gamma in GAMMAS}


def mix_covariances(captions: torch.Tensor, count: int, words: torch.Tensor | None) -> torch.Tensor:
    """W of `count` captions, helped by that of words where they are few; (d, d) each."""
    if words is None or not words.any():
        return captions
    share = count / (count + WORD_COVARIANCE_CAPTIONS)
    if not captions.any():
        return words
    return share * captions / captions.trace() + (1 - share) * words / words.trace()


@dataclass(frozen=True)
class Choice:
    """A ridge λ, a WCCN power and a prior's scale, and how well unseen images rank."""

    ridge_lambda: float | None  # None: the prior alone
    gamma: float
    prior_scale: float
    gain: float  # see lib.embedder.metrics.gains


def judging_folds(count: int, seed: int = 0) -> list[torch.Tensor]:
    """FOLDS parts of `count` images, dealt ROUNDS times; fewer parts where images are few."""
    rng = np.random.default_rng(seed)
    parts = max(2, min(FOLDS, count // 2))
    return [
        torch.from_numpy(np.sort(fold))
        for _ in range(ROUNDS)
        for fold in np.array_split(rng.permutation(count), parts)
    ]


def judge_choices(
    path: RidgePath,
    whitenings: dict[float, torch.Tensor],
    inputs: torch.Tensor,
    targets: torch.Tensor,
    texts: torch.Tensor,
    image: torch.Tensor,
    said: torch.Tensor | None = None,
    scales: Sequence[float] = (0.0,),
) -> list[Choice]:
    """Every λ, γ and scale, judged by ranking a fold's captions among its left-out images.

    inputs (n, D) and targets (n, d) of training images, as in `path`; texts (c, d) the embeddings
    of their captions, image (c,) the row of each caption's image. said (n, d): what a prior says of
    the images, which is then a choice alone, too; targets and path hold it beside the targets (see
    `RidgePath.mix`). At most MAX_JUDGES images judge.
    """
    count = min(len(inputs), MAX_JUDGES)
    captions = torch.nonzero(image < count).flatten()
    captions = captions[:: max(1, -(-len(captions) // (3 * MAX_JUDGES)))]
    texts, rows = texts[captions], image[captions]
    folds = [fold.to(image.device) for fold in judging_folds(count)]
    kept = [torch.isin(rows, fold) for fold in folds]
    powers = torch.stack([*whitenings.values()])
    size = texts.shape[1]
    choices = []

    def judge(ridge_lambda: float | None, scale: float, predicted: list[torch.Tensor]) -> None:
        gains = [
            _gains(texts[own], torch.searchsorted(fold, rows[own]), part @ powers)
            for fold, own, part in zip(folds, kept, predicted, strict=True)
        ]
        means = torch.cat(gains, dim=1).mean(dim=1).tolist()
        for gamma, gain in zip(whitenings, means, strict=True):
            choices.append(Choice(ridge_lambda, gamma, scale, gain))

    every = path.left_out(inputs[:count], targets[:count], LAMBDAS, folds)
    for ridge_lambda, left_out in zip(LAMBDAS, every, strict=True):
        for scale in scales:
            predicted = [
                part if said is None else part[:, :size] + scale * (said[fold] - part[:, size:])
                for fold, part in zip(folds, left_out, strict=True)
            ]
            judge(ridge_lambda, scale, predicted)
    if said is not None:
        judge(None, 1.0, [said[fold] for fold in folds])
    return choices


def _gains(texts: torch.Tensor, rows: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """(K, c) gains of captions (see lib.embedder.metrics) among images (K, n, d) of K kinds."""
    scores = texts @ torch.nn.functional.normalize(images, dim=2).transpose(1, 2)
    good = scores.gather(2, rows.expand(len(images), -1)[:, :, None])
    ties = (scores == good).sum(dim=2) - 1
    return 1 / torch.log2(2 + (scores > good).sum(dim=2) + ties / 2)


def weigh(gains: Sequence[float]) -> np.ndarray:
    """How much each of several choices counts, by its gain; (len(gains),) float64, sum 1."""
    weights = np.exp((np.array(gains) - max(gains)) / INDIFFERENCE)
    return weights / weights.sum()
