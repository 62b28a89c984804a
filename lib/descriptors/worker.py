"""The Ray task that extracts one shard, and what its process keeps from shard to shard."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import ray

from lib.backbones.engines import Forms
from lib.backbones.kept import AnyBackbone
from lib.backbones.origin import Origin
from lib.descriptors.extractor import DescriptorExtractor, build_extractor
from lib.descriptors.shard_files import write_shard
from lib.descriptors.shards import ExtractionSettings, Shard, ShardReport
from lib.errors import MissingError
from lib.images.addresses import allow_private_addresses

if TYPE_CHECKING:  # PyTorch: where OpenVINO computes nobody waits for it
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
        extractor = build_extractor(
            payload.origin, payload.forms, payload.backbone, device, settings
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
