"""The image side of the service: feature maps of pictures that arrive or that need explaining."""

import numpy as np

from lib.descriptors.backbones import Backbone, as_batch, load_backbone
from lib.descriptors.seen_image import SeenImage
from lib.images.preprocessing import decode
from lib.schemas import Provenance, require_same

MAX_UPLOAD_PIXELS = 50_000_000  # of what anyone may send; JPEGs of more are read at reduced scale


class ImageEncoder:
    """A backbone on the CPU for single pictures.

    Raises, when made, MissingError without weights and MismatchError where they, or how images
    are prepared, are not what made the database's descriptors.
    """

    def __init__(self, provenance: Provenance, weights: str | None = None) -> None:
        self.backbone: Backbone = load_backbone(provenance.backbone, weights).seeing_as(provenance)
        require_same(
            f"the weights of backbone {provenance.backbone} here and of the database",
            provenance.weights_digest,
            self.backbone.weights_digest,
            "Give the weights that the descriptors were extracted with: --weights FILE",
        )
        require_same(
            "how images are prepared for the backbone here and in the database",
            provenance.preprocessing,
            str(self.backbone.preprocessing),
            "Extract the descriptors again with jobs.extract_descriptors",
        )

    def extract(self, content: bytes) -> np.ndarray:
        """(D,) float32 descriptor of an image file that someone sent. Raises ImageError."""
        picture = decode(content, self.backbone.preprocessing, MAX_UPLOAD_PIXELS)
        descriptor: np.ndarray = self.backbone.extract(as_batch(picture.pixels))[0].numpy()
        return descriptor

    def see(self, content: bytes) -> SeenImage:
        """Feature map of an image file. Raises ImageError, and BadInputError for a backbone that
        pools no map.
        """
        picture = decode(content, self.backbone.preprocessing)
        feature_map = self.backbone.feature_map(as_batch(picture.pixels))[0].numpy()
        frame = self.backbone.preprocessing.frame(picture.width, picture.height)
        return SeenImage(feature_map, frame.box)
