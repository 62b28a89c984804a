"""Sample values to 8-bit sRGB: colour profiles, PNG's gamma, and samples of 16 or 32 bits."""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from lib.errors import BadInputError

# A profile that moves no colour by more than this is one of the many that mean sRGB.
_SRGB_TOLERANCE = 4  # of 255
_LARGEST_PROFILE = 4_000_000  # bytes; those of printers have up to 3 million
_SRGB_PRIMARIES = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)  # white, red, green, blue
_STRIP_PIXELS = 4_000_000
_TABLE_STEPS = 33

# Scales that samples are kept in: its end, and the least that the brightest sample must have for
# the scale to be meant. 8 bits, 12, 16, and 32 with and without sign.
_INTEGER_SCALES = ((255, 0), (4_095, 256), (65_535, 4_096), (2**31 - 1, 2**27), (2**32 - 1, 2**31))
_FLOAT_SCALES = ((1, 0), (255, 16), (4_095, 1_024), (65_535, 8_192))
_OVERSHOOT = 0.1  # of the scale: what sharpening and resampling add to floats


def to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """What turns pixels of an image of `mode` under an ICC profile into sRGB.

    It takes pixels of its `input_mode`: RGB also for a grey image under a profile of RGB. None
    where nothing is to be done: a profile that means sRGB, is damaged, or is of other pixels.
    """
    return _to_srgb(profile, mode) if len(profile) <= _LARGEST_PROFILE else None


@lru_cache(maxsize=16)
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if mode == "L" and source.profile.xcolor_space == "RGB ":
            mode = "RGB"
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None
    if mode not in ("RGB", "L"):
        return transform
    steps = np.arange(0, 256, 17).astype(np.uint8)
    colors = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(1, -1, 3)
    sample = Image.fromarray(colors if mode == "RGB" else steps[None])
    converted = np.asarray(transform.apply(sample), np.int16)
    moved = np.abs(converted - np.asarray(sample.convert("RGB"), np.int16)).max()
    return transform if moved > _SRGB_TOLERANCE else None


@dataclass(frozen=True, eq=False)  # compared by identity: one for each profile
class ColorTable:
    """A transform of colours at the corners of a grid, between which it is linear."""

    values: np.ndarray  # (33, 33, 33, 3) float32: red, green, blue of each red, green, blue


@lru_cache(maxsize=16)
def color_table(transform: ImageCms.ImageCmsTransform) -> ColorTable:
    """The table of a transform from RGB; of common profiles it is right to a level or two."""
    steps = np.linspace(0, 255, _TABLE_STEPS).round().astype(np.uint8)
    colors = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1)
    converted = transform.apply(Image.fromarray(colors.reshape(1, -1, 3)))
    return ColorTable(np.asarray(converted, np.float32).reshape(colors.shape))


def profile_of(info: dict[Any, Any]) -> bytes:
    """The ICC profile that an image's `info` holds, or one made of PNG's gAMA and cHRM, or none.

    An sRGB chunk stands above gAMA and cHRM, and an ICC profile above all (PNG, 4.3).
    """
    if profile := info.get("icc_profile"):
        return bytes(profile)
    gamma, primaries = info.get("gamma"), info.get("chromaticity", _SRGB_PRIMARIES)
    if "srgb" in info or not gamma or not 0.1 < gamma < 10:
        return b""
    usual = np.allclose(primaries, _SRGB_PRIMARIES, atol=0.003)
    # 1 / 2.2 is what writers of PNG say for sRGB.
    return b"" if usual and 0.44 < gamma < 0.47 else _matrix_profile(tuple(primaries), 1 / gamma)


@lru_cache(maxsize=16)
def _matrix_profile(primaries: tuple[float, ...], gamma: float) -> bytes:
    """An ICC profile of RGB, given x, y of white, red, green and blue, and the curve's exponent.

    Laid out as ICC.1:2001-04 says. Colours are adapted to D50 by Bradford's matrix.
    """
    xyz = np.array([(x / y, 1, (1 - x - y) / y) for x, y in np.reshape(primaries, (4, 2)) if y])
    if len(xyz) < 4 or abs(np.linalg.det(xyz[1:])) < 1e-6:
        return b""
    white, columns = xyz[0], xyz[1:].T
    columns = columns * np.linalg.solve(columns, white)
    bradford = np.array(
        [(0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296)]
    )
    d50 = np.array((0.9642, 1.0, 0.8249))
    scale = np.diag((bradford @ d50) / (bradford @ white))
    columns = np.linalg.inv(bradford) @ scale @ bradford @ columns

    def xyz_tag(values: np.ndarray) -> bytes:
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *np.rint(values * 65536).astype(int))

    curve = b"curv\0\0\0\0" + struct.pack(">IHxx", 1, round(gamma * 256))
    tags = {b"wtpt": xyz_tag(d50)}
    for color, column in zip((b"r", b"g", b"b"), columns.T, strict=True):
        tags |= {color + b"XYZ": xyz_tag(column), color + b"TRC": curve}
    table, data = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(data), len(content))
        data += content
    header = struct.pack(">I4x4s12s", 128 + len(table + data), b"\2\x20\0\0", b"mntrRGB XYZ ")
    header = header.ljust(36, b"\0") + b"acsp"
    return header.ljust(68, b"\0") + xyz_tag(d50)[8:].ljust(60, b"\0") + table + data


