"""The forward pass in PyTorch: on a GPU, and on a CPU where OpenVINO has no wheel."""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import fx

from lib.backbones.acceleration import accelerate, has_fast_bfloat16
from lib.backbones.backbone import Backbone
from lib.errors import ImageSearchError
from lib.images.preprocessing import Preprocessing

if TYPE_CHECKING:  # torchvision, for which a CPU need not wait
    from lib.images.gpu_decoding import GpuDecoder

# A shard ends with a part of a batch for each shape of its pictures, which larger ones waste.
GPU_BATCH, CPU_BATCH = 64, 4  # pictures


class TorchEngine:
    """Batches are filled up and computed whole.

    `backbone` is changed: its network moves to the device.
    """

    def __init__(
        self, backbone: Backbone, device: str, bfloat16: bool, decodes: bool = False
    ) -> None:
        """`decodes`: JPEG files, too, on the GPU."""
        self.name = f"PyTorch {'bfloat16' if bfloat16 else 'float32'}{', nvJPEG' * decodes}"
        self._device = torch.device(device)
        self.batch_size = GPU_BATCH if self._device.type == "cuda" else CPU_BATCH
        self.decoder = _decoder(backbone.preprocessing, device) if decodes else None
        self._backbone = backbone
        self._bfloat16 = bfloat16
        self._networks: dict[tuple[int, ...], fx.GraphModule] = {}
        self._for_any_shape: fx.GraphModule | None = None
        self._pinned: dict[tuple[int, ...], torch.Tensor] = {}

    def __call__(self, pictures: Sequence[Any]) -> np.ndarray:
        """See `lib.backbones.engines.Engine`. Raises ImageSearchError where memory is out."""
        try:
            return self._compute(pictures)
        except torch.OutOfMemoryError as error:
            raise ImageSearchError(
                f"no memory is left on the GPU for batches of {self.batch_size} pictures of "
                f"{pictures[0].shape}: --gpus-per-worker 1 lets fewer workers share it"
            ) from error

    @torch.inference_mode()
    def _compute(self, pictures: Sequence[Any]) -> np.ndarray:
        filling = [pictures[0]] * (self.batch_size - len(pictures))
        images = self._on_device([*pictures, *filling]).permute(0, 3, 1, 2)
        inputs = self._backbone.normalise(images)
        network = self._for_any_shape or self._networks.get(pictures[0].shape)
        network = network or self._accelerate(inputs)
        if self._bfloat16:
            inputs = inputs.bfloat16()
        return self._fetch(network(inputs)[: len(pictures)].float())

    def _fetch(self, descriptors: torch.Tensor) -> np.ndarray:
        """What the device computed; a thread that spins for it would take a core from decoding."""
        if self._device.type == "cuda":
            there = torch.empty(descriptors.shape, pin_memory=True)
            there.copy_(descriptors, non_blocking=True)
            done = torch.cuda.Event(blocking=True)
            done.record()
            done.synchronize()
            return there.numpy()
        return descriptors.numpy()

    def _on_device(self, pictures: list[Any]) -> torch.Tensor:
        """(N, height, width, 3) uint8."""
        here = [picture for picture in pictures if isinstance(picture, np.ndarray)]
        sent = self._send(here) if here else torch.empty(0)
        if len(here) == len(pictures):
            return sent
        arrived = iter(sent)
        return torch.stack([next(arrived) if isinstance(p, np.ndarray) else p for p in pictures])

    def _send(self, pictures: list[np.ndarray]) -> torch.Tensor:
        """(N, height, width, 3) uint8."""
        if self._device.type != "cuda":
            return torch.from_numpy(np.stack(pictures))
        shape = self.batch_size, *pictures[0].shape
        if shape not in self._pinned:  # which takes longer than to fill it
            self._pinned[shape] = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
        buffer = self._pinned[shape][: len(pictures)]
        np.stack(pictures, out=buffer.numpy())
        return buffer.to(self._device, non_blocking=True)

    def _accelerate(self, inputs: torch.Tensor) -> fx.GraphModule:
        """The network for a new shape, which takes a second to rewrite."""
        network = accelerate(self._backbone.network, inputs, self._bfloat16)
        if self._backbone.preprocessing.whole and not self._networks:
            larger = torch.nn.functional.pad(inputs, (0, 32, 0, 32))
            other = accelerate(self._backbone.network, larger, self._bfloat16)
            # Two traces that agree to the last number hold nothing of their pictures' shapes.
            if other.code == network.code:
                self._for_any_shape = network
        height, width = inputs.shape[2:]
        self._networks[height, width, 3] = network
        return network


def _decoder(preprocessing: Preprocessing, device: str) -> "GpuDecoder":
    from lib.images.gpu_decoding import GpuDecoder

    return GpuDecoder(preprocessing, device)


def torch_engines(
    backbone: Backbone, device: str, fast: bool, decodes: bool
) -> Iterator[Callable[[], TorchEngine]]:
    """Engines of a network on a device in order of speed; the last one computes in float32.

    `decodes`: whether one may decode JPEG files.
    """
    bfloat16 = fast and has_fast_bfloat16(torch.device(device))
    for quick in (True, False) if bfloat16 else (False,):
        for decoding in (True, False) if fast and decodes else (False,):
            yield partial(TorchEngine, deepcopy(backbone), device, quick, decoding)
