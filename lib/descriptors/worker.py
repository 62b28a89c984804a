"""The Ray task that extracts one shard, and what its process keeps from shard to shard."""

import os
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import ray

from lib.backbones.engines import Forms, choose
from lib.backbones.kept import AnyBackbone
from lib.backbones.origin import Origin
from lib.descriptors.extractor import DescriptorExtractor, ExtractedShard
from lib.descriptors.shards import ExtractionSettings, Shard, ShardReport
from lib.descriptors.store import Failure, writing
from lib.errors import MissingError
from lib.images.addresses import allow_private_addresses
from lib.images.preprocessing import RESIZES_FAST, resize, resize_with_torch
from lib.schemas import FAILURES, descriptor_schema
from lib.storage import join, write_table_atomic

if TYPE_CHECKING:  # PyTorch: where OpenVINO computes few images no worker waits for it
    from lib.backbones.backbone import Backbone


@dataclass(frozen=True)
class BackbonePayload:
    """All a worker needs to compute descriptors; travels through Ray's object store once."""

    origin: Origin
    state: dict[str, np.ndarray]  # of the network; empty where PyTorch never computes
    forms: Forms

    @classmethod
    def of(cls, backbone: AnyBackbone, forms: Forms, with_network: bool) -> "BackbonePayload":
        """Pack a backbone; arrays, because Ray hands those out without a copy."""
        tensors = backbone.loaded().network.state_dict() if with_network else {}
        state = {name: value.numpy() for name, value in tensors.items()}
        return cls(backbone.origin, state, forms)

    def backbone(self) -> "Backbone":
        """The backbone for PyTorch, in the memory of this process."""
        import torch

        from lib.backbones.backbone import Backbone, build_network

        state = {name: torch.from_numpy(value.copy()) for name, value in self.state.items()}
        return Backbone(**vars(self.origin), network=build_network(self.origin.name, state))


# Without a limit on calls Ray keeps a process, and the network in it, from shard to shard, also
# where it has a GPU. A shard that dies with its process is handed out again by
# `lib.descriptors.dispatch`.
@ray.remote(max_retries=0, max_calls=0)
def extract_shard(
    package: list[Any], digest: str, settings: ExtractionSettings, db: str, shard: Shard
) -> ShardReport:
    """Describe the images of a shard and write its files; `package` holds a reference to one."""
    allow_private_addresses(settings.private_addresses)
    return write_shard(db, shard, _extractor(package, digest, settings).extract(shard.images))


def write_shard(db: str, shard: Shard, result: ExtractedShard) -> ShardReport:
    """Write what became of a shard's images: the failures, and then the descriptors."""
    start = time.perf_counter()
    _write(db, "failures", shard, result.failures)
    _write(db, "descriptors", shard, result.descriptors)
    result.seconds["write"] += time.perf_counter() - start
    return ShardReport(result.descriptors.num_rows, *_failures(result.failures), result.seconds)


def record_crash(db: str, shard: Shard, error: BaseException) -> ShardReport:
    """Note that an image, alone in a shard, takes down every process that touches it."""
    failure = Failure("crashed", f"every worker that tried it died ({type(error).__name__})")
    table = pa.Table.from_pylist([failure.row(image) for image in shard.images], schema=FAILURES)
    _write(db, "failures", shard, table)
    return ShardReport(0, *_failures(table), {})


def _write(db: str, kind: str, shard: Shard, table: pa.Table) -> None:
    if table.num_rows:
        write_table_atomic(table, join(db, kind, f"{shard.name}.parquet"), **writing(kind))


def _failures(table: pa.Table) -> tuple[int, Counter[str], str]:
    rows = table.select(["uri", "reason", "message"]).slice(0, 1).to_pylist()
    example = f"{rows[0]['uri']}: {rows[0]['reason']}, {rows[0]['message']}" if rows else ""
    return table.num_rows, Counter(table.column("reason").to_pylist()), example


class _Kept(NamedTuple):
    """The network of this process, ready on one device."""

    key: tuple[str, ExtractionSettings]  # the digest of what it was built from
    device: str
    extractor: DescriptorExtractor


_kept: _Kept | None = None


def _extractor(
    package: list[Any], digest: str, settings: ExtractionSettings
) -> DescriptorExtractor:
    """This process's extractor: built for its first shard, kept for all others."""
    global _kept
    device = _device(settings)
    key = digest, settings
    if _kept is None or (_kept.key, _kept.device) != (key, device):
        if _kept is not None and _kept.device not in (device, "cpu"):
            # A context on a GPU lasts as long as its process, and holds memory there. The driver
            # hands the shard out again, to a process that begins with the GPU it is given.
            os._exit(0)
        _kept = None  # before the next is built: never two networks at once
        payload: BackbonePayload = ray.get(package[0])
        origin, forms = payload.origin, payload.forms
        with_torch = forms.float32 is None or device != "cpu" or not RESIZES_FAST
        if with_torch:
            import torch

            torch.set_num_threads(settings.cpus)
        engine, computation = choose(forms, payload.backbone, device, settings.cpus)
        extractor = DescriptorExtractor(
            engine,
            origin.preprocessing,
            descriptor_schema(origin.provenance(settings.stored), computation),
            settings.cpus,
            overlap=device != "cpu",
            resize=resize_with_torch if with_torch else resize,
        )
        _kept = _Kept(key, device, extractor)
    return _kept.extractor


def _device(settings: ExtractionSettings) -> str:
    if not settings.gpus:
        return "cpu"
    import torch

    if not torch.cuda.is_available():
        node = ray.get_runtime_context().get_node_id()
        raise MissingError(
            f"Ray gives node {node} a GPU, but PyTorch {torch.__version__} finds no CUDA there: "
            "install a CUDA build, or run with --gpus-per-worker 0"
        )
    # The process outlives the shard and may be given another GPU for the next one.
    (assigned,) = ray.get_runtime_context().get_accelerator_ids()["GPU"][:1] or ["0"]
    return f"cuda:{assigned}" if assigned.isdigit() else "cuda"
