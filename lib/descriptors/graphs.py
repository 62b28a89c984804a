"""Networks as OpenVINO graphs: converted from PyTorch, packed to travel, compiled for this CPU."""

import hashlib
import io
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from lib.cores import usable_cores
from lib.descriptors.backbones import Backbone
from lib.storage import cache_directory, write_bytes_atomic

# OpenVINO reports each import to its makers unless this part of it is absent.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
try:
    import openvino
except ImportError:  # no wheel for this platform: PyTorch computes
    openvino = None

Compiled = Callable[[np.ndarray], list[np.ndarray]]
_CONVERSION = 1  # goes up where `convert` comes to give another graph
_CONVERTED_COSINE = 0.99999  # of a graph to the network it was converted from


class Graph(NamedTuple):
    """An OpenVINO model in memory, as its two files are."""

    xml: bytes
    weights: np.ndarray  # uint8


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
    if openvino is None:
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
            model = openvino.convert_model(
                torch.jit.trace(_OfPictures(backbone), example, check_trace=False),
                example_input=example,
                input=[openvino.PartialShape([-1, side, side, 3])],
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


def converted(backbone: Backbone) -> Graph | None:
    """The packed graph of `convert`, kept in the user's cache: most of a run's start goes into it.

    The zip that holds it has checksums: what is damaged is made again.
    """
    if openvino is None:
        return None
    made_by = (openvino.__version__, torch.__version__, _CONVERSION)
    what = f"{backbone.provenance('float32')} {made_by}"
    name = f"{hashlib.sha256(what.encode()).hexdigest()[:32]}.npz"
    kept = cache_directory() / "graphs" / name
    with suppress(OSError, KeyError, ValueError, zipfile.BadZipFile), np.load(kept) as packed:
        return Graph(packed["xml"].tobytes(), packed["weights"])
    model = convert(backbone)
    if model is None:
        return None
    graph = pack(model)
    with suppress(OSError):  # a home that cannot be written: slower next time, no harm else
        sink = io.BytesIO()
        np.savez(sink, xml=np.frombuffer(graph.xml, np.uint8), weights=graph.weights)
        write_bytes_atomic(str(kept), sink.getbuffer())
    return graph


def cosines_of(vectors: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """(N,) cosines of (N, D) vectors to those of the same row; 1 of two that are zero."""
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(reference, axis=1)
    products = np.einsum("nd,nd->n", vectors, reference)
    equal = (vectors == reference).all(1)
    return np.divide(products, norms, out=equal.astype(np.float32), where=norms > 0)


def has_bfloat16() -> bool:
    """Whether OpenVINO is there, and computes in bfloat16 on this CPU."""
    return openvino is not None and "BF16" in openvino.Core().get_property(
        "CPU", "OPTIMIZATION_CAPABILITIES"
    )


def compiled(model: Any, threads: int, bfloat16: bool = False) -> Compiled:
    """A model made ready for this CPU: from pictures (N, height, width, 3) uint8 to its outputs.

    Shapes stay open: a model compiled for one shape is no more than 7 % faster, and each such
    holds weights of its own.
    """
    ready = openvino.Core().compile_model(
        model,
        "CPU",
        {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
            # Else the workers of a machine all sit on its first core.
            "ENABLE_CPU_PINNING": False,
        },
    )
    request = ready.create_infer_request()
    return lambda pictures: list(request.infer([pictures], share_inputs=True).values())


def run_each(run: Compiled, pictures: Sequence[np.ndarray]) -> np.ndarray:
    """(N, D) first outputs for N pictures (height, width, 3) of any shapes."""
    return np.concatenate([run(picture[None])[0] for picture in pictures])


def pack(model: Any) -> Graph:
    """A model as bytes, weights in float32."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "graph.xml"
        openvino.save_model(model, file, compress_to_fp16=False)
        weights = np.fromfile(file.with_suffix(".bin"), np.uint8)
        return Graph(file.read_bytes(), weights)


def unpack(graph: Graph) -> Any:
    """The model of packed bytes."""
    weights = openvino.Tensor(np.ascontiguousarray(graph.weights))
    return openvino.Core().read_model(graph.xml, weights)
