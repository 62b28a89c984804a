"""What a backbone saw of one image, as it goes to a process that has no PyTorch."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SeenImage:
    """The backbone's last feature map of an image, and the part of the image that it saw."""

    feature_map: np.ndarray  # (D, h, w) float32
    box: tuple[float, float, float, float]  # left, top, right, bottom in fractions of the image
