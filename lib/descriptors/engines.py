"""The forward pass, in the engine that is fastest on a device and keeps descriptors what they are.

OpenVINO on a CPU, PyTorch on a GPU and where OpenVINO has no wheel. `benchmarks.extraction
--engines` compares them.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np
import torch

from lib.cores import usable_cores
from lib.descriptors import graphs
from lib.descriptors.acceleration import Forward, accelerate, has_fast_bfloat16
from lib.descriptors.backbones import Backbone
from lib.descriptors.graphs import Graph, cosines_of, run_each
from lib.descriptors.quantization import observe, search
from lib.schemas import Computation, Fidelity

LEAST_COSINE = 0.999  # of fast descriptors to float32's
# Of the pictures that int8 is made with: those not among them fare a little worse.
_LEAST_OF_SAMPLE = 0.9992
_JUDGES = 32  # pictures by which each worker judges what its own processor computes
_CALIBRATION = 64
# Below the first number of images nothing but float32 pays, below the second no calibration, which
# takes as long as some 300 images in float32, or 500 faster ones.
_FEW, _SOME = 256, 1_000


class Engine(Protocol):
    """Computes descriptors of pictures, all of one shape."""

    name: str
    batch_size: int  # pictures that are best computed together

    def __call__(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """(N, D) float32 descriptors of at most `batch_size` pictures (height, width, 3) uint8.

        A picture's descriptor is the same whichever others come with it.
        """


class OpenVinoEngine:
    """A graph compiled for this CPU."""

    def __init__(self, graph: Graph, name: str, threads: int, bfloat16: bool = False) -> None:
        self.name = f"OpenVINO {name}"
        # Only where matrix units multiply do weights arrive more slowly than they are used.
        self.batch_size = 8 if graphs.has_bfloat16() else 1
        self._run = graphs.compiled(graphs.unpack(graph), threads, bfloat16)

    def __call__(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """See `Engine`."""
        if len(pictures) == self.batch_size:
            return self._run(np.stack(pictures))[0]
        # One by one: kernels for each number of pictures and each shape would be many.
        return run_each(self._run, pictures)


class TorchEngine:
    """A network on a GPU, or on a CPU without OpenVINO; batches are filled up and computed whole.

    `backbone` is changed: its network moves to the device.
    """

    def __init__(self, backbone: Backbone, device: str, bfloat16: bool) -> None:
        self.name = f"PyTorch {'bfloat16' if bfloat16 else 'float32'}"
        self._device = torch.device(device)
        self.batch_size = 64 if self._device.type == "cuda" else 4
        self._backbone = backbone
        self._bfloat16 = bfloat16
        self._networks: dict[tuple[int, ...], Forward] = {}

    @torch.inference_mode()
    def __call__(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """See `Engine`."""
        filling = [pictures[0]] * (self.batch_size - len(pictures))
        batch = torch.from_numpy(np.stack([*pictures, *filling]))
        if self._device.type == "cuda":
            batch = batch.pin_memory()
        images = batch.permute(0, 3, 1, 2).to(self._device, non_blocking=True)
        inputs = self._backbone.normalise(images)
        shape = pictures[0].shape
        if shape not in self._networks:
            self._networks[shape] = accelerate(self._backbone.network, inputs, self._bfloat16)
        if self._bfloat16:
            inputs = inputs.bfloat16()
        return self._networks[shape](inputs)[: len(pictures)].float().cpu().numpy()


@dataclass(frozen=True)
class Forms:
    """What a worker chooses an engine from: the forms of a network, and pictures that judge them.

    Without pictures float32 is all there is.
    """

    fidelity: Fidelity  # that was asked for
    float32: Graph | None  # None: PyTorch computes
    int8: Graph | None = None
    int8_name: str = ""
    pictures: list[np.ndarray] = field(default_factory=list)  # (height, width, 3) uint8
    reference: np.ndarray | None = None  # (pictures, D) float32 descriptors of them, in float32

    def __str__(self) -> str:
        return self.int8_name or "nothing faster than float32, or than bfloat16 where it is"

    @property
    def digest(self) -> str:
        """Tells forms of the same network apart."""
        parts = [
            f"{self.fidelity} {self.int8_name}".encode(),
            *(picture.tobytes() for picture in self.pictures),
        ]
        return hashlib.sha256(b"".join(parts)).hexdigest()


def pictures_needed(fidelity: Fidelity, images: int, machines: float) -> int:
    """Pictures that `prepare` wants of a collection in which so many images are to be described.

    `machines`: how many times the cores of this one are at work on them.
    """
    if fidelity == "float32" or images < _FEW:
        return 0
    if images >= _SOME * max(1.0, machines):
        return _CALIBRATION
    # This machine alone computes in float32 where it has no bfloat16: there is nothing to judge.
    alone = machines <= 1 and not graphs.has_bfloat16()
    return 0 if alone else _JUDGES


def prepare(backbone: Backbone, fidelity: Fidelity, pictures: Sequence[np.ndarray]) -> Forms:
    """The forms of a backbone, with convolutions in int8 where pictures suffice to calibrate them.

    Takes seconds, and with calibration about as long as 300 pictures in float32.
    """
    graph = graphs.converted(backbone)
    if not pictures:
        return Forms(fidelity, graph)
    if graph is None:
        inputs = (torch.from_numpy(picture).permute(2, 0, 1)[None] for picture in pictures)
        reference = np.concatenate([backbone.extract(images).numpy() for images in inputs])
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


def choose(
    forms: Forms, backbone: Callable[[], Backbone], device: str, threads: int
) -> tuple[Engine, Computation]:
    """The fastest engine on this device that keeps the promise, and what to record of it.

    The promise is looked into here, because processors differ: a cosine of `LEAST_COSINE` to
    float32's descriptors. `backbone` gives the network, where it is PyTorch that computes.
    """
    for build in _in_order_of_speed(forms, backbone, device, threads):
        engine = build()
        if forms.reference is None:
            return engine, Computation(forms.fidelity, engine.name)
        descriptors = np.concatenate([engine([picture]) for picture in forms.pictures])
        cosine = float(cosines_of(descriptors, forms.reference).min())
        if cosine >= LEAST_COSINE:
            break
    return engine, Computation(forms.fidelity, engine.name, round(cosine, 6), len(forms.pictures))


def _in_order_of_speed(
    forms: Forms, backbone: Callable[[], Backbone], device: str, threads: int
) -> Iterator[Callable[[], Engine]]:
    """The last one computes in float32."""
    fast = forms.reference is not None
    if forms.float32 is None or not device.startswith("cpu"):
        network = backbone()
        if fast and has_fast_bfloat16(torch.device(device)):
            yield partial(TorchEngine, deepcopy(network), device, True)
        yield partial(TorchEngine, network, device, False)
        return
    bfloat16 = graphs.has_bfloat16()
    if forms.int8 is not None:
        yield partial(OpenVinoEngine, forms.int8, forms.int8_name, threads, bfloat16)
    if fast and bfloat16:
        yield partial(OpenVinoEngine, forms.float32, "bfloat16", threads, True)
    yield partial(OpenVinoEngine, forms.float32, "float32", threads)


def float32_engine(backbone: Backbone) -> Engine:
    """Descriptors in float32 on the cores of this machine."""
    return choose(prepare(backbone, "float32", ()), lambda: backbone, "cpu", usable_cores())[0]
