"""The extraction run: plan shards, hand them to Ray, survive what dies, account for every image."""

import hashlib
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import ray
import torch
from ray.exceptions import RayTaskError

from lib import described
from lib.backbones import Backbone, Preprocessing, build_network
from lib.describing import Compute, Describer
from lib.errors import ImageSearchError
from lib.schemas import Precision, require_same
from lib.sorting import sort_bounded
from lib.sources import ListedImage, list_images
from lib.storage import join, write_table_atomic


@dataclass(frozen=True)
class Shard:
    """A segment of the sorted image list; the name follows from its content and place."""

    name: str
    images: list[ListedImage]


@dataclass(frozen=True)
class Settings:
    """How images are described and by what size of worker."""

    precision: Precision = "float32"
    shard_size: int = 1000
    cpus_per_worker: int = 1
    gpus_per_worker: float = 0.0
    compute: Compute = "auto"


@dataclass
class ShardReport:
    """What a worker tells the driver of a finished shard."""

    described: int
    failed: int
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
        """Pack a loaded backbone."""
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


def cut_shards(pending: Iterable[tuple[int, ListedImage]], shard_size: int) -> Iterator[Shard]:
    """Shards of at most `shard_size` images, in the order of the list."""
    source = iter(pending)
    while segment := list(itertools.islice(source, shard_size)):
        images = [image for _, image in segment]
        content = "\n".join(f"{image.path}\t{image.bytes}\t{image.etag}" for image in images)
        digest = hashlib.sha256(content.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        yield Shard(f"{segment[0][0]:012d}-{digest}", images)


_describers: dict[tuple[str, Settings], Describer] = {}


def _describer(package: list[Any], digest: str, settings: Settings) -> Describer:
    """This process's describer: built for its first shard, kept for all others."""
    key = digest, settings
    if key not in _describers:
        torch.set_num_threads(settings.cpus_per_worker)
        device = "cuda" if settings.gpus_per_worker else "cpu"
        _describers[key] = Describer(
            ray.get(package[0]).unpack(),
            settings.precision,
            device,
            settings.cpus_per_worker,
            settings.compute,
        )
    return _describers[key]


@ray.remote(max_retries=0, max_calls=0)
def _describe_shard(
    package: list[Any], digest: str, settings: Settings, db: str, shard: Shard
) -> ShardReport:
    result = _describer(package, digest, settings).describe(shard.images)
    start = time.perf_counter()
    for kind, table in (("descriptors", result.descriptors), ("failures", result.failures)):
        if table.num_rows:
            url = join(db, kind, f"{shard.name}.parquet")
            write_table_atomic(table, url, **described.writing(url))
    result.seconds["write"] += time.perf_counter() - start
    return ShardReport(result.descriptors.num_rows, result.failures.num_rows, result.seconds)


@dataclass
class Run:
    """Figures of one run."""

    listed: int = 0
    already_described: int = 0
    already_failed: int = 0
    changed: int = 0
    removed: int = 0
    described: int = 0
    failed: int = 0
    seconds: float = 0.0
    stage_seconds: dict[str, float] = field(default_factory=dict)


def extract(
    images: str,
    db: str,
    backbone: Backbone,
    settings: Settings,
    ids: Callable[[str], str],
    prune: bool = False,
    retry_failed: bool = False,
) -> Run:
    """Describe all images that `db` does not describe yet. Ray must be up.

    Raises MismatchError where `db` holds descriptors of another origin, ImageSearchError where
    images are unaccounted for at the end.
    """
    found = described.provenance(db)
    if found is not None:
        require_same(
            "the descriptors in the database and those asked for",
            found,
            backbone.provenance(settings.precision),
            "Use the same backbone, weights and precision, or another --db",
        )
    listing = sort_bounded(list_images(images), key=attrgetter("path"))
    named = (image._replace(image_id=ids(image.path)) for image in listing)
    plan = described.compare(named, db, prune, retry_failed)
    described.drop_rows(plan.stale)
    run = Run(plan.listed, plan.described, plan.failed, plan.changed, plan.removed)
    start = time.monotonic()
    for report in dispatch(cut_shards(plan.pending, settings.shard_size), db, backbone, settings):
        run.described += report.described
        run.failed += report.failed
        for stage, seconds in report.seconds.items():
            run.stage_seconds[stage] = run.stage_seconds.get(stage, 0.0) + seconds
    run.seconds = time.monotonic() - start
    _account(run, db, 0 if prune else plan.removed)
    return run


def _account(run: Run, db: str, kept: int) -> None:
    descriptors, failures = described.count_rows(db)
    if descriptors + failures != run.listed + kept:
        raise ImageSearchError(
            f"{run.listed} images are listed and {kept} no longer, but {db} holds {descriptors} "
            f"descriptors and {failures} failures; run the job again"
        )


def dispatch(
    shards: Iterator[Shard], db: str, backbone: Backbone, settings: Settings
) -> Iterator[ShardReport]:
    """Describe shards on Ray's workers, a bounded number at a time; reports as they finish."""
    package = [ray.put(Package.of(backbone))]
    task = _describe_shard.options(
        num_cpus=settings.cpus_per_worker, num_gpus=settings.gpus_per_worker
    )
    again: deque[Shard] = deque()
    running: dict[Any, Shard] = {}
    while True:
        while len(running) < _window(settings):
            shard = again.popleft() if again else next(shards, None)
            if shard is None:
                break
            reference = task.remote(package, backbone.weights_digest, settings, db, shard)
            running[reference] = shard
        if not running:
            return
        done, _ = ray.wait(list(running), num_returns=1, timeout=5)
        for reference in done:
            shard = running.pop(reference)
            try:
                yield ray.get(reference)
            except RayTaskError as error:
                raise error.cause from error
            except ray.exceptions.RayError:
                again.append(shard)


def _window(settings: Settings) -> int:
    """Shards in flight: enough that no worker waits, few enough that memory stays bounded."""
    total = ray.cluster_resources()
    slots = total.get("CPU", 1) / settings.cpus_per_worker
    if settings.gpus_per_worker:
        slots = total.get("GPU", 0) / settings.gpus_per_worker
    return int(2 * slots) + 2
