"""Image files as a browser takes them: the original, and a small JPEG."""

import io

from PIL import Image

from lib.errors import ImageSearchError
from lib.images.decoding import ImageError, decode_upright, image_format
from lib.images.reading import read_uri

MAX_FILE_BYTES = 100_000_000
_SHOWN_BY_BROWSERS = {"JPEG", "PNG", "WEBP", "GIF", "AVIF"}


class UnreadableImageError(ImageSearchError):
    """The file of an image is gone or damaged; the message names no path."""


def read_file(uri: str) -> bytes:
    """Bytes of an image, wherever `lib.images.listing` lists it. Raises UnreadableImageError."""
    try:
        content = read_uri(uri)
    except ImageError as error:
        raise UnreadableImageError("the file of this image cannot be read any more") from error
    if len(content) > MAX_FILE_BYTES:
        raise UnreadableImageError("the file of this image is too large to be sent")
    return content


def for_browser(content: bytes) -> tuple[bytes, str]:
    """The file itself and its media type, or a JPEG made from it where browsers show none.

    Raises UnreadableImageError where it is no image.
    """
    try:
        kind = image_format(content)
    except ImageError as error:
        raise UnreadableImageError("the file of this image is damaged") from error
    if kind in _SHOWN_BY_BROWSERS:
        return content, f"image/{kind.lower()}"
    return as_jpeg(_open(content)), "image/jpeg"


def small_jpeg(content: bytes, size: int) -> bytes:
    """A JPEG of an image, upright, its longer side at most `size` pixels.

    Raises UnreadableImageError.
    """
    return as_jpeg(small_image(content, size))


def small_image(content: bytes, size: int) -> Image.Image:
    """The picture, RGB and upright, its longer side at most `size` pixels.

    Raises UnreadableImageError.
    """
    image = _open(content, 2 * size)
    image.thumbnail((size, size), Image.Resampling.LANCZOS, reducing_gap=2)
    return image


def _open(content: bytes, enough: int | None = None) -> Image.Image:
    try:
        return decode_upright(content, enough=enough).image
    except ImageError as error:
        raise UnreadableImageError("the file of this image is damaged") from error


def as_jpeg(image: Image.Image) -> bytes:
    """A picture as a JPEG of the quality that pages are shown in."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    return file.getvalue()
