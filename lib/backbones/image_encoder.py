"""The image side of the service: feature maps of pictures that arrive or that need explaining."""

import threading
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from lib.backbones.graphs import Compiled, add_feature_map, compiled, unpack
from lib.backbones.kept import kept_graph, open_backbone
from lib.backbones.seen_image import SeenImage
from lib.cores import usable_cores
from lib.images.preprocessing import DecodedImage, decode
from lib.schemas import Provenance, require_same

if TYPE_CHECKING:  # PyTorch, half a gigabyte: not needed where a graph was kept
    from lib.backbones.backbone import Backbone

MAX_UPLOAD_PIXELS = 50_000_000  # of what anyone may send; JPEGs of more are read at reduced scale


class ImageEncoder:
    """A backbone on the CPU for single pictures.

    Raises, when made, MissingError without weights and MismatchError where they, or how images
    are prepared, are not what made the database's descriptors.
    """

    def __init__(self, provenance: Provenance, weights: str | None = None) -> None:
        opened = open_backbone(provenance.backbone, weights).seeing_as(provenance)
        self._opened, self._preprocessing = opened, opened.preprocessing
        self._computing = threading.Lock()  # a compiled graph takes one picture after another
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
        picture = decode(content, self._preprocessing, MAX_UPLOAD_PIXELS)
        if outputs := self._outputs(picture):
            return outputs[0]
        from lib.backbones.backbone import as_batch

        return self._backbone.extract(as_batch(picture.pixels))[0].numpy()

    def see(self, content: bytes) -> SeenImage:
        """Feature map of an image file. Raises ImageError, and BadInputError for a backbone that
        pools no map.
        """
        picture = decode(content, self._preprocessing)
        frame = self._preprocessing.frame(picture.width, picture.height)
        if len(outputs := self._outputs(picture)) == 2:
            return SeenImage(outputs[1], frame.box)
        from lib.backbones.backbone import as_batch

        feature_map = self._backbone.feature_map(as_batch(picture.pixels))[0].numpy()
        return SeenImage(feature_map, frame.box)

    def _outputs(self, picture: DecodedImage) -> list[np.ndarray]:
        """Descriptor (D,) and, where the network pools one, map (D, h, w); none without a graph."""
        with self._computing:
            if self._graph is None:
                return []
            return [output[0] for output in self._graph(np.ascontiguousarray(picture.pixels[None]))]

    @cached_property
    def _graph(self) -> Compiled | None:
        kept = kept_graph(self._opened)
        if kept is None:  # to convert the network would take longer than PyTorch needs to load
            return None
        model = unpack(kept)
        add_feature_map(model)
        return compiled(model, usable_cores())

    @cached_property
    def _backbone(self) -> "Backbone":
        return self._opened.loaded()
