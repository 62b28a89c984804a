"""The image side of the service: feature maps of pictures that arrive or that need explaining."""

import threading
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from lib.cores import usable_cores
from lib.descriptors.engines import OpenVinoEngine
from lib.descriptors.kept import kept_graph, open_backbone
from lib.descriptors.seen_image import SeenImage
from lib.images.preprocessing import decode, resize_with_pillow
from lib.schemas import Provenance, require_same

if TYPE_CHECKING:  # PyTorch, half a gigabyte: only heat maps need it where a graph was kept
    from lib.descriptors.backbones import Backbone

MAX_UPLOAD_PIXELS = 50_000_000  # of what anyone may send; JPEGs of more are read at reduced scale


class ImageEncoder:
    """A backbone on the CPU for single pictures.

    Raises, when made, MissingError without weights and MismatchError where they, or how images
    are prepared, are not what made the database's descriptors.
    """

    def __init__(self, provenance: Provenance, weights: str | None = None) -> None:
        opened = open_backbone(provenance.backbone, weights).seeing_as(provenance)
        self._opened, self._preprocessing = opened, opened.preprocessing
        self._computing = threading.Lock()  # an engine has one request
        require_same(
            f"the weights of backbone {provenance.backbone} here and of the database",
            provenance.weights_digest,
            opened.weights_digest,
            "Give the weights that the descriptors were extracted with: --weights FILE",
        )
        require_same(
            "how images are prepared for the backbone here and in the database",
            provenance.preprocessing,
            str(self._preprocessing),
            "Extract the descriptors again with jobs.extract_descriptors",
        )

    def extract(self, content: bytes) -> np.ndarray:
        """(D,) float32 descriptor of an image file that someone sent. Raises ImageError."""
        picture = decode(content, self._preprocessing, MAX_UPLOAD_PIXELS, resize_with_pillow)
        with self._computing:
            return self._extract(np.ascontiguousarray(picture.pixels))

    def see(self, content: bytes) -> SeenImage:
        """Feature map of an image file. Raises ImageError, and BadInputError for a backbone that
        pools no map.
        """
        from lib.descriptors.backbones import as_batch

        picture = decode(content, self._preprocessing)
        feature_map = self._backbone.feature_map(as_batch(picture.pixels))[0].numpy()
        frame = self._preprocessing.frame(picture.width, picture.height)
        return SeenImage(feature_map, frame.box)

    @cached_property
    def _extract(self) -> Callable[[np.ndarray], np.ndarray]:
        """From pixels (height, width, 3) uint8 to (D,) float32, in the engine that is up first."""
        graph = kept_graph(self._opened)
        if graph is not None:
            engine = OpenVinoEngine(graph, "float32", usable_cores())
            return lambda pixels: engine([pixels])[0]
        from lib.descriptors.backbones import as_batch

        return lambda pixels: self._backbone.extract(as_batch(pixels))[0].numpy()

    @cached_property
    def _backbone(self) -> "Backbone":
        return self._opened.loaded()
