"""Image bytes to network input: decoded as a person would see the picture, resized and cropped."""

import io
import warnings
from dataclasses import dataclass

import numpy as np
import torch
import torchvision
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from lib.backbones import Preprocessing
from lib.errors import BadInputError

MAX_PIXELS = 200_000_000
_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


class ImageError(BadInputError):
    """An image that cannot be described; `reason` is one of a few fixed words."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.reason, str(self))


@dataclass(frozen=True)
class Picture:
    """An image ready for a network."""

    pixels: torch.Tensor  # (3, crop, crop) uint8 RGB
    width: int  # of the whole image as a person sees it
    height: int
    bytes: int  # of the file


def decode(content: bytes, preprocessing: Preprocessing) -> Picture:
    """Decode an image file, turn it upright (EXIF), resize and crop it.

    Anything that Pillow reads: an animation gives its first frame, transparency goes over white,
    16-bit values are scaled. Raises ImageError with reason `empty`, `not_an_image`, `truncated`,
    `too_large` (over MAX_PIXELS) or `undecodable`.
    """
    if not content:
        raise ImageError("empty", "the file has no bytes")
    if _is_plain_jpeg(content):
        try:
            return _decode_jpeg(content, preprocessing)
        except RuntimeError:
            pass  # Pillow decides, and says what is wrong.
    return _decode_with_pillow(content, preprocessing)


def open_upright(content: bytes) -> Image.Image:
    """The picture as a person sees it: RGB, upright, over white. Raises ImageError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image: Image.Image = Image.open(io.BytesIO(content))
            _check_size(*image.size)
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError as error:
        start = content[:40].decode("ascii", "replace").strip()
        raise ImageError(
            "not_an_image", f"no image format is known that starts {start!r}"
        ) from error
    except (Image.DecompressionBombError, MemoryError) as error:
        raise ImageError("too_large", str(error)) from error
    except ImageError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on broken files.
        truncated = "truncated" in str(error) or isinstance(error, EOFError)
        raise ImageError("truncated" if truncated else "undecodable", str(error)) from error


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ImageError(
            "too_large", f"{width}×{height} pixels; at most {MAX_PIXELS:,} are decoded"
        )


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, np.float64)
        # A 16-bit file fills 0…65535; Pillow's own conversion would clip it to 255.
        scale = 257 if values.max(initial=0) > 255 else 1
        image = Image.fromarray((values / scale).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _decode_with_pillow(content: bytes, preprocessing: Preprocessing) -> Picture:
    image = open_upright(content)
    crop = preprocessing.crop
    box = _crop_box(image.width, image.height, preprocessing)
    resized = image.resize((crop, crop), _RESAMPLING[preprocessing.interpolation], box=box)
    pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1)
    return Picture(pixels, image.width, image.height, len(content))


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


def _resized(width: int, height: int, resize: int) -> tuple[int, int]:
    """Width and height when the shorter becomes `resize`, rounded as torchvision does."""
    if width <= height:
        return resize, max(resize, int(resize * height / width))
    return max(resize, int(resize * width / height)), resize


def _is_plain_jpeg(content: bytes) -> bool:
    """Whether it is a whole JPEG of one or three components, upright, of a usual size and shape."""
    # torchvision fills what a cut-off file lacks with grey; Pillow, which gets all others, tells.
    if content[:3] != b"\xff\xd8\xff" or content[-2:] != b"\xff\xd9":
        return False
    position = 2
    while position + 9 < len(content):
        if content[position] != 0xFF:
            return False
        marker = content[position + 1]
        length = int.from_bytes(content[position + 2 : position + 4])
        if marker == 0xE1 and content[position + 4 : position + 8] == b"Exif":
            segment = content[position + 10 : position + 2 + length]
            return _upright(segment) and _is_plain_jpeg(
                content[:2] + content[position + 2 + length :]
            )
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = (
                int.from_bytes(content[position + start : position + start + 2]) for start in (5, 7)
            )
            small = 0 < width * height <= MAX_PIXELS and max(width, height) < 20 * min(
                width, height
            )
            return small and content[position + 9] in (1, 3)
        position += 2 + length
    return False


def _upright(exif: bytes) -> bool:
    try:
        data = Image.Exif()
        data.load(b"Exif\0\0" + exif)
        return data.get(0x0112, 1) == 1
    except Exception:
        return False


def _decode_jpeg(content: bytes, preprocessing: Preprocessing) -> Picture:
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
    return Picture(pixels, width, height, len(content))


ImageFile.LOAD_TRUNCATED_IMAGES = False
