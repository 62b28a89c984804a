"""Cuts the sorted image list into shards, the unit of work and of resuming."""

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lib.images.listed import ListedImage
from lib.schemas import Fidelity, Precision

SHARDS_WANTED = 32  # of a small collection, so that several workers have their share
LEAST_SHARD, LARGEST_SHARD = 32, 1000
LARGEST_GPU_SHARD = 4_000  # a second of a GPU, which is idle where one begins and ends
CPUS_AT_A_GPU, MOST_AT_A_GPU = 4, 4  # of a worker, workers


@dataclass(frozen=True)
class FailureLimit:
    """How many failures stop a run: a number, or a share of the images once 100 were tried."""

    count: int | None = None
    share: float | None = 0.5

    def exceeded(self, failed: int, tried: int) -> bool:
        """Whether a run with so many failures must stop."""
        if self.count is not None:
            return failed > self.count
        return self.share is not None and tried >= 100 and failed > self.share * tried


@dataclass(frozen=True)
class ExtractionSettings:
    """How images are described, and by what size of worker."""

    fidelity: Fidelity | None = None  # None: that of the database, fast for a new one
    stored: Precision = "float32"  # the type of the values in files
    shard_size: int | None = None  # None: what `suitable_shard_size` says
    cpus_per_worker: int | None = None  # None: what `placement.size_of_workers` says
    gpus_per_worker: float | None = None
    include_hidden: bool = False  # see `lib.images.file_names.is_hidden`
    private_addresses: bool = False  # whether a list may lead to hosts that are not public

    @property
    def cpus(self) -> int:
        """Cores of a worker, 1 where nothing is said."""
        return self.cpus_per_worker or 1

    @property
    def gpus(self) -> float:
        """GPUs of a worker, 0 where nothing is said."""
        return self.gpus_per_worker or 0.0


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


def suitable_shard_size(images: int, largest: int = LARGEST_SHARD) -> int:
    """Images a shard: `largest`, and fewer of a small collection, down to 32."""
    return min(max(-(-images // SHARDS_WANTED), LEAST_SHARD), largest)


def workers_at_a_gpu(cpus: float) -> int:
    """How many share a GPU beside which there are so many CPUs.

    Each is a process with threads that decode, which hinder each other within one.
    """
    return max(1, min(MOST_AT_A_GPU, int(cpus // CPUS_AT_A_GPU)))


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
