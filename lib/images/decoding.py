"""Image files to pictures as a person sees them, without PyTorch, which takes seconds to import."""

import io
import re
import warnings
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageCms, ImageFile, ImageOps, UnidentifiedImageError

from lib.errors import BadInputError

MAX_PIXELS = 200_000_000
# Of one JPEG: encoders write a dozen at most, and each makes a decoder go over the whole picture.
MAX_SCANS = 100
# A profile that moves no colour by more than this is one of the many that mean sRGB.
_SRGB_TOLERANCE = 4  # of 255

# Lossless, hierarchical and arithmetic frames, fill bytes, and an end without a picture.
_OTHER_FRAMES = {*range(0xC3, 0xD0), 0xFF, 0xD9} - {0xC4, 0xC8, 0xCC}
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_XMP_ORIENTATION = re.compile(rb"""tiff:Orientation\s*(?:=\s*["']|>)\s*([1-8])""")


class ImageError(BadInputError):
    """An image that cannot be described; `reason` is one of a few fixed words."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.reason, str(self))


class PlainJpeg(NamedTuple):
    """A JPEG that every decoder reads alike: whole, 8 bits, RGB or grey, few scans, upright."""

    width: int
    height: int
    to_srgb: ImageCms.ImageCmsTransform | None  # for its pixels, RGB or L; None: they are sRGB


def plain_jpeg_size(content: bytes) -> tuple[int, int] | None:
    """(width, height) of a plain JPEG in sRGB, which a faster decoder than Pillow may read."""
    jpeg = plain_jpeg(content)
    return jpeg[:2] if jpeg and jpeg.to_srgb is None else None


def plain_jpeg(content: bytes) -> PlainJpeg | None:
    """What a faster decoder than Pillow must know of a JPEG, or None where Pillow should read it.

    Reads the headers only, in one pass, and copies nothing but a colour profile.
    """
    if content[:3] != b"\xff\xd8\xff":
        return None
    size, components, progressive, exif = None, 0, False, False
    profile: list[bytes] = []
    position = 2
    while position + 9 < len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        start = position + 4
        end = position + 2 + int.from_bytes(content[position + 2 : start])
        if marker in (0xC0, 0xC1, 0xC2):
            if size or content[start] != 8:
                return None
            height, width = (int.from_bytes(content[start + n : start + n + 2]) for n in (1, 3))
            size, components, progressive = (width, height), content[start + 5], marker == 0xC2
        elif marker == 0xE1 and content.startswith(b"Exif\0\0", start):
            if exif or not _is_upright(content, start + 6, end):
                return None
            exif = True
        elif marker == 0xE1 and content.startswith(_XMP, start):
            found = _XMP_ORIENTATION.search(content, start, end)
            if found and found[1] != b"1":
                return None
        elif marker == 0xE2 and content.startswith(b"ICC_PROFILE\0", start):
            profile.append(content[start + 12 : end])
        elif marker == 0xDA:
            if size is None or not 0 < size[0] * size[1] <= MAX_PIXELS or components not in (1, 3):
                return None
            # A decoder goes once over a file whose first scan holds all components.
            one_scan = not progressive and content[start] == components
            few = one_scan or content.count(b"\xff\xda", position) <= MAX_SCANS
            whole = content.endswith(b"\xff\xd9") or content.rfind(b"\xff\xd9") > position
            return PlainJpeg(*size, _transform(profile, components)) if few and whole else None
        elif marker in _OTHER_FRAMES:
            return None
        position = end
    return None


def _is_upright(content: bytes, start: int, end: int) -> bool:
    """Whether the Exif data there has no orientation, or 1, in a form that all readers take."""
    order = {b"II*\0": "little", b"MM\0*": "big"}.get(content[start : start + 4])
    if order is None:
        return False

    def number(position: int, length: int) -> int:
        return int.from_bytes(content[position : position + length], order)  # type: ignore[arg-type]

    entries = start + number(start + 4, 4)
    if entries + 2 > end:
        return False
    first, count = entries + 2, number(entries, 2)
    if first + 12 * count > end:
        return False
    for entry in range(first, first + 12 * count, 12):
        if number(entry, 2) == 0x0112:
            return (number(entry + 2, 2), number(entry + 4, 4), number(entry + 8, 2)) == (3, 1, 1)
    return True


def _transform(segments: list[bytes], components: int) -> ImageCms.ImageCmsTransform | None:
    """What turns pixels under the profile in these ICC segments into sRGB; None: nothing need."""
    profile = b"".join(segment[2:] for segment in sorted(segments))  # each begins with its number
    return _to_srgb(profile, "RGB" if components == 3 else "L") if profile else None


@lru_cache(maxsize=32)
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """What turns pixels of `mode` under an ICC profile into sRGB.

    None where nothing is to be done: a profile that means sRGB, is damaged, or is of other pixels.
    """
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None
    if mode not in ("RGB", "L"):
        return transform
    steps = np.arange(0, 256, 17).astype(np.uint8)
    colors = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(1, -1, 3)
    sample = Image.fromarray(colors) if mode == "RGB" else Image.fromarray(steps[None])
    converted = np.asarray(transform.apply(sample), np.int16)
    moved = np.abs(converted - np.asarray(sample.convert("RGB"), np.int16)).max()
    return transform if moved > _SRGB_TOLERANCE else None


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


ImageFile.LOAD_TRUNCATED_IMAGES = False
