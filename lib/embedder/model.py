"""The embedder: one dense layer from an image's descriptor into the text space."""

from dataclasses import dataclass

import numpy as np

from lib.errors import BadArgumentError
from lib.text.encoder import unit_rows


@dataclass(frozen=True, eq=False)
class Embedder:
    """se_image(x) = normalise(x·M + b); while it is fitted, see `lib.embedder.layer`."""

    matrix: np.ndarray  # M, (descriptor_size, d) float32
    bias: np.ndarray  # b, (d,) float32

    def __post_init__(self) -> None:
        # Column by column, as a layer's weights lie: another order gives products other last bits.
        object.__setattr__(self, "matrix", np.asfortranarray(self.matrix, np.float32))
        object.__setattr__(self, "bias", np.asarray(self.bias, np.float32))

    def se_image(self, descriptors: np.ndarray) -> np.ndarray:
        """Semantic embeddings of images.

        descriptors: (N, descriptor_size) or (descriptor_size,), any float type. Returns (N, d) or
        (d,) float32 of unit length. Raises BadArgumentError where the size is not the embedder's.
        """
        if descriptors.shape[-1] != len(self.matrix):
            raise BadArgumentError(
                f"descriptors have {descriptors.shape[-1]} values; "
                f"the embedder takes {len(self.matrix)}"
            )
        rows = np.atleast_2d(np.asarray(descriptors, np.float32))
        embeddings = unit_rows(rows @ self.matrix + self.bias)
        return embeddings if descriptors.ndim == 2 else embeddings[0]
