"""Ridge regression of caption embeddings on descriptors, its strength chosen by leaving one out.

With Z and Y centred inputs and targets, M = (ZᵀZ + λI)⁻¹ ZᵀY (Hoerl and Kennard, 1970). Leaving
image i out changes its own prediction to (p_i - h_i·y_i) / (1 - h_i), h_i its leverage in a
regression with intercept, without fitting again (Allen's PRESS, 1974): every training image judges
λ as an unseen one would.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

# λ per training image; the inputs are standardised, so one grid fits all backbones.
STRENGTHS = tuple(float(x) for x in np.logspace(-3.5, 2, 12))


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
        self._values = values[spanned].clamp(min=0)
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
