"""Networks of PyTorch turned into OpenVINO graphs."""

import warnings
from typing import Any

import numpy as np
import torch
from torch import nn

from lib.backbones import graphs
from lib.backbones.backbone import Backbone
from lib.backbones.graphs import compiled, cosines_of
from lib.cores import usable_cores

_CONVERTED_COSINE = 0.99999  # of a graph to the network it was converted from


class _OfPictures(nn.Module):
    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.network = backbone.network
        self._normalise = backbone.normalise

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.network(self._normalise(pictures.permute(0, 3, 1, 2)))


def convert(backbone: Backbone) -> Any | None:
    """The model of a backbone from (N, height, width, 3) uint8 pictures to (N, D) float32.

    None where OpenVINO is not installed, or cannot express the network for pictures of any shape
    that its preprocessing makes.
    """
    if graphs.openvino is None:
        return None
    crop, whole = backbone.preprocessing.crop, backbone.preprocessing.whole
    shapes = [(2, crop, crop, 3)]
    if whole:
        shapes += [(1, crop + 32, crop, 3), (1, crop, 2 * crop + 32, 3)]
    side = -1 if whole else crop
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of tracing
        try:
            example = torch.zeros(shapes[0], dtype=torch.uint8)
            # OpenVINO's own tracing traces twice more, to compare; the pictures below do that.
            model = graphs.openvino.convert_model(
                torch.jit.trace(_OfPictures(backbone), example, check_trace=False),
                example_input=example,
                input=[graphs.openvino.PartialShape([-1, side, side, 3])],
            )
            run = compiled(model, usable_cores())
            for shape in shapes:
                pictures = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
                expected = backbone.extract(torch.from_numpy(pictures).permute(0, 3, 1, 2))
                if cosines_of(run(pictures)[0], expected.numpy()).min() < _CONVERTED_COSINE:
                    return None
        except Exception:  # each network that cannot be converted says so in its own way
            return None
    return model
