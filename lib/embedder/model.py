"""The embedder: one dense layer from an image's descriptor into the text space."""

import numpy as np
import torch
from torch import nn

from lib.text.encoder import unit_rows


class Embedder(nn.Module):
    """se_image(x) = normalise(x·M + b), with one matrix M (descriptor_size × d) and one bias b."""

    def __init__(self, descriptor_size: int, dimension: int) -> None:
        super().__init__()
        self.dense = nn.Linear(descriptor_size, dimension)

    @classmethod
    def from_arrays(cls, matrix: np.ndarray, bias: np.ndarray) -> "Embedder":
        """The embedder of M, (descriptor_size, d), and b, (d,)."""
        embedder = cls(*matrix.shape)
        with torch.no_grad():
            embedder.dense.weight.copy_(torch.as_tensor(np.ascontiguousarray(matrix.T)))
            embedder.dense.bias.copy_(torch.as_tensor(bias))
        return embedder

    @property
    def matrix(self) -> np.ndarray:
        """M, (descriptor_size, d) float32; a view, not a copy."""
        return self.dense.weight.detach().cpu().numpy().T

    @property
    def bias(self) -> np.ndarray:
        """b, (d,) float32."""
        return self.dense.bias.detach().cpu().numpy()

    def forward(self, descriptors: torch.Tensor) -> torch.Tensor:
        """(N, descriptor_size) → (N, d) of unit length."""
        return nn.functional.normalize(self.dense(descriptors), dim=1)

    def se_image(self, descriptors: np.ndarray) -> np.ndarray:
        """Semantic embeddings of images.

        descriptors: (N, descriptor_size) or (descriptor_size,), any float type. Returns (N, d) or
        (d,) float32 of unit length. Raises ValueError where the size is not the embedder's.
        """
        if descriptors.shape[-1] != self.dense.in_features:
            raise ValueError(
                f"descriptors have {descriptors.shape[-1]} values; "
                f"the embedder takes {self.dense.in_features}"
            )
        rows = np.atleast_2d(np.asarray(descriptors, np.float32))
        embeddings = unit_rows(rows @ self.matrix + self.bias)
        return embeddings if descriptors.ndim == 2 else embeddings[0]
