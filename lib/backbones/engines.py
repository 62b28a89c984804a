"""The forward pass, in the engine that is fastest on a device and keeps descriptors what they are.

OpenVINO on a CPU, PyTorch on a GPU and where OpenVINO has no wheel. `benchmarks.extraction
--engines` compares them.
"""

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lib.backbones import graphs
from lib.backbones.graphs import Compiled, Graph, cosines_of, run_each
from lib.images.preprocessing import EncodedJpeg
from lib.schemas import Computation, Fidelity

if TYPE_CHECKING:  # PyTorch: where OpenVINO computes nobody waits for it
    from lib.backbones.backbone import Backbone
    from lib.images.gpu_decoding import GpuDecoder

LEAST_COSINE = 0.999  # of fast descriptors to float32's
# A graph that is compiled for one shape is up to a fifth faster: compiling pays when pictures of
# that shape have taken so many times as long. Each holds the weights once more.
_WORTH_COMPILING, _OWN_BYTES = 10, 128_000_000


class Engine(Protocol):
    """Computes descriptors of pictures, all of one shape."""

    name: str
    batch_size: int  # pictures that are best computed together

    @property
    def decoder(self) -> "GpuDecoder | None":
        """What decodes JPEG files on the device where it computes, if anything does."""

    def __call__(self, pictures: Sequence[Any]) -> np.ndarray:
        """(N, D) float32 descriptors of at most `batch_size` pictures (height, width, 3) uint8.

        They are arrays, or what `decoder` gives. A picture's descriptor is the same whichever
        others come with it.
        """


class OpenVinoEngine:
    """A graph compiled for this CPU: for pictures of any shape, and for common shapes anew."""

    decoder = None
    batch_size = 8  # one shape after another costs up to a fifth, also where each is run alone

    def __init__(self, graph: Graph, name: str, threads: int, bfloat16: bool = False) -> None:
        self.name = f"OpenVINO {name}"
        # Only where matrix units multiply do weights arrive more slowly than they are used.
        self._together = graphs.has_bfloat16()
        self._compiled = partial(_compiled, graph, threads, bfloat16)
        start = time.perf_counter()
        self._run = self._compiled(None)
        self._worth = _WORTH_COMPILING * (time.perf_counter() - start)
        self._seconds: defaultdict[tuple[int, ...], float] = defaultdict(float)
        self._own: dict[tuple[int, ...], Compiled] = {}
        self._most = _OWN_BYTES // graph.weights.nbytes

    def __call__(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """See `Engine`."""
        if self._together and len(pictures) == self.batch_size:
            return self._compute(np.stack(pictures))[0]
        # One by one: kernels for each number of pictures and each shape would be many.
        return run_each(self._compute, pictures)

    def _compute(self, batch: np.ndarray) -> list[np.ndarray]:
        """Outputs for a batch (N, height, width, 3), by the graph of its shape if it has one."""
        if own := self._own.get(batch.shape):
            return own(batch)
        start = time.perf_counter()
        outputs = self._run(batch)
        self._seconds[batch.shape] += time.perf_counter() - start
        if self._seconds[batch.shape] > self._worth and len(self._own) < self._most:
            self._compile_for(batch, outputs[0])
        return outputs

    def _compile_for(self, batch: np.ndarray, descriptors: np.ndarray) -> None:
        """Compile the graph for the shape of a batch, of which the descriptors are known.

        Int8 may come to others, which nothing has judged: then no other shape gets one.
        """
        with suppress(RuntimeError):  # all goes on without
            own = self._compiled(batch.shape)
            if np.array_equal(own(batch)[0], descriptors):
                self._own[batch.shape] = own
                return
        self._most = 0


def _compiled(
    graph: Graph, threads: int, bfloat16: bool, shape: tuple[int, ...] | None
) -> Compiled:
    model = graphs.unpack(graph)
    if shape:
        model.reshape(shape)
    return graphs.compiled(model, threads, bfloat16)


@dataclass(frozen=True)
class Sample:
    """A picture of the collection, by which the arithmetic of a run is chosen."""

    pixels: np.ndarray  # (height, width, 3) uint8, as workers decode it
    whole: np.ndarray  # the same size and type, decoded at full scale, as in float32's runs
    jpeg: EncodedJpeg | None = None  # its file, for GPUs


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
    reference: np.ndarray | None = None  # (pictures, D) float32: of the whole ones, in float32
    jpegs: list[EncodedJpeg | None] = field(default_factory=list)  # their files, for GPUs

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


def choose(
    forms: Forms, backbone: Callable[[], "Backbone"], device: str, threads: int
) -> tuple[Engine, Computation]:
    """The fastest engine on this device that keeps the promise, and what to record of it.

    The promise is looked into here, because processors differ: a cosine of `LEAST_COSINE` to
    float32's descriptors. `backbone` gives the network, where it is PyTorch that computes.
    """
    for build in _in_order_of_speed(forms, backbone, device, threads):
        engine = build()
        if forms.reference is None:
            return engine, Computation(forms.fidelity, engine.name)
        try:
            descriptors = np.concatenate([engine([each]) for each in _decoded(forms, engine)])
        except RuntimeError:
            if engine.decoder is None:
                raise
            continue  # nvJPEG is not there, or refuses these files
        cosine = float(cosines_of(descriptors, forms.reference).min())
        if cosine >= LEAST_COSINE:
            break
    return engine, Computation(forms.fidelity, engine.name, round(cosine, 6), len(forms.pictures))


def _decoded(forms: Forms, engine: Engine) -> list[Any]:
    """The judging pictures as the engine gets them."""
    if engine.decoder is None:
        return list(forms.pictures)
    decoded = iter(engine.decoder([jpeg for jpeg in forms.jpegs if jpeg]))
    pairs = zip(forms.pictures, forms.jpegs, strict=True)
    return [next(decoded) if jpeg else picture for picture, jpeg in pairs]


def _in_order_of_speed(
    forms: Forms, backbone: Callable[[], "Backbone"], device: str, threads: int
) -> Iterator[Callable[[], Engine]]:
    """The last one computes in float32."""
    fast = forms.reference is not None
    if forms.float32 is None or not device.startswith("cpu"):
        from lib.backbones.torch_engine import torch_engines  # takes seconds to import

        decodes = device.startswith("cuda") and any(forms.jpegs)
        yield from torch_engines(backbone(), device, fast, decodes)
        return
    bfloat16 = graphs.has_bfloat16()
    if forms.int8 is not None:
        yield partial(OpenVinoEngine, forms.int8, forms.int8_name, threads, bfloat16)
    if fast and bfloat16:
        yield partial(OpenVinoEngine, forms.float32, "bfloat16", threads, True)
    yield partial(OpenVinoEngine, forms.float32, "float32", threads)
