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
        alike: defaultdict[tuple[torch.Size, int], list[int]] = defaultdict(list)
        for row, (each, jpeg) in enumerate(zip(planes, jpegs, strict=True)):
            alike[each.shape, jpeg.orientation].append(row)
        pixels: list[torch.Tensor] = [torch.empty(0)] * len(jpegs)
        for (_, orientation), rows in alike.items():
            resized = self._resize([planes[row] for row in rows], orientation)
            for row, each in zip(rows, resized, strict=True):
                colors = jpegs[row].colors
                pixels[row] = _in_srgb(each, colors) if colors else each
        return pixels

    def _resize(self, planes: list[torch.Tensor], orientation: int) -> torch.Tensor:
        """(N, height, width, 3) uint8, upright, of N stored pictures (3, H, W) of one size.

        To resize is linear, one way after the other: two products of matrices, for which GPUs are
        built.
        """
        _, height, width = planes[0].shape
        swapped = orientation >= 5
        frame = self._preprocessing.frame(*((height, width) if swapped else (width, height)))
        across, down = frame.resized[::-1] if swapped else frame.resized  # as it is stored
        mode = self._preprocessing.interpolation
        rows = _weights(height, down, mode, self._device)  # (down, H)
        columns = _weights(width, across, mode, self._device)  # (across, W)
        pixels = torch.stack(planes).to(rows.dtype)  # (N, 3, H, W)
        resized = rows @ (pixels @ columns.T)  # (N, 3, down, across)
        bytes_ = resized.round_().clamp_(0, 255).byte().permute(0, 2, 3, 1)
        upright = _turned(bytes_, orientation)
        across, down = frame.size
        return upright[:, frame.top : frame.top + down, frame.left : frame.left + across]


def _turned(pixels: torch.Tensor, orientation: int) -> torch.Tensor:
    """Stored pixels (N, height, width, 3) as a person sees them (Exif 2.32, 4.6.5, table 6)."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 2)
    turned = (1,) * (orientation in (3, 4, 7, 8)) + (2,) * (orientation in (2, 3, 6, 7))
    return pixels.flip(turned) if turned else pixels


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
