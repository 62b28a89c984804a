"""The forms of a network that workers choose among, made once on the driver."""

from collections.abc import Sequence

import numpy as np

from lib.cores import usable_cores
from lib.descriptors import graphs
from lib.descriptors.engines import Engine, Forms, choose
from lib.descriptors.kept import AnyBackbone, converted
from lib.descriptors.quantization import observe, search
from lib.schemas import Fidelity

# Of the pictures that int8 is made with: those not among them fare a little worse.
_LEAST_OF_SAMPLE = 0.9992
_JUDGES = 32  # pictures by which each worker judges what its own processor computes
_CALIBRATION = 64
# Below the first number of images nothing but float32 pays, up to the second no calibration, which
# takes as long as some 300 images in float32, or 500 faster ones.
_LEAST, _FEW = 256, 1_000


def are_few(images: int, machines: float) -> bool:
    """Whether so many images are done before calibration, or a slow start of workers, pays.

    `machines`: how many times the cores of this one are at work on them.
    """
    return images <= _FEW * max(1.0, machines)


def pictures_needed(fidelity: Fidelity, images: int, machines: float) -> int:
    """Pictures that `prepare` wants of a collection of which so many images are to be described.

    `machines`: see `are_few`.
    """
    if fidelity == "float32" or images < _LEAST:
        return 0
    if not are_few(images, machines):
        return _CALIBRATION
    # This machine alone computes in float32 where it has no bfloat16: there is nothing to judge.
    alone = machines <= 1 and not graphs.has_bfloat16()
    return 0 if alone else _JUDGES


def prepare(backbone: AnyBackbone, fidelity: Fidelity, pictures: Sequence[np.ndarray]) -> Forms:
    """The forms of a backbone, with convolutions in int8 where pictures suffice to calibrate them.

    Takes seconds, and with calibration about as long as 300 pictures in float32.
    """
    graph = converted(backbone)
    if not pictures:
        return Forms(fidelity, graph)
    if graph is None:
        from lib.descriptors.backbones import as_batch

        extract = backbone.loaded().extract
        reference = np.concatenate([extract(as_batch(picture)).numpy() for picture in pictures])
        return Forms(fidelity, None, pictures=list(pictures), reference=reference)
    model = graphs.unpack(graph)
    observed = observe(model, pictures)
    quantized = None
    if len(pictures) >= _CALIBRATION // 2:
        quantized = search(model, pictures, observed, _LEAST_OF_SAMPLE, graphs.has_bfloat16())
    judges = quantized.hardest if quantized else list(range(min(len(pictures), _JUDGES)))
    return Forms(
        fidelity,
        graph,
        quantized and graphs.pack(quantized.model),
        quantized.name if quantized else "",
        [pictures[row] for row in judges],
        observed.descriptors[judges],
    )


def float32_engine(backbone: AnyBackbone) -> Engine:
    """Descriptors in float32 on the cores of this machine."""
    return choose(prepare(backbone, "float32", ()), backbone.loaded, "cpu", usable_cores())[0]
