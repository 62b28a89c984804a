"""Convolutions in 8-bit integers, as many as keep a graph's descriptors what they are.

Activations are quantised by tensor, up to a value that they exceed in every tenth picture of the
collection: up to their mean maximum odd pictures suffer, up to the maximum all do. Weights are
quantised symmetrically by output channel. Errors of the first convolutions spread through all
others, so that it is those that are left as they are where some must be.
"""

import time
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from lib.backbones.graphs import compiled, cosines_of, run_each
from lib.cores import usable_cores

_EXCEEDED = 0.1  # share of pictures
HARD = 16  # pictures that quantising hurts most, on which the search is done
# Depthwise convolutions sum few products, so that errors do not average out: efficientnet_lite0
# falls to 0.92, and what it can spare gains nothing.
_HOPELESS = 0.98
_WORTH_IT = 0.9  # of the time that the whole takes without int8, at most


class Quantized(NamedTuple):
    """A model with convolutions in int8."""

    model: Any
    name: str
    hardest: list[int]  # the pictures that quantising hurts most


class Observed(NamedTuple):
    """Float32 descriptors of pictures, and what reaches the convolutions on the way."""

    descriptors: np.ndarray  # (N, D)
    limits: list[float]  # greatest value before each convolution; 0 where some are negative


def convolutions(model: Any) -> list[Any]:
    """Those that can be quantised, from input to output."""
    return [
        node
        for node in model.get_ordered_ops()
        if node.get_type_name() in ("Convolution", "GroupConvolution")
        and node.input_value(1).get_node().get_type_name() == "Constant"
    ]


def observe(model: Any, pictures: Sequence[np.ndarray]) -> Observed:
    """Run a float32 model over pictures (height, width, 3) uint8."""
    from openvino import opset13 as ops

    watched = model.clone()
    extremes = []
    for node in convolutions(watched):
        axes = np.arange(node.input_value(0).partial_shape.rank.get_length())
        for reduce in (ops.reduce_min, ops.reduce_max):
            extremes.append(reduce(node.input_value(0), axes).output(0))
    watched.add_outputs(extremes)
    run = compiled(watched, usable_cores())
    outputs = [run(picture[None]) for picture in pictures]
    values = np.array([[float(value) for value in output[1:]] for output in outputs])
    limits = np.quantile(values[:, 1::2], 1 - _EXCEEDED, axis=0)
    limits[(values[:, ::2] < 0).any(0)] = 0.0
    return Observed(np.concatenate([output[0] for output in outputs]), limits.tolist())


def quantize(model: Any, limits: Sequence[float], kept: int) -> Any:
    """A copy of a model with all convolutions but the first `kept` in int8.

    Those that negative values reach stay as they are: processors without VNNI would add their
    products in 16 bits, where they overflow.
    """
    from openvino import opset13 as ops

    model = model.clone()
    quantized: dict[str, Any] = {}
    for node, limit in list(zip(convolutions(model), limits, strict=True))[kept:]:
        if not limit:
            continue
        source = node.input_value(0)
        name = source.get_node().get_friendly_name()
        if name not in quantized:
            others = source.get_target_inputs()
            bounds = [np.float32(0), np.float32(limit)] * 2
            quantized[name] = ops.fake_quantize(source, *bounds, 256).output(0)
            for target in others:  # a residual too: it is in the cache already, in a byte a value
                if target.get_node().get_type_name() == "Add":
                    target.replace_source_output(quantized[name])
        node.input(0).replace_source_output(quantized[name])
        weights = node.input_value(1).get_node().data
        # (output channels, input channels, y, x), with the group before where there are groups.
        inner = tuple(range(1 if node.get_type_name() == "Convolution" else 2, weights.ndim))
        most = np.maximum(np.abs(weights).max(inner, keepdims=True), 1e-12)
        step = (most / 127).astype(np.float32)
        # Bytes, not numbers that a compiler would have to quantise again in each process.
        levels = ops.constant(np.rint(weights / step).astype(np.int8))
        scaled = ops.multiply(ops.convert(levels, "f32"), ops.constant(step))
        node.input(1).replace_source_output(scaled.output(0))
    return model


def search(
    model: Any,
    pictures: Sequence[np.ndarray],
    observed: Observed,
    least: float,
    bfloat16: bool,
) -> Quantized | Literal["hopeless"] | None:
    """The model with the most convolutions in int8 that keeps a cosine of `least` to float32's.

    What is not in int8 is computed in bfloat16 where asked for. None where no such model is faster
    by a tenth than the one without int8; `hopeless` where that is the network's doing, whatever
    the pictures.
    """
    threads, total = usable_cores(), len(convolutions(model))

    def attempt(kept: int, chosen: Sequence[np.ndarray]) -> tuple[Any, np.ndarray, float]:
        """Model, its descriptors, and seconds a picture of this process, whatever others do."""
        candidate = quantize(model, observed.limits, kept)
        run = compiled(candidate, threads, bfloat16)
        for picture in {picture.shape: picture for picture in chosen}.values():
            run(picture[None])  # kernels are made at the first picture of a shape
        start = time.process_time()
        vectors = run_each(run, chosen)
        return candidate, vectors, (time.process_time() - start) / len(chosen)

    cosines = cosines_of(attempt(0, pictures)[1], observed.descriptors)
    if cosines.min() < _HOPELESS:
        return "hopeless"
    hard = np.argsort(cosines)[:HARD]
    some = [pictures[row] for row in hard]

    def keeps(kept: int) -> bool:
        vectors = attempt(kept, some)[1]
        return bool(cosines_of(vectors, observed.descriptors[hard]).min() >= least)

    low, enough = (0, 1) if cosines.min() < least else (-1, 0)
    while enough and enough < total and not keeps(enough):  # mostly a few are sensitive
        low, enough = enough, min(2 * enough, total)
    while enough - low > 1:
        middle = (low + enough) // 2
        low, enough = (low, middle) if keeps(middle) else (middle, enough)
    if enough == total:
        return None
    candidate, vectors, seconds = attempt(enough, pictures)
    cosine = cosines_of(vectors, observed.descriptors).min()
    if cosine < least or seconds > _WORTH_IT * attempt(total, some)[2]:
        return None
    name = f"int8 but for the first {enough} of {total} convolutions"
    return Quantized(candidate, name, hard.tolist())
