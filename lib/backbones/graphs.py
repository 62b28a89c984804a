"""Networks as OpenVINO graphs: packed to travel, compiled for this CPU; without PyTorch."""

import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

# OpenVINO reports each import to its makers unless this part of it is absent.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
try:
    import openvino as openvino  # handed on: the other modules look here whether it is there
except ImportError:  # no wheel for this platform: PyTorch computes
    openvino = None

Compiled = Callable[[np.ndarray], list[np.ndarray]]


class Graph(NamedTuple):
    """An OpenVINO model in memory, as its two files are."""

    xml: bytes
    weights: np.ndarray  # uint8


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
    """A model made ready for this CPU: from pictures (N, height, width, 3) uint8 to its outputs."""
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


def add_feature_map(model: Any) -> None:
    """Have a model give, after descriptors (N, D), the (N, D, h, w) map of which they are the mean.

    One that ends otherwise stays as it is.
    """
    node = model.get_results()[0].input_value(0).get_node()
    while node.get_type_name() in ("Reshape", "Squeeze"):
        node = node.input_value(0).get_node()
    shape = node.output(0).partial_shape
    if node.get_type_name() == "ReduceMean" and shape.rank == 4 and shape[2] == shape[3] == 1:
        model.add_outputs([node.input_value(0)])


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
