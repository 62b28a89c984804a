"""The same photographs to descriptors in Parquet, by this project's job and by two peers.

    python -m benchmarks.peers --images DIR [--count 1400] [--weights FILE] [--json FILE]

Each command is timed from its start to its end, imports and Ray's start included. Ray Data as its
documentation writes image classification (per-row transforms of torchvision, one model actor,
float32); Daft as its documentation does (download, decode, a class as function, float32):
pip install daft. All three take the same ResNet18 without its last layer.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import benchmarks


def ours(images: str, output: str, weights: str) -> None:
    """`jobs.extract_descriptors` with its defaults."""
    from jobs.extract_descriptors import main as job

    job(["--images", images, "--db", output, "--weights", weights])


def _network(weights: str) -> Any:
    from lib.backbones.backbone import load_backbone

    return load_backbone("resnet18", weights).network


def ray_data(images: str, output: str, weights: str) -> None:
    """docs.ray.io, "Image Classification Batch Inference with PyTorch ResNet"."""
    import ray
    import torch
    from torchvision.models import ResNet18_Weights

    transform = ResNet18_Weights.DEFAULT.transforms()

    def preprocess(row: dict[str, np.ndarray]) -> dict[str, Any]:
        image = torch.from_numpy(row["image"].copy()).permute(2, 0, 1)
        return {"path": row["path"], "transformed": transform(image).numpy()}

    class Model:
        def __init__(self) -> None:
            self.network = _network(weights).eval()

        def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            with torch.inference_mode():
                descriptors = self.network(torch.from_numpy(batch["transformed"]))
            return {"path": batch["path"], "descriptor": descriptors.numpy()}

    photographs = ray.data.read_images(images, mode="RGB", include_paths=True)
    transformed = photographs.map(preprocess)
    transformed.map_batches(Model, concurrency=1, batch_size=64).write_parquet(output)


def daft(images: str, output: str, weights: str) -> None:
    """docs.daft.ai: download, decode, and a class that keeps the network."""
    import daft as df
    import torch
    from torchvision.models import ResNet18_Weights

    @df.cls
    class Model:
        def __init__(self) -> None:
            self.network = _network(weights).eval()
            self.transform = ResNet18_Weights.DEFAULT.transforms()

        @df.method.batch(return_dtype=df.DataType.list(df.DataType.float32()), batch_size=64)
        def describe(self, pictures: Any) -> Any:
            inputs = [
                self.transform(torch.from_numpy(np.ascontiguousarray(each)).permute(2, 0, 1))
                for each in pictures.to_pylist()
            ]
            with torch.inference_mode():
                return self.network(torch.stack(inputs)).numpy().tolist()

    frame = df.from_glob_path(f"{images}/*.jpg")
    pictures = frame.with_column(
        "image", df.col("path").download().decode_image(mode=df.ImageMode.RGB)
    )
    described = pictures.with_column("descriptor", Model().describe(df.col("image")))
    described.select("path", "descriptor").write_parquet(output)


PEERS: dict[str, Callable[[str, str, str], None]] = {
    "this project": ours,
    "Ray Data": ray_data,
    "Daft": daft,
}


def main() -> None:
    """Time each command, or run one."""
    parser = benchmarks.parser(__doc__)
    parser.add_argument("--images", required=True, help="directory of JPEG photographs")
    parser.add_argument(
        "--count", type=int, default=1_400, help="images; copies where there are fewer"
    )
    parser.add_argument("--weights", default="random", metavar="FILE", help="of a ResNet18")
    parser.add_argument("--run", choices=list(PEERS), help="one of them, for OUTPUT")
    parser.add_argument("--output", metavar="DIR")
    options = parser.parse_args()
    if options.run:
        PEERS[options.run](options.images, options.output, options.weights)
        return
    rates: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        files = sorted(Path(options.images).resolve().rglob("*.jpg"))
        copies = Path(folder) / "images"
        copies.mkdir()
        for row in range(options.count):
            shutil.copyfile(files[row % len(files)], copies / f"{row:06}.jpg")
        for name in PEERS:
            rates[name] = start_to_finish(name, copies, Path(folder) / name, options)
    own = rates["this project"]
    for name, rate in rates.items():
        print(f"{name:14} {rate:7.1f} images/s, start to finish; this project {own / rate:.1f} ×")
    benchmarks.write_json(options.json, rates)


def start_to_finish(name: str, images: Path, output: Path, options: argparse.Namespace) -> float:
    """Images a second of a command, all that it takes included."""
    command = [sys.executable, "-m", "benchmarks.peers", "--images", str(images), "--run", name]
    command += ["--output", str(output), "--weights", options.weights]
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return float(options.count / (time.perf_counter() - start))


if __name__ == "__main__":
    main()
