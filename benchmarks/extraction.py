"""How fast descriptors are extracted: a plain loop, each stage alone, and the job through Ray.

    python -m benchmarks.extraction --images DIR [--json FILE]
    python -m benchmarks.extraction --images DIR --engines

The second compares what could do the forward pass, what could resize, and the scales at which large
pictures could be decoded, by the time of one core.
All on the same photographs in one run. `limit` is what the machine could do if the stages cost
nothing beyond themselves: on a CPU 1/(1/decode + 1/forward), on a GPU the slower of the two; what
is set against it is the job without the preparation of its network, which takes as long however
many images follow.
"""

import argparse
import io
import itertools
import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torchvision.transforms import (
    CenterCrop,
    Compose,
    InterpolationMode,
    Normalize,
    Resize,
    ToTensor,
)

import benchmarks
from lib.backbones.backbone import Backbone, as_batch, load_backbone
from lib.backbones.engines import Engine, Forms, OpenVinoEngine, Sample, choose
from lib.backbones.graphs import cosines_of, has_bfloat16
from lib.backbones.preparation import prepare
from lib.backbones.torch_engine import TorchEngine
from lib.errors import MissingError
from lib.images.preprocessing import RESIZES_FAST, decode, resize, resize_with_torch
from lib.images.preprocessing import Resize as Resizer

MEASURED_S = 5.0


def main() -> None:
    """Measure, print a table, and write the figures as JSON where asked to."""
    options = parse()
    files = sorted(str(file) for file in Path(options.images).rglob("*.jpg"))[: options.count]
    weights = options.weights or available_weights(options.backbone)
    backbone = load_backbone(options.backbone, weights)
    if options.engines:
        compare_engines(backbone, files)
        compare_resizers(backbone, files)
        compare_scales(backbone, files)
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    processes = 1 if device == "cuda" else os.cpu_count() or 1
    threads = (os.cpu_count() or 1) if device == "cuda" else 1
    case = (options.backbone, weights, device, threads)
    with tempfile.TemporaryDirectory() as folder:
        listing = repeat(files, options.count, Path(folder) / "list.parquet")
        rounds = [
            {
                "plain_images_per_s": plain(backbone, files),
                "decode_images_per_s": together(processes, decode_alone, case, files),
                "forward_images_per_s": together(processes, forward_alone, case, files),
                **job(backbone, listing, Path(folder) / "db", device, threads),
            }
            for _ in range(options.rounds)
        ]
        figures: dict[str, Any] = {
            name: statistics.median(each[name] for each in rounds) for name in rounds[0]
        }
        decoding, forward = figures["decode_images_per_s"], figures["forward_images_per_s"]
        serial = 1 / (1 / decoding + 1 / forward)
        limit = min(decoding, forward) if device == "cuda" else serial
        figures["limit_images_per_s"] = limit
        figures["limit_ratio"] = figures["prepared_images_per_s"] / limit
        figures["plain_ratio"] = figures["prepared_images_per_s"] / figures["plain_images_per_s"]
    fast = engine_of(backbone, files, device, 1)
    figures["engine"] = fast.name
    figures.update(fidelity(backbone, fast, files))
    figures |= {
        "backbone": options.backbone,
        "weights": "random" if weights == "random" else "official",
        "device": device,
        "cores": os.cpu_count(),
        "photographs": len(files),
        "images": options.count,
    }
    for name, value in figures.items():
        print(f"{name:32} {value:.4g}" if isinstance(value, float) else f"{name:32} {value}")
    benchmarks.write_json(options.json, figures)


def parse() -> argparse.Namespace:
    """Arguments of the benchmark."""
    parser = benchmarks.parser(__doc__)
    parser.add_argument("--images", required=True, help="directory of JPEG photographs")
    parser.add_argument("--count", type=int, default=2000, help="images a job describes")
    parser.add_argument("--rounds", type=int, default=1, help="rounds; the median counts")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--weights", help="default: official, else random (as fast)")
    parser.add_argument("--engines", action="store_true", help="compare engines, nothing else")
    return parser.parse_args()


def available_weights(name: str) -> str | None:
    """None for the official weights where they can be had, else `random`."""
    try:
        load_backbone(name)
    except MissingError as error:
        print(f"untrained weights, which take the same time ({error})", file=sys.stderr)
        return "random"
    return None


def repeat(files: list[str], count: int, target: Path) -> Path:
    """A list that names the photographs again and again, each time as another image."""
    uris = [files[index % len(files)] for index in range(count)]
    paths = [f"{index:08}" for index in range(count)]
    pq.write_table(pa.table({"path": paths, "uri": uris}), target)
    return target


