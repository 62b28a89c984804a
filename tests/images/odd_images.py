"""Odd image files for tests, each made by a few lines."""

import io
import struct

import numpy as np
from PIL import Image, ImageCms

from lib.images.jpeg import plain_jpeg


def scene(width: int = 320, height: int = 240) -> Image.Image:
    """Red on the left, blue on the right, a white band at the top: every turn shows."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2, 0] = 220
    pixels[:, width // 2 :, 2] = 220
    pixels[: height // 3] = 255
    return Image.fromarray(pixels)


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    """The file that Pillow writes."""
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def exif(orientation: int) -> bytes:
    """Exif data that says no more than an orientation."""
    data = Image.Exif()
    data[0x0112] = orientation
    return data.tobytes()


def xmp(orientation: int, quote: str = '"') -> bytes:
    """An XMP packet that says no more than an orientation."""
    attribute = f"tiff:Orientation={quote}{orientation}{quote}"
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
        f'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" {attribute}/></rdf:RDF></x:xmpmeta>'
    ).encode()


def segment(marker: int, data: bytes) -> bytes:
    """A JPEG's marker segment."""
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def with_segments(jpeg: bytes, *segments: bytes) -> bytes:
    """A JPEG with more segments behind its first two bytes."""
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def repeated_scans(jpeg: bytes, times: int) -> bytes:
    """A progressive JPEG whose last scan comes so often again."""
    last = jpeg.rindex(b"\xff\xda")
    return jpeg[:last] + jpeg[last:-2] * (times + 1) + jpeg[-2:]


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def rgb_profile(primaries: str, gamma: float) -> bytes:
    """An ICC profile of RGB with the primaries of `adobe` or `p3`, or with red and blue swapped.

    Laid out as ICC.1:2001-04 says, with the fewest tags that a matrix profile may have. The
    columns are the primaries in XYZ, adapted to D50 (brucelindbloom.com).
    """
    columns = {
        "srgb": ((0.436, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)),
        "adobe": ((0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446)),
        "p3": ((0.5151, 0.2412, -0.001), (0.292, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841)),
    }
    columns["swapped"] = columns["srgb"][::-1]

    def fixed(*values: float) -> bytes:
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    curve = b"curv" + struct.pack(">IIHxx", 0, 1, round(gamma * 256))
    tags = [(b"wtpt", b"XYZ \0\0\0\0" + fixed(0.9642, 1, 0.8249))]
    for name, column in zip((b"r", b"g", b"b"), columns[primaries], strict=True):
        tags += [(name + b"XYZ", b"XYZ \0\0\0\0" + fixed(*column)), (name + b"TRC", curve)]
    table, data = struct.pack(">I", len(tags)), b""
    for name, content in tags:
        table += name + struct.pack(">II", 128 + 4 + 12 * len(tags) + len(data), len(content))
        data += content
    header = struct.pack(
        ">I4x4s4s4s4s", 128 + len(table + data), b"\2\x20\0\0", b"mntr", b"RGB ", b"XYZ "
    )
    header = header.ljust(36, b"\0") + b"acsp"
    return header.ljust(68, b"\0") + fixed(0.9642, 1, 0.8249).ljust(60, b"\0") + table + data


def plain_jpeg_size(content: bytes) -> tuple[int, int] | None:
    """(width, height) of a plain JPEG in sRGB, which a faster decoder than Pillow may read."""
    jpeg = plain_jpeg(content)
    return jpeg[:2] if jpeg and jpeg.to_srgb is None else None
