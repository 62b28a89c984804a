"""Image files to pictures as a person sees them, without PyTorch, which takes seconds to import."""

import io
import warnings

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from lib.errors import BadInputError

MAX_PIXELS = 200_000_000


class ImageError(BadInputError):
    """An image that cannot be described; `reason` is one of a few fixed words."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.reason, str(self))


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