def strips(image: Image.Image, multiple: int = 1) -> Iterator[tuple[int, Image.Image]]:
    """First row and image of strips of some million pixels; each but the last a `multiple` high."""
    rows = max(1, _STRIP_PIXELS // image.width // multiple) * multiple
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(image.height, top + rows)))


class SampleScale:
    """How the samples of a grey image of 16 or 32 bits become 8 bits.

    By the range that the tags of a TIFF tell, else by the usual scale that holds all of the values.
    Raises BadInputError, when made, where neither says what is black and what is white.
    """

    def __init__(self, image: Image.Image) -> None:
        tags: Any = getattr(image, "tag_v2", {})
        self.inverted = tags.get(262) == 0  # TIFF's WhiteIsZero, which Pillow heeds in 8 bits only
        self.nothing = _number(tags.get(42113))  # GDAL's mark of pixels without a value
        self.unsigned = image.mode == "I" and tags.get(258) == (32,) and tags.get(339, (1,)) == (1,)
        low, high, total, count, below_white = np.inf, -np.inf, 0.0, 0, 0
        for _, strip in strips(image):
            values = self._values(strip)
            values = values[np.isfinite(values) & (values != self.nothing)]
            if values.size:
                low, high = min(low, float(values.min())), max(high, float(values.max()))
                total += float(values.sum(dtype=np.float64))
                count += values.size
                below_white += int(np.count_nonzero(values <= 1 + _OVERSHOOT))
        if not count:
            raise BadInputError("none of its samples is a number")
        # Samples without a value get the mean of the others, which says nothing.
        self.mean = total / count
        whole = image.mode != "F"
        usual = _integer_range(low, high) if whole else _float_range(low, high, below_white / count)
        self.low, self.high = _told_range(tags) or usual or _unknown(low, high)

    def _values(self, strip: Image.Image) -> np.ndarray:
        values = np.asarray(strip)
        return values.view(np.uint32) if self.unsigned else values

    def to_grey(self, strip: Image.Image) -> Image.Image:
        """A strip of the image as 8-bit grey."""
        values = self._values(strip)
        nothing = values == self.nothing
        values = values.astype(np.float32)
        values[nothing] = self.mean
        if strip.mode == "F":
            values = np.nan_to_num(values, nan=self.mean, posinf=self.high, neginf=self.low)
        values = (values - np.float32(self.low)) * np.float32(255 / (self.high - self.low))
        grey = values.round().clip(0, 255).astype(np.uint8)
        return Image.fromarray(255 - grey if self.inverted else grey)


def _number(text: Any) -> float:
    """What a text says in digits; NaN, which nothing equals, where it says no number."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return np.nan


def _told_range(tags: Any) -> tuple[float, float] | None:
    """(S)MinSampleValue and (S)MaxSampleValue of a TIFF, where they are a range."""
    for low_tag, high_tag in ((340, 341), (280, 281)):
        if high_tag in tags:
            low, high = (float(np.ravel(tags.get(tag, 0))[0]) for tag in (low_tag, high_tag))
            if np.isfinite((low, high)).all() and low < high:
                return low, high
    return None


def _integer_range(low: float, high: float) -> tuple[float, float] | None:
    if low < 0:
        halves = (half for half in (2**7, 2**15, 2**31) if -half <= low and high < half)
        half = next(halves, 0)
        return (-half, half - 1) if max(-low, high) >= half / 2 else None
    return next(((0, end) for end, least in _INTEGER_SCALES if least <= high <= end), None)


def _float_range(low: float, high: float, below_white: float) -> tuple[float, float] | None:
    for end, least in _FLOAT_SCALES:
        if least <= high and -_OVERSHOOT * end <= low and high <= (1 + _OVERSHOOT) * end:
            return 0, end
    # Light sources above white, as in linear renderings: white stays 1.
    return (0, 1) if low >= -_OVERSHOOT and below_white >= 0.99 else None


def _unknown(low: float, high: float) -> tuple[float, float]:
    raise BadInputError(
        f"samples from {low:g} to {high:g}, and no tag that says which is black and which white: "
        "save it with 8 or 16 bits"
    )