def reference_transforms(backbone: Backbone) -> Callable[[Image.Image], torch.Tensor]:
    """The weights' own preprocessing from torchvision's parts."""
    own = backbone.preprocessing
    return Compose(
        [
            Resize(own.resize, InterpolationMode(own.interpolation)),
            CenterCrop(own.crop),
            ToTensor(),
            Normalize(own.mean, own.std),
        ]
    )


def plain(backbone: Backbone, files: list[str]) -> float:
    """Images a second of the loop most people write: Pillow, transforms, batches of 32, float32."""
    transforms = reference_transforms(backbone)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = load_backbone(backbone.name, "random").network.to(device)
    done = 0
    start = 0.0
    with torch.inference_mode():
        while not done or time.perf_counter() - start < MEASURED_S:
            chosen = [files[(done + index) % len(files)] for index in range(32)]
            batch = [transforms(Image.open(file).convert("RGB")) for file in chosen]
            network(torch.stack(batch).to(device)).cpu()
            done += 32
            if done == 32:
                start = time.perf_counter()  # the first batch warmed up
    return (done - 32) / (time.perf_counter() - start)


Case = tuple[str, str | None, str, int]


def together(processes: int, stage: Callable[..., float], case: Case, files: list[str]) -> float:
    """Images a second of a stage in several processes at once, one for each worker."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes)
    with context.Pool(processes, _share, (barrier,)) as pool:
        return sum(pool.starmap(stage, [(case, files)] * processes, chunksize=1))


def _share(barrier: Any) -> None:
    global _barrier
    _barrier = barrier


_barrier: Any = None


def decode_alone(case: Case, files: list[str]) -> float:
    """Images a second of reading and decoding as a worker does it, with all its threads."""
    torch.set_num_threads(1)
    name, _, _, threads = case
    one = partial(decode, preprocessing=load_backbone(name, "random").preprocessing)
    contents = [Path(file).read_bytes() for file in files[:64]]
    with ThreadPoolExecutor(threads) as pool:
        return _rate(lambda: len(list(pool.map(one, contents))))


def forward_alone(case: Case, files: list[str]) -> float:
    """Images a second from uint8 batches in memory, shaped as photographs are, to descriptors."""
    name, weights, device, threads = case
    torch.set_num_threads(threads)
    backbone = load_backbone(name, weights)
    engine = engine_of(backbone, files, device, threads)
    pictures = itertools.cycle(pictures_of(backbone, files[:64]))
    return _rate(lambda: len(engine([next(pictures)] * engine.batch_size)))


def _rate(work: Callable[[], int]) -> float:
    work()
    _barrier.wait()
    return benchmarks.rate(work, MEASURED_S)


def job(backbone: Backbone, listing: Path, db: Path, device: str, threads: int) -> dict[str, float]:
    """Images a second of the job with its workers up, from listing to files written; and without
    the preparation of the network.
    """
    from lib.cluster import connect
    from lib.descriptors.extraction import extract
    from lib.descriptors.shards import ExtractionSettings

    gpus = 1.0 if device == "cuda" else 0.0
    settings = ExtractionSettings(shard_size=100, cpus_per_worker=threads, gpus_per_worker=gpus)
    with connect():
        warm = listing.with_name("warm.parquet")
        pq.write_table(pq.read_table(listing).slice(0, 400), warm)
        extract(str(warm), str(db), backbone, settings)
        shutil.rmtree(db)
        start = time.perf_counter()
        run = extract(str(listing), str(db), backbone, settings)
        seconds = time.perf_counter() - start
    shutil.rmtree(db)
    count = run.described + run.failed
    return {
        "job_images_per_s": count / seconds,
        "prepared_images_per_s": count / (seconds - run.preparation_seconds),
    }


def pictures_of(backbone: Backbone, files: list[str]) -> list[np.ndarray]:
    """Pictures (height, width, 3) uint8 as the network sees them."""
    decoded = (decode(Path(file).read_bytes(), backbone.preprocessing).pixels for file in files)
    return [np.ascontiguousarray(pixels) for pixels in decoded]


def forms_of(backbone: Backbone, files: list[str]) -> Forms:
    """What a job over many such photographs computes with: some of them calibrate."""
    pictures = pictures_of(backbone, files[::4][:64])
    return prepare(backbone, "fast", [Sample(picture, picture) for picture in pictures])


def engine_of(backbone: Backbone, files: list[str], device: str, threads: int) -> Engine:
    """The engine that a job over many such photographs takes."""
    return choose(forms_of(backbone, files), lambda: backbone, device, threads)[0]


def fidelity(backbone: Backbone, engine: Engine, files: list[str]) -> dict[str, float]:
    """Cosines of an engine's descriptors to those of the network in PyTorch, in float32."""
    cosines = []
    for picture in pictures_of(backbone, files):
        expected = backbone.extract(torch.from_numpy(picture).permute(2, 0, 1)[None]).numpy()
        cosines.append(cosines_of(engine([picture]), expected)[0])
    return {"min_cosine": float(min(cosines)), "mean_cosine": float(np.mean(cosines))}


