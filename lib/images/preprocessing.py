"""Image bytes to network input: decoded as a person would see the picture, resized and cropped."""

import warnings
from dataclasses import dataclass

import numpy as np
import torch
import torchvision
from PIL import Image

from lib.images.decoding import ImageError, open_upright, plain_jpeg_size
from lib.schemas import content_digest

_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class Preprocessing:
    """What turns a picture into a network's input: resize, centre crop, normalise."""

    resize: int  # length in pixels that the shorter side is resized to
    crop: int  # side in pixels of the square cut from the centre
    mean: tuple[float, float, float]  # of red, green and blue, where 1 is full
    std: tuple[float, float, float]
    interpolation: str = "bilinear"  # or bicubic; antialiased

    def __str__(self) -> str:
        mean, std = (",".join(f"{value:g}" for value in values) for values in (self.mean, self.std))
        return (
            f"resize {self.resize} {self.interpolation}, crop {self.crop}, mean {mean}, std {std}"
        )


@dataclass(frozen=True)
class DecodedImage:
    """An image ready for a network."""

    pixels: torch.Tensor  # (3, crop, crop) uint8 RGB
    width: int  # of the whole image as a person sees it
    height: int
    bytes: int  # of the file
    digest: str  # `content_digest` of the file


def decode(content: bytes, preprocessing: Preprocessing) -> DecodedImage:
    """Decode an image file, turn it upright (EXIF), resize and crop it.

    Anything that Pillow reads: an animation gives its first frame, transparency goes over white,
    16-bit values are scaled. Raises ImageError with reason `empty`, `not_an_image`, `truncated`,
    `too_large` (over MAX_PIXELS) or `undecodable`.
    """
    if not content:
        raise ImageError("empty", "the file has no bytes")
    size = plain_jpeg_size(content)
    if size and max(size) < 20 * min(size):
        try:
            return _decode_jpeg(content, preprocessing)
        except RuntimeError:
            pass  # Pillow decides, and says what is wrong.
    return _decode_with_pillow(content, preprocessing)


def _decode_with_pillow(content: bytes, preprocessing: Preprocessing) -> DecodedImage:
    image = open_upright(content)
    crop = preprocessing.crop
    box = _crop_box(image.width, image.height, preprocessing)
    resized = image.resize((crop, crop), _RESAMPLING[preprocessing.interpolation], box=box)
    pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1)
    return DecodedImage(pixels, image.width, image.height, len(content), content_digest(content))


def _crop_box(
    width: int, height: int, preprocessing: Preprocessing
) -> tuple[float, float, float, float]:
    """Left, top, right and bottom, in pixels of the image, of what the centre crop shows."""
    resize, crop = preprocessing.resize, preprocessing.crop
    resized_width, resized_height = _resized(width, height, resize)
    left, top = round((resized_width - crop) / 2), round((resized_height - crop) / 2)
    x, y = width / resized_width, height / resized_height
    return (
        max(0.0, left * x),
        max(0.0, top * y),
        min(float(width), (left + crop) * x),
        min(float(height), (top + crop) * y),
    )


def visible_box(
    width: int, height: int, preprocessing: Preprocessing
) -> tuple[float, float, float, float]:
    """What the centre crop shows: left, top, right, bottom in fractions of width and height."""
    scale = preprocessing.resize / min(width, height)
    across = min(1.0, preprocessing.crop / (width * scale))
    down = min(1.0, preprocessing.crop / (height * scale))
    return (1 - across) / 2, (1 - down) / 2, (1 + across) / 2, (1 + down) / 2


def _resized(width: int, height: int, resize: int) -> tuple[int, int]:
    """Width and height when the shorter becomes `resize`, rounded as torchvision does."""
    if width <= height:
        return resize, max(resize, int(resize * height / width))
    return max(resize, int(resize * width / height)), resize


def _decode_jpeg(content: bytes, preprocessing: Preprocessing) -> DecodedImage:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = torch.frombuffer(content, dtype=torch.uint8)
    image = torchvision.io.decode_jpeg(data, mode=torchvision.io.ImageReadMode.RGB)
    height, width = image.shape[1:]
    resize, crop = preprocessing.resize, preprocessing.crop
    resized_width, resized_height = _resized(width, height, resize)
    # With the batch's own stride spelt out, torch sees channels-last and keeps it.
    batch = image.as_strided((1, 3, height, width), (image.numel(), 1, 3 * width, 3))
    small = torch.nn.functional.interpolate(
        batch,
        (resized_height, resized_width),
        mode=preprocessing.interpolation,
        antialias=True,
    )[0]
    left, top = round((resized_width - crop) / 2), round((resized_height - crop) / 2)
    pixels = small[:, top : top + crop, left : left + crop]
    return DecodedImage(pixels, width, height, len(content), content_digest(content))
