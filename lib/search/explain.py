"""Why an image has its score: exact shares of the cosine, by word and by place in the image."""

from dataclasses import dataclass

import numpy as np

from lib.embedder.model import Embedder
from lib.errors import BadInputError


@dataclass(frozen=True)
class HeatMap:
    """How the cosine of one image with some directions splits over the image.

    `shares`, (W, h, w) float32: the share of each direction and cell of the backbone's last
    feature map. Over all cells they add up to each direction's share of the cosine, over all
    directions too to `score`.
    """

    shares: np.ndarray

    @property
    def cells(self) -> np.ndarray:
        """(h, w): what each place adds to the score, over all directions."""
        return self.shares.sum(axis=0)

    @property
    def score(self) -> float:
        """The cosine that the shares add up to."""
        return float(self.shares.sum(dtype=np.float64))


def split_over_cells(
    feature_map: np.ndarray, embedder: Embedder, directions: np.ndarray
) -> HeatMap:
    """Split an image's cosine over the cells of its feature map, exactly.

    The descriptor x is the mean of the n = h·w cells f_c, and the embedding is z / |z| with
    z = x·M + b, so that cos = q·z / |z| = Σ_c (q·(f_c·M) + q·b) / (n |z|): every step is linear
    but the division by |z|, which is one number for the image. The bias is shared out evenly. The
    idea is class activation mapping (Zhou et al., CVPR 2016), here without a rest.

    feature_map: (D, h, w) before pooling. embedder: M, (D, d), and b, (d,). directions: (W, d),
    parts that add up to the query's unit embedding (or that embedding alone, W = 1).
    Raises BadInputError where the image's embedding is zero or the sizes disagree.
    """
    size, height, width = feature_map.shape
    matrix, bias = embedder.matrix, embedder.bias
    if matrix.shape[0] != size or matrix.shape[1] != directions.shape[1]:
        raise BadInputError(
            f"a feature map of {size} channels and directions of {directions.shape[1]} values do "
            f"not fit an embedder of {matrix.shape[0]} × {matrix.shape[1]}"
        )
    features = feature_map.reshape(size, -1).astype(np.float64)
    projection = matrix.astype(np.float64) @ directions.astype(np.float64).T  # (D, W)
    z = features.mean(axis=1) @ matrix + bias
    norm = float(np.linalg.norm(z))
    if norm == 0:
        raise BadInputError("the image's embedding is zero: its score has no parts")
    by_cell = projection.T @ features + (directions.astype(np.float64) @ bias)[:, None]
    shares = by_cell / (features.shape[1] * norm)
    return HeatMap(shares.reshape(-1, height, width).astype(np.float32))
