"""JPEG files decoded and resized on a GPU, where the CPUs beside it are too few to keep it busy."""

import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import TypeVar

import torch
from torchvision.io import ImageReadMode, decode_jpeg

from lib.images.colors import ColorTable
from lib.images.preprocessing import EncodedJpeg, Preprocessing

_WINDOW, _WINDOW_PIXELS = 256, 80_000_000  # images that are decoded at once
_Item = TypeVar("_Item")
# Nothing writes there, and a copy of each file takes as long as a fifth of decoding it.
warnings.filterwarnings("ignore", "The given buffer is not writable", UserWarning)


class GpuDecoder:
    """Decodes with nvJPEG: in the chip's own decoders where it has any (A100, H100), else by its
    processors. Pixels differ a little from libjpeg's: chroma is interpolated in another way.
    """

    def __init__(self, preprocessing: Preprocessing, device: str) -> None:
        self._preprocessing, self._device = preprocessing, torch.device(device)

    @torch.inference_mode()
    def __call__(self, jpegs: Sequence[EncodedJpeg]) -> list[torch.Tensor]:
        """Pixels (height, width, 3) uint8 of each on the GPU, as `preprocessing.decode` gives them.

        Raises RuntimeError where nvJPEG cannot decode one of them, or where there is none.
        """
        files = [torch.frombuffer(jpeg.content, dtype=torch.uint8) for jpeg in jpegs]
        planes = decode_jpeg(files, mode=ImageReadMode.RGB, device=self._device)
        alike: defaultdict[torch.Size, list[int]] = defaultdict(list)
        for row, each in enumerate(planes):
            alike[each.shape].append(row)
        pixels: list[torch.Tensor] = [torch.empty(0)] * len(jpegs)
        for rows in alike.values():
            for row, each in zip(rows, self._resize([planes[row] for row in rows]), strict=True):
                colors = jpegs[row].colors
                pixels[row] = _in_srgb(each, colors) if colors else each
        return pixels

    def _resize(self, planes: list[torch.Tensor]) -> torch.Tensor:
        """(N, height, width, 3) uint8 of N pictures (3, H, W) of one size.

        To resize is linear, one way after the other: two products of matrices, which matrix units
        do some ten times as fast as PyTorch's own kernel resizes.
        """
        _, height, width = planes[0].shape
        frame = self._preprocessing.frame(width, height)
        mode, (across, down) = self._preprocessing.interpolation, frame.size
        rows = _weights(height, frame.resized[1], mode, self._device)
        columns = _weights(width, frame.resized[0], mode, self._device)
        pixels = torch.stack(planes).to(rows.dtype)  # (N, 3, H, W)
        narrow = pixels @ columns[frame.left : frame.left + across].T  # (N, 3, H, width)
        resized = rows[frame.top : frame.top + down] @ narrow  # (N, 3, height, width)
        return resized.round_().clamp_(0, 255).byte().permute(0, 2, 3, 1)


def _in_srgb(pixels: torch.Tensor, colors: ColorTable) -> torch.Tensor:
    """Pixels (height, width, 3) uint8 through a table of colours."""
    places = pixels.float() / 127.5 - 1  # of each colour in the table, which goes from -1 to 1
    volume = _volume(colors, pixels.device)
    # (1, 3, 1, height, width) of (1, 3, 33, 33, 33) at (1, 1, height, width, 3)
    converted = torch.nn.functional.grid_sample(volume, places[None, None], align_corners=True)
    return converted[0, :, 0].round().byte().permute(1, 2, 0)


@lru_cache(maxsize=16)
def _volume(colors: ColorTable, device: torch.device) -> torch.Tensor:
    """(1, 3, 33, 33, 33) float32 by blue, green and red, as `grid_sample` takes places."""
    return torch.from_numpy(colors.values).permute(3, 2, 1, 0)[None].contiguous().to(device)


@lru_cache(maxsize=256)
def _weights(length: int, resized: int, mode: str, device: torch.device) -> torch.Tensor:
    """(resized, length): what each of `length` pixels gives to each that they become.

    In float16 on a GPU, which holds every uint8, and weights to 1/2048.
    """
    each = torch.eye(length, device=device)[None, None]
    weights = torch.nn.functional.interpolate(each, (resized, length), mode=mode, antialias=True)
    return weights[0, 0].to(torch.float16 if device.type == "cuda" else torch.float32)


def windows(images: Iterable[_Item]) -> Iterator[list[_Item]]:
    """The images in lists that a GPU decodes at once."""
    window: list[_Item] = []
    pixels = 0
    for image in images:
        more = image.width * image.height if isinstance(image, EncodedJpeg) else 0
        if window and (len(window) == _WINDOW or pixels + more > _WINDOW_PIXELS):
            yield window
            window, pixels = [], 0
        window.append(image)
        pixels += more
    if window:
        yield window
