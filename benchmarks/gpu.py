"""How fast one GPU describes and searches, without Ray: for the first person who has one.

    python -m benchmarks.gpu --images DIR [--backbone resnet18] [--weights FILE] [--json FILE]

Needs torch, torchvision, pyarrow and what lib imports; takes some minutes. Decoding on the CPU and
on the GPU, the forward pass, JPEG files to Parquet as a worker does it, the fidelity of what it
writes, and exact search over a million embeddings against the CPU's answers.
"""

import argparse
import itertools
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

import benchmarks
from benchmarks.extraction import available_weights, pictures_of
from lib.backbones.backbone import Backbone, as_batch, load_backbone
from lib.backbones.engines import Forms
from lib.backbones.graphs import cosines_of
from lib.backbones.torch_engine import TorchEngine
from lib.cores import usable_cores
from lib.descriptors.calibration import choose_forms
from lib.descriptors.extractor import DescriptorExtractor, build_extractor
from lib.descriptors.shards import LARGEST_GPU_SHARD, ExtractionSettings, workers_at_a_gpu
from lib.images.listed import ListedImage
from lib.images.preprocessing import decode, for_gpu, resize_with_torch
from lib.schemas import Computation, column_to_vectors
from lib.topk.exact import ExactSearch


def main() -> None:
    """Measure, print, and write the figures as JSON where asked to."""
    options = parse()
    files = sorted(str(file) for file in Path(options.images).rglob("*.jpg"))
    figures: dict[str, Any] = {
        "device": name_of(options.device),
        "processor": platform.processor() or platform.machine(),
        "cores": usable_cores(),
        "torch": torch.__version__,
        "photographs": len(files),
    }
    weights = options.weights or available_weights(options.backbone)
    backbone = load_backbone(options.backbone, weights)
    show(figures)
    contents = [Path(file).read_bytes() for file in files[:512]]
    show(figures, decode_images_per_s=decoding(backbone, contents, options.seconds))
    show(figures, **decoding_on_gpu(backbone, contents, options))
    pictures = pictures_of(backbone, files[:512])
    for bfloat16 in (False, True):
        name = f"forward_{'bfloat16' if bfloat16 else 'float32'}_images_per_s"
        show(figures, **{name: forward(backbone, pictures, options, bfloat16)})
    show(figures, **searching(options))
    show(figures, **files_to_parquet(backbone, weights, files, options))
    decoded = max(figures["decode_images_per_s"], figures.get("gpu_decode_images_per_s", 0.0))
    least = min(decoded, figures["forward_bfloat16_images_per_s"])
    show(figures, share_of_limit=figures["files_to_parquet_images_per_s"] / least)
    benchmarks.write_json(options.json, figures)


def parse() -> argparse.Namespace:
    """Arguments of the benchmark."""
    parser = benchmarks.parser(__doc__)
    parser.add_argument("--images", required=True, help="directory of JPEG photographs")
    parser.add_argument("--count", type=int, default=64_000, help="images from files to Parquet")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--weights", metavar="FILE", help="default: official, else random")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rows", type=int, default=1_000_000, help="embeddings to search")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each stage")
    return parser.parse_args()


def show(figures: dict[str, Any], **more: Any) -> None:
    """Print some figures and keep them."""
    for name, value in (more or dict(figures)).items():
        print(f"{name:36} {value:.5g}" if isinstance(value, float) else f"{name:36} {value}")
    figures |= more


