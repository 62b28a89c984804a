"""Cuts the sorted image list into shards, and describes one shard in a Ray worker."""

import hashlib
import itertools
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray
import torch

from lib.descriptors.backbones import Backbone, Preprocessing, build_network
from lib.descriptors.extractor import Compute, Describer, Failure
from lib.descriptors.plan import writing
from lib.errors import MissingError
from lib.images.listing import ListedImage
from lib.schemas import FAILURES, Precision
from lib.storage import join, write_table_atomic

SHARDS_WANTED = 32  # of a small collection, so that several workers have their share
LEAST_SHARD, LARGEST_SHARD = 100, 1000


@dataclass(frozen=True)
class Settings:
    """How images are described, and by what size of worker."""

    precision: Precision = "float32"
    compute: Compute = "auto"
    shard_size: int | None = None  # None: what `suitable_shard_size` says
    cpus_per_worker: int = 1
    gpus_per_worker: float = 0.0


@dataclass(frozen=True)
class Shard:
    """A segment of the sorted image list, one file of the database."""

    position: int  # of its first image in the list
    images: list[ListedImage]

    @property
    def name(self) -> str:
        """File name without ending; follows from place and content, so a repeat has the same."""
        content = "\n".join(f"{image.path}\t{image.bytes}\t{image.etag}" for image in self.images)
        digest = hashlib.sha256(content.encode("utf-8", "surrogateescape")).hexdigest()
        return f"{self.position:012d}-{digest[:16]}"

    def halves(self) -> list["Shard"]:
        """The shard as two."""
        middle = len(self.images) // 2
        return [
            Shard(self.position, self.images[:middle]),
            Shard(self.position + middle, self.images[middle:]),
        ]


def suitable_shard_size(images: int) -> int:
    """Images a shard: 1,000, and fewer of a small collection, down to 100."""
    return min(max(-(-images // SHARDS_WANTED), LEAST_SHARD), LARGEST_SHARD)


def cut_shards(pending: Iterable[tuple[int, ListedImage]], shard_size: int) -> Iterator[Shard]:
    """Shards of `shard_size` images, the last one of fewer, in the order of the list."""
    source = iter(pending)
    while segment := list(itertools.islice(source, shard_size)):
        yield Shard(segment[0][0], [image for _, image in segment])


@dataclass(frozen=True)
class ShardReport:
    """What a worker tells the driver of a finished shard."""

    described: int
    failed: int
    reasons: Counter[str]
    example: str  # one of the failures, in words
    seconds: dict[str, float]


@dataclass(frozen=True)
class Package:
    """All a worker needs to build the backbone; travels through Ray's object store once."""

    name: str
    state: dict[str, Any]
    preprocessing: Preprocessing
    descriptor_size: int
    weights_digest: str

    @classmethod
    def of(cls, backbone: Backbone) -> "Package":
        """Pack a loaded backbone; arrays, because Ray hands those out without a copy."""
        state = {name: value.numpy() for name, value in backbone.network.state_dict().items()}
        return cls(
            backbone.name,
            state,
            backbone.preprocessing,
            backbone.descriptor_size,
            backbone.weights_digest,
        )

    def unpack(self) -> Backbone:
        """The backbone, in the memory of this process."""
        state = {name: torch.from_numpy(value.copy()) for name, value in self.state.items()}
        network = build_network(self.name, state)
        return Backbone(
            self.name, network, self.preprocessing, self.descriptor_size, self.weights_digest
        )


# Without a limit on calls Ray keeps a process, and the network in it, from shard to shard, also
# where it has a GPU. A shard that dies with its process is handed out again by
# `lib.descriptors.extraction`.
@ray.remote(max_retries=0, max_calls=0)
def describe_shard(
    package: list[Any], digest: str, settings: Settings, db: str, shard: Shard
) -> ShardReport:
    """Describe the images of a shard and write its files; `package` holds a reference to one."""
    result = _describer(package, digest, settings).describe(shard.images)
    start = time.perf_counter()
    _write(db, "failures", shard, result.failures)
    _write(db, "descriptors", shard, result.descriptors)
    result.seconds["write"] += time.perf_counter() - start
    return ShardReport(
        result.descriptors.num_rows,
        *_failures(result.failures),
        result.seconds,
    )


def record_crash(db: str, shard: Shard, error: Exception) -> ShardReport:
    """Note that an image, alone in a shard, takes down every process that touches it."""
    failure = Failure("crashed", f"every worker that tried it died ({type(error).__name__})")
    table = pa.Table.from_pylist([failure.row(image) for image in shard.images], schema=FAILURES)
    _write(db, "failures", shard, table)
    return ShardReport(0, *_failures(table), {})


def _write(db: str, kind: str, shard: Shard, table: pa.Table) -> None:
    if table.num_rows:
        url = join(db, kind, f"{shard.name}.parquet")
        write_table_atomic(table, url, **writing(url))


def _failures(table: pa.Table) -> tuple[int, Counter[str], str]:
    rows = table.select(["uri", "reason", "message"]).slice(0, 1).to_pylist()
    example = f"{rows[0]['uri']}: {rows[0]['reason']}, {rows[0]['message']}" if rows else ""
    return table.num_rows, Counter(table.column("reason").to_pylist()), example


_describers: dict[tuple[str, Settings, str], Describer] = {}


def _describer(package: list[Any], digest: str, settings: Settings) -> Describer:
    """This process's describer: built for its first shard, kept for all others."""
    device = _device(settings)
    key = digest, settings, device
    if key not in _describers:
        torch.set_num_threads(settings.cpus_per_worker)
        _describers[key] = Describer(
            ray.get(package[0]).unpack(),
            settings.precision,
            device,
            settings.cpus_per_worker,
            settings.compute,
        )
    return _describers[key]


def _device(settings: Settings) -> str:
    if not settings.gpus_per_worker:
        return "cpu"
    if not torch.cuda.is_available():
        node = ray.get_runtime_context().get_node_id()
        raise MissingError(
            f"Ray gives node {node} a GPU, but PyTorch {torch.__version__} finds no CUDA there: "
            "install a CUDA build, or run with --gpus-per-worker 0"
        )
    # The process outlives the shard and may be given another GPU for the next one.
    (assigned,) = ray.get_runtime_context().get_accelerator_ids()["GPU"][:1] or ["0"]
    return f"cuda:{assigned}" if assigned.isdigit() else "cuda"
