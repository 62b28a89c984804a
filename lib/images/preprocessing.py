"""Image bytes to network input: decoded as a person would see the picture, and resized."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import simplejpeg
from PIL import Image

from lib.images.colors import ColorTable, color_table
from lib.images.decoding import MAX_PIXELS, decode_upright
from lib.images.jpeg import PlainJpeg, plain_jpeg
from lib.schemas import content_digest

try:
    import cykooz_resizer
except ImportError:  # no wheel for this platform: Pillow resizes, or PyTorch where it is loaded
    cykooz_resizer = None

RESIZES_FAST = cykooz_resizer is not None  # without PyTorch
_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_FILTERS = {"bilinear": "bilinear", "bicubic": "catmull_rom"}  # as cykooz_resizer calls them
# The longer side of a whole picture is the shorter one plus a multiple of the step (the stride of
# common networks), up to thrice the shorter, so that a collection has few shapes.
_STEP = 32
_LONGEST = 3
_ENOUGH = 3  # pixels either way for each that a picture is resized to
_LEAST_SIDE, _LONGEST_SIDE, _MOST_PIXELS = 64, 8_192, 25_000_000  # of a JPEG that a GPU decodes


@dataclass(frozen=True)
class Preprocessing:
    """What turns a picture into a network's input.

    Whole picture: the shorter side becomes `crop`, the longer follows in steps of 32; what is
    longer than 3:1 is squeezed. Else the shorter side becomes `resize`, and a square of `crop` is
    cut from the centre.
    """

    resize: int  # length in pixels of the shorter side before a centre crop
    crop: int  # pixels of a centre crop's side, or of a whole picture's shorter side
    mean: tuple[float, float, float]  # of red, green and blue, where 1 is full
    std: tuple[float, float, float]
    interpolation: str = "bilinear"  # or bicubic; antialiased
    whole: bool = False  # for networks that take pictures of any shape

    def __str__(self) -> str:
        mean, std = (",".join(f"{value:g}" for value in values) for values in (self.mean, self.std))
        shape = (
            f"whole picture, shorter side {self.crop} {self.interpolation}, "
            f"longer in steps of {_STEP} to {_LONGEST}:1"
            if self.whole
            else f"resize {self.resize} {self.interpolation}, crop {self.crop}"
        )
        return f"{shape}, mean {mean}, std {std}"

    def frame(self, width: int, height: int) -> "Frame":
        """What the network sees of a picture of this size, in pixels as a person sees it."""
        ratio = max(width, height) / min(width, height)
        if self.whole:
            short = self.crop
            longer = short + _STEP * round((min(ratio, _LONGEST) - 1) * short / _STEP)
        else:
            short, longer = self.resize, max(self.resize, int(self.resize * ratio))
        resized = (short, longer) if width <= height else (longer, short)
        if self.whole:
            return Frame(resized, 0, 0, resized)
        left, top = (round((length - self.crop) / 2) for length in resized)
        return Frame(resized, left, top, (self.crop, self.crop))


class Frame(NamedTuple):
    """A picture resized to `resized`, out of which `size` is cut at (left, top), in pixels."""

    resized: tuple[int, int]  # width, height
    left: int
    top: int
    size: tuple[int, int]  # width, height of the network's input

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of what is cut, in fractions of the picture."""
        (width, height), (across, down) = self.resized, self.size
        left, top = max(0.0, self.left / width), max(0.0, self.top / height)
        right, bottom = (self.left + across) / width, (self.top + down) / height
        return left, top, min(1.0, right), min(1.0, bottom)


@dataclass(frozen=True)
class DecodedImage:
    """An image ready for a network."""

    pixels: Any  # (height, width, 3) uint8 RGB, its frame's `size`: an array, or on a GPU a tensor
    width: int  # of the whole image as a person sees it
    height: int
    bytes: int  # of the file
    digest: str  # `content_digest` of the file


@dataclass(frozen=True)
class EncodedJpeg:
    """A JPEG file that a GPU can decode."""

    content: bytes
    width: int  # of the whole image as a person sees it, as its header says
    height: int
    orientation: int  # 1 to 8, as Exif numbers them
    digest: str  # `content_digest` of the file
    colors: ColorTable | None  # what turns its own colours into sRGB

    def decoded(self, pixels: Any) -> DecodedImage:
        """Itself as an image with these pixels."""
        return DecodedImage(pixels, self.width, self.height, len(self.content), self.digest)


def resize(pixels: np.ndarray, size: tuple[int, int], interpolation: str) -> np.ndarray:
    """Pixels (height, width, 3) uint8 resized to `size` (width, height), antialiased.

    As Pillow does it, but faster: one value in some 300 differs, by 1 mostly.
    """
    if cykooz_resizer is None:
        return np.asarray(Image.fromarray(pixels).resize(size, _RESAMPLING[interpolation]))
    height, width, _ = pixels.shape
    rgb = cykooz_resizer.PixelType.U8x3
    filters = getattr(cykooz_resizer.FilterType, _FILTERS[interpolation])
    options = cykooz_resizer.ResizeOptions()
    options.resize_alg = cykooz_resizer.ResizeAlg.convolution(filters)
    resizer = cykooz_resizer.Resizer()
    source = cykooz_resizer.ImageData(width, height, rgb, pixels.tobytes())
    across = cykooz_resizer.ImageData(size[0], height, rgb)
    target = cykooz_resizer.ImageData(*size, rgb)
    # Rows first, then columns: in one step it goes the other way and rounds in other places,
    # which takes descriptors of some networks below a cosine of 0.9995 to those of Pillow's.
    resizer.resize(source, across, options)
    resizer.resize(across, target, options)
    resized = np.frombuffer(target.get_buffer(), np.uint8).reshape(size[1], size[0], 3)
    return resized.copy()  # which PyTorch may write to


