"""Networks of PyTorch turned into OpenVINO graphs."""

import warnings
from collections.abc import Sequence
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
        shapes += [(1, crop + 32, crop, 3), (1, crop, crop + 64, 3), (1, crop, 2 * crop + 32, 3)]
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
            _fix_paddings(model, shapes)
            run = compiled(model, usable_cores())
            for shape in shapes:
                pictures = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
                expected = backbone.extract(torch.from_numpy(pictures).permute(0, 3, 1, 2))
                if cosines_of(run(pictures)[0], expected.numpy()).min() < _CONVERTED_COSINE:
                    return None
        except Exception:  # each network that cannot be converted says so in its own way
            return None
    return model


def _fix_paddings(model: Any, shapes: Sequence[tuple[int, ...]]) -> None:
    """Have paddings that a model computes from its input's shape be what they are for all these.

    Networks ported from TensorFlow pad by shape, and shapes here differ by the stride of common
    networks alone. OpenVINO makes what is constant a part of the convolution behind it.
    """
    paddings = [node for node in model.get_ops() if node.get_type_name() == "Pad"]
    inputs = [node.input(index) for node in paddings for index in (1, 2)]  # before, after
    if not inputs:
        return
    sources = [entry.get_source_output() for entry in inputs]
    probe = graphs.openvino.Model(sources, model.get_parameters())
    run = graphs.openvino.compile_model(probe, "CPU")
    widths = [list(run(np.zeros(shape, np.uint8)).to_tuple()) for shape in shapes]
    for entry, *values in zip(inputs, *widths, strict=True):
        if all(np.array_equal(value, values[0]) for value in values):
            constant = graphs.openvino.opset13.constant(values[0])
            entry.replace_source_output(constant.output(0))
    model.validate_nodes_and_infer_types()
