"""The best linear embedder that needs no iteration: ridge regression, then WCCN.

Ridge: with Z and Y centred descriptors and caption embeddings, M = (ZᵀZ + λI)⁻¹ ZᵀY (Hoerl and
Kennard, 1970). Leaving image i out changes its own prediction to (p_i - h_i·y_i) / (1 - h_i), h_i
its leverage in a regression with intercept, without fitting again (Allen's PRESS, 1974): every
training image judges the choices as an unseen one would.

WCCN, within-class covariance normalisation (Hatch, Kajarekar and Stolcke, Interspeech 2006):
captions of one image differ more in some directions of the text space than in others, and the noisy
ones should count less. With W the covariance of captions about their image's mean, the predictions
are multiplied by W^-γ, which leaves one matrix M·W^-γ.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lib.embedder.metrics import caption_ranks, ndcg

# λ per training image. Descriptors are standardised, so one grid fits all backbones.
STRENGTHS = tuple(float(x) for x in np.logspace(-3.5, 2, 12))
# γ; 0 is ridge alone, 0.5 whitens.
POWERS = (0.0, 0.25, 0.375, 0.5, 0.625, 0.75, 1.0)
# Directions in which captions hardly differ are rounded up to this share of the largest variance.
VARIANCE_FLOOR = 0.05
MAX_JUDGES = 5000  # images, and captions, that judge a choice: as in COCO's larger protocol


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


class RidgePath:
    """The ridge solutions for every strength, from one eigendecomposition."""

    def __init__(self, moments: Moments) -> None:
        values, vectors = torch.linalg.eigh(moments.inner)
        # Directions that the images do not span carry rounding only.
        spanned = values > values[-1] * 1e-9
        self._values = values[spanned]
        self._vectors = vectors[:, spanned]
        self._projected = self._vectors.T @ moments.cross
        self._count = moments.count

    def solve(self, strength: float) -> torch.Tensor:
        """M, (D, d) float32, for λ = strength · number of images."""
        shrunk = self._projected / (self._values + strength * self._count)[:, None]
        return (self._vectors @ shrunk).float()

    def left_out(
        self, inputs: torch.Tensor, targets: torch.Tensor, strengths: Sequence[float]
    ) -> list[torch.Tensor]:
        """Predictions (N, d) float32 for training images, each as if it had not been trained on."""
        rotated = inputs.double() @ self._vectors
        found = []
        for strength in strengths:
            inverse = 1 / (self._values + strength * self._count)
            predicted = rotated @ (inverse[:, None] * self._projected)
            # 1/n is the intercept's part: centring has seen image i, too.
            leverage = (rotated.square() @ inverse + 1 / self._count)[:, None].clamp(max=1 - 1e-6)
            found.append(((predicted - leverage * targets) / (1 - leverage)).float())
        return found


def normalising_powers(covariance: torch.Tensor) -> dict[float, torch.Tensor]:
    """W^-γ, (d, d) float32, of a within-class covariance W for every γ of POWERS."""
    values, vectors = torch.linalg.eigh(covariance.double())
    values = values.clamp(min=VARIANCE_FLOOR * float(values[-1])).clamp(min=1e-12)
    return {power: ((vectors * values**-power) @ vectors.T).float() for power in POWERS}


@dataclass(frozen=True)
class Choice:
    """A ridge strength and a WCCN power, and how well left-out images are ranked with them."""

    strength: float
    power: float
    gain: float  # see lib.embedder.metrics.ndcg


def judge_choices(
    path: RidgePath,
    whiteners: dict[float, torch.Tensor],
    inputs: torch.Tensor,
    targets: torch.Tensor,
    texts: torch.Tensor,
    image: torch.Tensor,
) -> list[Choice]:
    """Every pair of strength and power, judged by ranking captions among left-out images.

    inputs (n, D) and targets (n, d) of training images, texts (c, d) the embeddings of their
    captions, image (c,) the row of each caption's image. At most MAX_JUDGES of each are used.
    """
    captions = torch.nonzero(image < MAX_JUDGES).flatten()
    captions = captions[:: max(1, len(captions) // MAX_JUDGES)]
    judging, rows = texts[captions].cpu().numpy(), image[captions].cpu().numpy()
    left_out = path.left_out(inputs[:MAX_JUDGES], targets[:MAX_JUDGES], STRENGTHS)
    choices = []
    for strength, predicted in zip(STRENGTHS, left_out, strict=True):
        for power, whitener in whiteners.items():
            embeddings = torch.nn.functional.normalize(predicted @ whitener, dim=1).cpu().numpy()
            gain = ndcg(caption_ranks(judging, embeddings, rows))
            choices.append(Choice(strength, power, gain))
    return choices