def resize_with_torch(pixels: np.ndarray, size: tuple[int, int], interpolation: str) -> np.ndarray:
    """The same for many threads at once, where PyTorch is loaded anyway."""
    import torch

    height, width, _ = pixels.shape
    # With the batch's own stride spelt out, torch sees channels-last and keeps it.
    strides = (pixels.size, 1, 3 * width, 3)
    batch = torch.from_numpy(pixels).as_strided((1, 3, height, width), strides)
    resized = torch.nn.functional.interpolate(batch, size[::-1], mode=interpolation, antialias=True)
    return resized[0].permute(1, 2, 0).numpy()


Resize = Callable[[np.ndarray, tuple[int, int], str], np.ndarray]


def decode(
    content: bytes,
    preprocessing: Preprocessing,
    max_pixels: int = MAX_PIXELS,
    resize: Resize = resize,
    scaled: bool = False,
) -> DecodedImage:
    """Decode an image file, turn it upright (EXIF), resize it and cut out what the network sees.

    `scaled`: a large JPEG may be decoded at a half, a quarter or an eighth of its scale, if that is
    thrice what it is resized to: descriptors keep a cosine of 0.9995, in a third to half the time.
    Anything that Pillow reads: an animation gives its first frame, transparency goes over white,
    16-bit values are scaled. Raises ImageError with reason `empty`, `not_an_image`, `truncated`,
    `too_large` (over `max_pixels`), `unsupported` or `undecodable`.
    """
    jpeg = plain_jpeg(content)
    if jpeg and _is_usual(jpeg.width, jpeg.height, max_pixels):
        try:
            return _decode_jpeg(content, preprocessing, jpeg, resize, scaled)
        except ValueError:
            pass  # Pillow decides, and says what is wrong.
    return _decode_with_pillow(content, preprocessing, max_pixels)


def for_gpu(content: bytes) -> EncodedJpeg | None:
    """A JPEG file that a GPU decodes as `decode` does, or None where it might not."""
    jpeg = plain_jpeg(content)
    if jpeg is None or not jpeg.usual or (jpeg.to_srgb and jpeg.to_srgb.input_mode != "RGB"):
        return None
    short, longer = sorted((jpeg.width, jpeg.height))
    if short < _LEAST_SIDE or longer > _LONGEST_SIDE or not _is_usual(short, longer, _MOST_PIXELS):
        return None
    colors = color_table(jpeg.to_srgb) if jpeg.to_srgb else None
    return EncodedJpeg(
        content, *_upright_size(jpeg), jpeg.orientation, content_digest(content), colors
    )


def _is_usual(width: int, height: int, max_pixels: int) -> bool:
    return width * height <= max_pixels and max(width, height) < 20 * min(width, height)


def _decode_with_pillow(
    content: bytes, preprocessing: Preprocessing, max_pixels: int = MAX_PIXELS
) -> DecodedImage:
    image, width, height = decode_upright(content, max_pixels)
    frame = preprocessing.frame(width, height)
    left, top, right, bottom = frame.box
    across, down = image.size  # fewer pixels than the picture's where that is huge
    box = (left * across, top * down, right * across, bottom * down)
    resized = image.resize(frame.size, _RESAMPLING[preprocessing.interpolation], box=box)
    return DecodedImage(np.array(resized), width, height, len(content), content_digest(content))


def _upright_size(jpeg: PlainJpeg) -> tuple[int, int]:
    """Width and height as a person sees it."""
    size = jpeg.width, jpeg.height
    return size[::-1] if jpeg.orientation >= 5 else size


def _decode_jpeg(
    content: bytes, preprocessing: Preprocessing, jpeg: PlainJpeg, resize: Resize, scaled: bool
) -> DecodedImage:
    width, height = _upright_size(jpeg)
    frame = preprocessing.frame(width, height)
    size = frame.resized[::-1] if jpeg.orientation >= 5 else frame.resized  # as it is stored
    scale = 1
    while scaled and scale < 8 and _is_enough(jpeg, size, 2 * scale):
        scale *= 2
    # Other scales than these take as long as the whole.
    least = {"min_width": -(-jpeg.width // scale), "min_height": -(-jpeg.height // scale)}
    image = simplejpeg.decode_jpeg(content, "RGB", **least, min_factor=scale)
    resized = _turned(resize(image, size, preprocessing.interpolation), jpeg.orientation)
    across, down = frame.size
    pixels = resized[frame.top : frame.top + down, frame.left : frame.left + across]
    if jpeg.to_srgb is not None:  # of the few pixels that are left
        picture = Image.fromarray(pixels)
        picture = jpeg.to_srgb.apply(picture.convert(jpeg.to_srgb.input_mode))
        pixels = np.array(picture)
    return DecodedImage(pixels, width, height, len(content), content_digest(content))


def _is_enough(jpeg: PlainJpeg, size: tuple[int, int], scale: int) -> bool:
    """Whether at 1/scale a picture has pixels enough to be resized to `size`."""
    across, down = size
    return min(jpeg.width / across, jpeg.height / down) >= _ENOUGH * scale


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Stored pixels (height, width, 3) as a person sees them (Exif 2.32, 4.6.5, table 6)."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
