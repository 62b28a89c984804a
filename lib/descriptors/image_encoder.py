"""The image side of the service: feature maps of pictures that arrive or that need explaining."""

from dataclasses import dataclass

import numpy as np

from lib.descriptors.backbones import Backbone, Preprocessing, load_backbone
from lib.images.preprocessing import decode
from lib.schemas import Provenance, require_same


@dataclass(frozen=True)
class SeenImage:
    """The backbone's last feature map of an image, and the part of the image that it saw."""

    feature_map: np.ndarray  # (D, h, w) float32
    box: tuple[float, float, float, float]  # left, top, right, bottom in fractions of the image


def visible_box(
    width: int, height: int, preprocessing: Preprocessing
) -> tuple[float, float, float, float]:
    """What the centre crop shows: left, top, right, bottom in fractions of width and height."""
    scale = preprocessing.resize / min(width, height)
    across = min(1.0, preprocessing.crop / (width * scale))
    down = min(1.0, preprocessing.crop / (height * scale))
    return (1 - across) / 2, (1 - down) / 2, (1 + across) / 2, (1 + down) / 2


class Vision:
    """A backbone on the CPU for single pictures.

    Raises, when made, MissingError without weights and MismatchError where they are not those
    that made the database's descriptors.
    """

    def __init__(self, provenance: Provenance, weights: str | None = None) -> None:
        self.backbone: Backbone = load_backbone(provenance.backbone, weights)
        require_same(
            f"the weights of backbone {provenance.backbone} here and of the database",
            provenance.weights_digest,
            self.backbone.weights_digest,
            "Give the weights that the descriptors were extracted with: --weights FILE",
        )

    def describe(self, content: bytes) -> np.ndarray:
        """(D,) float32 descriptor of an image file. Raises ImageError."""
        picture = decode(content, self.backbone.preprocessing)
        descriptor: np.ndarray = self.backbone.describe(picture.pixels[None])[0].numpy()
        return descriptor

    def see(self, content: bytes) -> SeenImage:
        """Feature map of an image file. Raises ImageError, and BadInputError for a backbone that
        pools no map.
        """
        picture = decode(content, self.backbone.preprocessing)
        feature_map = self.backbone.feature_map(picture.pixels[None])[0].numpy()
        box = visible_box(picture.width, picture.height, self.backbone.preprocessing)
        return SeenImage(feature_map, box)
