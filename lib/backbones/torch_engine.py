"""The forward pass in PyTorch: on a GPU, and on a CPU where OpenVINO has no wheel."""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from functools import partial

import numpy as np
import torch

from lib.backbones.acceleration import Forward, accelerate, has_fast_bfloat16
from lib.backbones.backbone import Backbone


class TorchEngine:
    """Batches are filled up and computed whole.

    `backbone` is changed: its network moves to the device.
    """

    def __init__(self, backbone: Backbone, device: str, bfloat16: bool) -> None:
        self.name = f"PyTorch {'bfloat16' if bfloat16 else 'float32'}"
        self._device = torch.device(device)
        self.batch_size = 64 if self._device.type == "cuda" else 4
        self._backbone = backbone
        self._bfloat16 = bfloat16
        self._networks: dict[tuple[int, ...], Forward] = {}

    @torch.inference_mode()
    def __call__(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """See `lib.backbones.engines.Engine`."""
        filling = [pictures[0]] * (self.batch_size - len(pictures))
        batch = torch.from_numpy(np.stack([*pictures, *filling]))
        if self._device.type == "cuda":
            batch = batch.pin_memory()
        images = batch.permute(0, 3, 1, 2).to(self._device, non_blocking=True)
        inputs = self._backbone.normalise(images)
        shape = pictures[0].shape
        if shape not in self._networks:
            self._networks[shape] = accelerate(self._backbone.network, inputs, self._bfloat16)
        if self._bfloat16:
            inputs = inputs.bfloat16()
        return self._networks[shape](inputs)[: len(pictures)].float().cpu().numpy()


def torch_engines(
    backbone: Backbone, device: str, fast: bool
) -> Iterator[Callable[[], TorchEngine]]:
    """Engines of a network on a device in order of speed; the last one computes in float32."""
    if fast and has_fast_bfloat16(torch.device(device)):
        yield partial(TorchEngine, deepcopy(backbone), device, True)
    yield partial(TorchEngine, backbone, device, False)