def name_of(device: str) -> str:
    """What the device is called."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def rate(work: Callable[[], int], for_s: float) -> float:
    """See `benchmarks.rate`; after a run to warm up."""
    work()
    return benchmarks.rate(work, for_s)


def decoding(backbone: Backbone, contents: Sequence[bytes], seconds: float) -> float:
    """Images a second decoded and resized by all cores."""
    torch.set_num_threads(1)
    one = partial(decode, preprocessing=backbone.preprocessing, resize=resize_with_torch)
    with ThreadPoolExecutor(usable_cores()) as pool:
        return rate(lambda: len(list(pool.map(one, contents))), seconds)


def decoding_on_gpu(
    backbone: Backbone, contents: Sequence[bytes], options: argparse.Namespace
) -> dict[str, Any]:
    """Images a second that a process has decoded and resized; how far its pixels are from ours."""
    if not options.device.startswith("cuda"):
        return {"gpu_decode": "no GPU"}
    from lib.images.gpu_decoding import GpuDecoder

    decoder = GpuDecoder(backbone.preprocessing, options.device)
    jpegs = [jpeg for jpeg in map(for_gpu, contents) if jpeg][:256]

    def batch() -> int:
        decoder(jpegs)
        torch.cuda.synchronize()
        return len(jpegs)

    here = [decode(jpeg.content, backbone.preprocessing).pixels for jpeg in jpegs]
    there = [pixels.cpu().numpy() for pixels in decoder(jpegs)]
    apart = [np.abs(a.astype(int) - b).mean() for a, b in zip(here, there, strict=True)]
    return {
        "left_to_gpu": len(jpegs) / min(len(contents), 256),
        "gpu_decode_images_per_s": rate(batch, options.seconds),
        "gpu_decode_mean_difference": float(np.mean(apart)),
    }


def forward(
    backbone: Backbone, pictures: Sequence[np.ndarray], options: argparse.Namespace, bfloat16: bool
) -> float:
    """Images a second from pictures in memory to descriptors in memory."""
    network = load_backbone(backbone.name, "random")
    engine = TorchEngine(network, options.device, bfloat16)
    shape = max({each.shape for each in pictures}, key=[each.shape for each in pictures].count)
    alike = [each for each in pictures if each.shape == shape]
    batch = list(itertools.islice(itertools.cycle(alike), engine.batch_size))
    return rate(lambda: len(engine(batch)), options.seconds)


def files_to_parquet(
    backbone: Backbone, weights: str | None, files: list[str], options: argparse.Namespace
) -> dict[str, Any]:
    """Images a second of as many workers as share a GPU, and how near to float32 what they write
    is, over all photographs.
    """
    workers = workers_at_a_gpu(usable_cores())
    settings = ExtractionSettings(cpus_per_worker=usable_cores() // workers)
    judges = [listed(file) for file in files[:32]]
    forms = choose_forms(backbone, "fast", options.count, 0, True, lambda _: judges)
    names = itertools.islice(itertools.cycle(files), options.count)
    images = list(map(listed, names))
    size = min(LARGEST_GPU_SHARD, -(-options.count // workers))
    shards = [images[first : first + size] for first in range(0, len(images), size)]
    context = get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        start = backbone.name, weights, forms, settings, options.device, context.Barrier(workers)
        with ProcessPoolExecutor(workers, context, _start_worker, start) as pool:
            work = [folder] * len(shards), range(len(shards)), shards
            spans = list(pool.map(_write_shard, *work))
        tables = [
            pq.read_table(f"{folder}/{shard}.parquet", columns=["descriptor"])
            for shard in range(-(-len(files) // size))
        ]
        written = np.concatenate([column_to_vectors(table["descriptor"]) for table in tables])
        computed = Computation.from_schema(pq.read_schema(f"{folder}/0.parquet"))
    pictures = pictures_of(backbone, files)
    expected = np.concatenate([backbone.extract(as_batch(each)).numpy() for each in pictures])
    cosines = cosines_of(written[: len(files)], expected)
    seconds = max(end for _, end in spans) - min(begin for begin, _ in spans)
    return {
        "workers": workers,
        "engine": computed.engine if computed else "",
        "files_to_parquet_images_per_s": len(images) / seconds,
        "least_cosine": float(cosines.min()),
        "median_cosine": float(np.median(cosines)),
    }


def listed(file: str) -> ListedImage:
    """A file as extraction lists it."""
    return ListedImage(file, file, Path(file).stat().st_size, "", file)


_extractor: DescriptorExtractor


def _start_worker(
    name: str,
    weights: str | None,
    forms: Forms,
    settings: ExtractionSettings,
    device: str,
    barrier: Barrier,
) -> None:
    """Make a process ready; none begins before all are."""
    global _extractor
    backbone = load_backbone(name, weights)
    _extractor = build_extractor(backbone.origin, forms, lambda: backbone, device, settings)
    barrier.wait()


def _write_shard(folder: str, shard: int, images: list[ListedImage]) -> tuple[float, float]:
    """Describe a shard as a worker does; when it began and ended."""
    begin = time.time()
    extracted = _extractor.extract(images)
    if extracted.failures:
        raise SystemExit(f"failed: {extracted.failures.to_pylist()[0]}")
    pq.write_table(extracted.descriptors, f"{folder}/{shard}.parquet")
    return begin, time.time()


def searching(options: argparse.Namespace) -> dict[str, Any]:
    """Mean milliseconds of exact top 10 over random embeddings by batch; whether they are right."""
    embeddings = benchmarks.drawn_unit_rows(options.rows, 50, 0)
    cpu = ExactSearch(embeddings)
    figures: dict[str, Any] = {}
    for kind in ("float32", "bfloat16"):
        search = ExactSearch(embeddings, precision=kind, device=options.device)
        for batch in (1, 32, 256):
            queries = embeddings[:batch]
            times = benchmarks.seconds(lambda: search.top_k(queries, 10), 50)  # noqa: B023
            figures[f"search_{kind}_{batch}_ms"] = 1_000 * float(np.mean(times))
        same = np.array_equal(
            search.top_k(embeddings[:32], 10)[0], cpu.top_k(embeddings[:32], 10)[0]
        )
        figures[f"search_{kind}_same_rows"] = same
    return figures


if __name__ == "__main__":
    main()