def compare_engines(backbone: Backbone, files: list[str]) -> None:
    """Print images a second of one core, and the least cosine, of each engine that is at hand."""
    torch.set_num_threads(1)
    forms, pictures = forms_of(backbone, files), pictures_of(backbone, files[:64])
    engines: list[Engine] = [TorchEngine(backbone, "cpu", False)]
    if forms.float32 is not None:
        engines.append(OpenVinoEngine(forms.float32, "float32", 1))
        if has_bfloat16():
            engines.append(OpenVinoEngine(forms.float32, "bfloat16", 1, True))
        if forms.int8 is not None:
            engines.append(OpenVinoEngine(forms.int8, forms.int8_name, 1, has_bfloat16()))
    for engine in engines:
        batch = [pictures[0]] * engine.batch_size
        engine(batch)
        start, done = time.process_time(), 0  # whatever else the machine does
        while time.process_time() - start < MEASURED_S:
            engine(batch)
            done += len(batch)
        rate = done / (time.process_time() - start)
        cosine = fidelity(backbone, engine, files[:64])["min_cosine"]
        print(f"{engine.name:60} {rate:8.1f} images/s and core, least cosine {cosine:.5f}")


def compare_resizers(backbone: Backbone, files: list[str]) -> None:
    """Print milliseconds a picture, on one core, of all that could resize, and how they differ."""
    preprocessing = backbone.preprocessing
    interpolation = preprocessing.interpolation
    method = Image.Resampling[interpolation.upper()]
    pictures = [np.array(Image.open(file).convert("RGB")) for file in files[:64]]
    sizes = [preprocessing.frame(*picture.shape[1::-1]).resized for picture in pictures]

    def pillow(pixels: np.ndarray, size: tuple[int, int], interpolation: str) -> np.ndarray:
        return np.asarray(Image.fromarray(pixels).resize(size, method))

    expected = [pillow(*each, interpolation) for each in zip(pictures, sizes, strict=True)]
    ways: dict[str, Resizer] = {"Pillow": pillow, "PyTorch": resize_with_torch}
    if RESIZES_FAST:
        ways["cykooz-resizer"] = resize
    for name, way in ways.items():
        way(pictures[0], sizes[0], interpolation)
        start = time.process_time()
        results = [way(*each, interpolation) for each in zip(pictures, sizes, strict=True)]
        spent = (time.process_time() - start) / len(pictures)
        other = [a != b for a, b in zip(results, expected, strict=True)]
        share = np.concatenate([differs.ravel() for differs in other]).mean()
        print(f"{name:60} {1e3 * spent:8.2f} ms a picture, {share:.2%} of values not Pillow's")


def compare_scales(backbone: Backbone, files: list[str]) -> None:
    """Print milliseconds a picture of 11 megapixels, on one core, decoded whole and at the scale
    that the job takes, and the cosine between the descriptors.

    The pictures are mosaics of 36 photographs: they are as sharp as a camera's at best.
    """
    contents = [mosaic(files[first:] + files[:first]) for first in range(12)]
    descriptors = []
    for scaled in (False, True):
        start = time.process_time()
        pictures = [decode(each, backbone.preprocessing, scaled=scaled).pixels for each in contents]
        spent = (time.process_time() - start) / len(pictures)
        extracted = [backbone.extract(as_batch(picture)).numpy() for picture in pictures]
        descriptors.append(np.concatenate(extracted))
        cosine = float(cosines_of(descriptors[-1], descriptors[0]).min())
        name = f"decoded {'at a smaller scale' if scaled else 'whole'}"
        print(f"{name:60} {1e3 * spent:8.1f} ms a picture, least cosine {cosine:.5f}")


def mosaic(files: list[str]) -> bytes:
    """A JPEG file of 3840 × 2880 pixels: six rows of six photographs."""
    size = 640, 480
    large = Image.new("RGB", (6 * size[0], 6 * size[1]))
    for place, file in zip(range(36), itertools.cycle(files), strict=False):
        picture = Image.open(file).convert("RGB").resize(size)
        large.paste(picture, (place % 6 * size[0], place // 6 * size[1]))
    sink = io.BytesIO()
    large.save(sink, "JPEG", quality=92)
    return sink.getvalue()


if __name__ == "__main__":
    main()
