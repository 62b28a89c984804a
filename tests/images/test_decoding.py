"""Every odd kind of file becomes what a person would see, or a typed reason."""

from collections.abc import Callable

import pytest
from PIL import Image

from lib.images.decoding import plain_jpeg_size
from tests.images.odd_images import (
    SRGB,
    encoded,
    exif,
    repeated_scans,
    rgb_profile,
    scene,
    segment,
    with_segments,
    xmp,
)

pytestmark = pytest.mark.reports

JPEG = encoded(scene(), quality=90)
PROGRESSIVE = encoded(scene(), quality=90, progressive=True)
XMP = b"http://ns.adobe.com/xap/1.0/\0"
PLAIN: dict[str, Callable[[], bytes]] = {
    "baseline": lambda: JPEG,
    "progressive": lambda: PROGRESSIVE,
    "grey": lambda: encoded(scene().convert("L")),
    "upright by Exif": lambda: encoded(scene(), exif=exif(1)),
    "upright by XMP": lambda: with_segments(JPEG, segment(0xE1, XMP + xmp(1))),
    "sRGB by profile": lambda: encoded(scene(), icc_profile=SRGB),
    "a damaged profile": lambda: encoded(scene(), icc_profile=b"\xff" * 500),
    "something behind its end": lambda: JPEG + b"\0" * 100,
    "a film behind its end": lambda: JPEG + b"\xff\xda" * 2000,
}
NOT_PLAIN: dict[str, Callable[[], bytes]] = {
    "turned by Exif": lambda: encoded(scene(), exif=exif(6)),
    "turned by XMP": lambda: with_segments(JPEG, segment(0xE1, XMP + xmp(6))),
    "turned by XMP in other quotes": lambda: with_segments(JPEG, segment(0xE1, XMP + xmp(8, "'"))),
    "damaged Exif": lambda: with_segments(JPEG, segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff")),
    "900 empty Exif segments": lambda: with_segments(JPEG, segment(0xE1, b"Exif\0\0") * 900),
    "Adobe RGB": lambda: encoded(scene(), icc_profile=rgb_profile("adobe", 2.2)),
    "CMYK": lambda: encoded(scene().convert("CMYK")),
    "a scan 2,000 times": lambda: repeated_scans(PROGRESSIVE, 2000),
    "no end": lambda: JPEG[:-2],
    "half": lambda: JPEG[: len(JPEG) // 2],
    "no image": lambda: b"\xff\xd8\xff\xd9",
    "PNG": lambda: encoded(scene(), "PNG"),
    "nothing": lambda: b"",
}


@pytest.mark.parametrize("kind", PLAIN)
def test_plain_jpegs_may_go_to_any_decoder(kind: str) -> None:
    assert plain_jpeg_size(PLAIN[kind]()) == (320, 240)


@pytest.mark.parametrize("kind", NOT_PLAIN)
def test_other_jpegs_go_to_pillow(kind: str) -> None:
    assert plain_jpeg_size(NOT_PLAIN[kind]()) is None


def test_any_cut_and_any_length_of_a_segment_is_survived() -> None:
    content = encoded(Image.new("RGB", (8, 8)), exif=exif(1))
    for position in range(len(content)):
        assert plain_jpeg_size(content[:position]) is None
        plain_jpeg_size(content[:position] + b"\xff" + content[position + 1 :])
