"""The embedder's layer while it is fitted, in PyTorch."""

import torch
from torch import nn


class EmbedderLayer(nn.Module):
    """se_image(x) = normalise(x·M + b); see `lib.embedder.model.Embedder`."""

    def __init__(self, descriptor_size: int, dimension: int) -> None:
        super().__init__()
        self.dense = nn.Linear(descriptor_size, dimension)

    def forward(self, descriptors: torch.Tensor) -> torch.Tensor:
        """(N, descriptor_size) → (N, d) of unit length."""
        return nn.functional.normalize(self.dense(descriptors), dim=1)
