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
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

import benchmarks
from benchmarks.extraction import available_weights, pictures_of
from lib.backbones.backbone import Backbone, load_backbone
from lib.backbones.engines import choose
from lib.backbones.graphs import cosines_of
from lib.backbones.preparation import prepare
from lib.backbones.torch_engine import TorchEngine
from lib.cores import usable_cores
from lib.descriptors.extractor import DescriptorExtractor
from lib.images.listed import ListedImage
from lib.images.preprocessing import decode, resize_with_torch
from lib.schemas import column_to_vectors, descriptor_schema
from lib.topk.exact import ExactSearch

JUDGES = 64  # pictures


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
    show(figures, **decoding_on_gpu(contents, options))
    pictures = pictures_of(backbone, files[:512])
    for bfloat16 in (False, True):
        name = f"forward_{'bfloat16' if bfloat16 else 'float32'}_images_per_s"
        show(figures, **{name: forward(backbone, pictures, options, bfloat16)})
    show(figures, **files_to_parquet(backbone, files, options))
    least = min(figures["decode_images_per_s"], figures["forward_bfloat16_images_per_s"])
    show(figures, share_of_limit=figures["files_to_parquet_images_per_s"] / least)
    show(figures, **searching(options))
    benchmarks.write_json(options.json, figures)


def parse() -> argparse.Namespace:
    """Arguments of the benchmark."""
    parser = benchmarks.parser(__doc__)
    parser.add_argument("--images", required=True, help="directory of JPEG photographs")
    parser.add_argument("--count", type=int, default=40_000, help="images from files to Parquet")
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


def decoding_on_gpu(contents: Sequence[bytes], options: argparse.Namespace) -> dict[str, Any]:
    """Images a second that nvJPEG decodes, not resized; and how far its pixels are from ours."""
    if not options.device.startswith("cuda"):
        return {"nvjpeg_images_per_s": "no GPU"}
    from torchvision.io import ImageReadMode, decode_jpeg

    data = [torch.frombuffer(bytearray(content), dtype=torch.uint8) for content in contents[:256]]

    def batch() -> int:
        decode_jpeg(data, mode=ImageReadMode.RGB, device=options.device)
        torch.cuda.synchronize()
        return len(data)

    here = decode_jpeg(data[0], mode=ImageReadMode.RGB).float()
    there = decode_jpeg(data[0], mode=ImageReadMode.RGB, device=options.device).cpu().float()
    return {
        "nvjpeg_images_per_s": rate(batch, options.seconds),
        "nvjpeg_mean_difference_of_pixels": float((here - there).abs().mean()),
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
    backbone: Backbone, files: list[str], options: argparse.Namespace
) -> dict[str, Any]:
    """Images a second of a worker, and the least cosine of what it wrote to float32's."""
    judges = pictures_of(backbone, files[:JUDGES])
    inputs = (torch.from_numpy(each).permute(2, 0, 1)[None] for each in judges)
    expected = np.concatenate([backbone.extract(each).numpy() for each in inputs])
    forms = prepare(backbone, "fast", judges[: JUDGES // 2])
    cpu = not options.device.startswith("cuda")
    engine, computation = choose(forms, lambda: backbone, options.device, usable_cores())
    schema = descriptor_schema(backbone.provenance("float32"), computation)
    extractor = DescriptorExtractor(
        engine, backbone.preprocessing, schema, usable_cores(), overlap=not cpu
    )
    names = itertools.islice(itertools.cycle(files), options.count)
    images = [
        ListedImage(f"{row}", name, Path(name).stat().st_size, "", f"{row}")
        for row, name in enumerate(names)
    ]
    with tempfile.TemporaryDirectory() as folder:
        extractor.extract(images[:256])  # warms up
        start = time.perf_counter()
        for first in range(0, len(images), 1_000):
            table = extractor.extract(images[first : first + 1_000]).descriptors
            pq.write_table(table, f"{folder}/{first}.parquet")
        seconds = time.perf_counter() - start
        written = column_to_vectors(pq.read_table(f"{folder}/0.parquet")["descriptor"])
    count = min(len(written), len(expected))
    return {
        "engine": engine.name,
        "files_to_parquet_images_per_s": len(images) / seconds,
        "least_cosine": float(cosines_of(written[:count], expected[:count]).min()),
    }


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
