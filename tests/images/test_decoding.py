"""Every odd kind of file becomes what a person would see, or a typed reason."""

import gzip
import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from lib.images import decoding
from lib.images.decoding import HEIF_IS_READ, ImageError, decode_upright, image_format
from lib.images.thumbnails import small_image
from tests.images.odd_images import (
    SRGB,
    encoded,
    exif,
    plain_jpeg_size,
    repeated_scans,
    rgb_profile,
    scene,
    segment,
    with_segments,
    xmp,
)

pytestmark = pytest.mark.reports


def open_upright(content: bytes) -> Image.Image:
    return decode_upright(content).image


JPEG = encoded(scene(), quality=90)
PROGRESSIVE = encoded(scene(), quality=90, progressive=True)
XMP = b"http://ns.adobe.com/xap/1.0/\0"
PLAIN: dict[str, Callable[[], bytes]] = {
    "baseline": lambda: JPEG,
    "progressive": lambda: PROGRESSIVE,
    "grey": lambda: encoded(scene().convert("L")),
    "upright by Exif": lambda: encoded(scene(), exif=exif(1)),
    "upright by XMP": lambda: with_segments(JPEG, segment(0xE1, XMP + xmp(1))),
    "turned by Exif": lambda: encoded(scene(), exif=exif(6)),
    "turned by XMP": lambda: with_segments(JPEG, segment(0xE1, XMP + xmp(6))),
    "sRGB by profile": lambda: encoded(scene(), icc_profile=SRGB),
    "a damaged profile": lambda: encoded(scene(), icc_profile=b"\xff" * 500),
    "something behind its end": lambda: JPEG + b"\0" * 100,
    "a film behind its end": lambda: JPEG + b"\xff\xda" * 2000,
}
NOT_PLAIN: dict[str, Callable[[], bytes]] = {
    "turned by a number that means nothing": lambda: encoded(scene(), exif=exif(9)),
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


def mean_difference(content: bytes, expected: Image.Image) -> float:
    """Mean absolute difference, of 255, between the decoded file and a picture of its size."""
    decoded = decode_upright(content)
    assert decoded.image.mode == "RGB"
    assert decoded.image.size == (decoded.width, decoded.height) == expected.size
    pixels = np.asarray(decoded.image, np.float64) - np.asarray(expected.convert("RGB"), np.float64)
    return float(np.abs(pixels).mean())


def fails(content: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        decode_upright(content)
    return f"{caught.value.reason}: {caught.value}"


UNDO = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("orientation", UNDO)
def test_one_orientation_everywhere(orientation: int) -> None:
    stored = scene().transpose(UNDO[orientation])
    by_xmp = segment(0xE1, XMP + xmp(orientation, "'"))
    by_exif = exif(orientation)
    text = PngInfo()
    text.add_itxt("XML:com.adobe.xmp", xmp(orientation).decode())
    files = [
        encoded(stored, exif=by_exif, quality=95),
        with_segments(encoded(stored, quality=95), by_xmp),
        # Exif data stands above XMP.
        with_segments(encoded(stored, exif=by_exif, quality=95), segment(0xE1, XMP + xmp(1))),
        encoded(stored, "PNG", exif=by_exif),
        encoded(stored, "PNG", pnginfo=text),
        encoded(stored, "WEBP", exif=by_exif, lossless=True),
        encoded(stored, "WEBP", xmp=xmp(orientation), lossless=True),
        encoded(stored, "TIFF", tiffinfo={0x0112: orientation}),
        encoded(stored, "TIFF", tiffinfo={700: xmp(orientation)}),
    ]
    for content in files:
        assert mean_difference(content, scene()) < 1
        assert small_image(content, 320).tobytes() == open_upright(content).tobytes()


def test_damaged_exif_turns_nothing() -> None:
    for data in (
        b"II*\0\xff\xff\xff\xff",
        b"MM\0*\0\0\0\x08\xff\xff",
        b"",
        b"II*\0\x08\0\0\0" * 50,
    ):
        content = with_segments(JPEG, segment(0xE1, b"Exif\0\0" + data))
        assert mean_difference(content, scene()) < 2


PROFILES = {
    "Adobe RGB": rgb_profile("adobe", 2.2),
    "Display P3": rgb_profile("p3", 2.2),
    "linear": rgb_profile("srgb", 1.0),
    "red and blue swapped": rgb_profile("swapped", 2.2),
}


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_colours_under_a_profile_are_those_meant(profile: str, kind: str) -> None:
    meant = Image.new("RGB", (64, 64), (190, 80, 50))
    source = ImageCms.createProfile("sRGB")
    target = ImageCms.ImageCmsProfile(io.BytesIO(PROFILES[profile]))
    stored = ImageCms.profileToProfile(meant, source, target)
    assert stored is not None
    del stored.info["icc_profile"]  # which Pillow would write by itself
    options: dict[str, dict[str, Any]] = {
        "JPEG": {"quality": 100},
        "WEBP": {"lossless": True},
        "AVIF": {"quality": 95},
    }
    content = encoded(stored, kind, icc_profile=PROFILES[profile], **options.get(kind, {}))
    assert mean_difference(content, meant) < 4
    assert mean_difference(encoded(stored, kind, **options.get(kind, {})), meant) > 5


def test_a_profile_of_other_pixels_changes_nothing() -> None:
    content = encoded(scene().convert("CMYK"), "TIFF", icc_profile=PROFILES["Adobe RGB"])
    assert mean_difference(content, scene()) < 1
    assert mean_difference(encoded(scene(), "PNG", icc_profile=b"\xff" * 200), scene()) == 0


def test_a_grey_picture_under_a_profile() -> None:
    grey = Image.new("L", (64, 64), 64)
    content = encoded(grey, "PNG", icc_profile=rgb_profile("srgb", 1.0))
    # (64 / 255) is light already; sRGB writes it as 1.055 · x^(1 / 2.4) − 0.055.
    assert open_upright(content).getpixel((5, 5)) == pytest.approx((137, 137, 137), abs=2)


def with_chunk(png: bytes, kind: bytes, data: bytes) -> bytes:
    """A PNG with one more chunk behind its header."""
    chunk = struct.pack(">I", len(data)) + kind + data
    return png[:33] + chunk + struct.pack(">I", zlib.crc32(kind + data)) + png[33:]


def test_gamma_and_chromaticities_of_a_png() -> None:
    grey = encoded(Image.new("RGB", (8, 8), (64, 64, 64)), "PNG")
    linear = with_chunk(grey, b"gAMA", struct.pack(">I", 100_000))
    assert open_upright(linear).getpixel((1, 1)) == pytest.approx((137, 137, 137), abs=2)
    usual = with_chunk(grey, b"gAMA", struct.pack(">I", 45_455))
    assert open_upright(usual).getpixel((1, 1)) == (64, 64, 64)
    assert open_upright(with_chunk(linear, b"sRGB", b"\0")).getpixel((1, 1)) == (64, 64, 64)
    meant = Image.new("RGB", (8, 8), (150, 110, 80))
    target = ImageCms.ImageCmsProfile(io.BytesIO(rgb_profile("adobe", 2.2)))
    stored = ImageCms.profileToProfile(meant, ImageCms.createProfile("sRGB"), target)
    assert stored is not None
    corners = (31_270, 32_900, 64_000, 33_000, 21_000, 71_000, 15_000, 6_000)
    adobe = with_chunk(encoded(stored, "PNG"), b"cHRM", struct.pack(">8I", *corners))
    adobe = with_chunk(adobe, b"gAMA", struct.pack(">I", 45_471))
    assert mean_difference(adobe, meant) < 2


GREY = np.linspace(10, 245, 96 * 128).reshape(96, 128).round()
SAMPLES: dict[str, tuple[np.ndarray, dict[int, object]]] = {
    "float of 0 to 1": ((GREY / 255).astype(np.float32), {}),
    "float of 0 to 255": (GREY.astype(np.float32), {}),
    "float of 0 to 65535": ((GREY * 257).astype(np.float32), {}),
    "float that overshoots": ((GREY / 240 - 0.03).astype(np.float32), {}),
    "float that says its range": (
        (GREY * 10 - 1275).astype(np.float32),
        {340: -1275.0, 341: 1275.0},
    ),
    "8 bits in 32": (GREY.astype(np.int32), {}),
    "16 bits in 32": ((GREY * 257).astype(np.int32), {}),
    "31 bits": ((GREY * (2**23)).astype(np.int32), {}),
    "16 bits": ((GREY * 257).astype(np.uint16), {}),
    "8 bits in 16": (GREY.astype(np.uint16), {}),
    "12 bits in 16": ((GREY * 16).astype(np.uint16), {}),
    "10 bits in 16, said so": ((GREY * 4).astype(np.uint16), {280: 0, 281: 1023}),
    "16 bits, white is zero": (((255 - GREY) * 257).astype(np.uint16), {262: 0}),
    "float, white is zero": (((255 - GREY) / 255).astype(np.float32), {262: 0}),
}


@pytest.mark.parametrize("kind", SAMPLES)
def test_samples_of_any_width_show_the_picture_of_eight_bits(kind: str) -> None:
    samples, tags = SAMPLES[kind]
    content = encoded(Image.fromarray(samples), "TIFF", tiffinfo=tags)
    limit = 9 if "overshoots" in kind else 1.1
    assert mean_difference(content, Image.fromarray(GREY.astype(np.uint8))) < limit


def test_pixels_without_a_value_leave_the_others_as_they_are() -> None:
    samples = (GREY / 255).astype(np.float32)
    samples[::7, ::5] = np.nan
    samples[3, 3], samples[3, 4] = np.inf, -np.inf
    content = encoded(Image.fromarray(samples), "TIFF")
    assert mean_difference(content, Image.fromarray(GREY.astype(np.uint8))) < 3


@pytest.mark.parametrize(
    ("kind", "nothing"), [("float32", "-9999"), ("uint16", "65535"), ("int32", "-32768 ")]
)
def test_a_mark_of_pixels_without_a_value_is_no_value(kind: str, nothing: str) -> None:
    samples = (GREY / 255 if kind == "float32" else GREY * 16).astype(kind)
    samples[:10] = float(nothing)
    decoded = open_upright(encoded(Image.fromarray(samples), "TIFF", tiffinfo={42113: nothing}))
    assert np.abs(np.asarray(decoded.convert("L"), float)[10:] - GREY[10:]).max() < 1.1
    assert np.asarray(decoded)[:10] == pytest.approx(GREY[10:].mean(), abs=1)


def test_samples_that_nobody_can_know_are_a_failure() -> None:
    kelvin = np.linspace(270, 310, 10_000, dtype=np.float32).reshape(100, 100)
    assert "samples from 270 to 310" in fails(encoded(Image.fromarray(kelvin), "TIFF"))
    nothing = np.full((8, 8), np.nan, np.float32)
    assert "none of its samples is a number" in fails(encoded(Image.fromarray(nothing), "TIFF"))


def tiff(
    samples: np.ndarray, order: Literal["<", ">"] = "<", planar: bool = False, **tags: int
) -> bytes:
    """A TIFF of (height, width, samples), of the kinds that Pillow does not write.

    tags: `t262=2` sets a tag, `t258` and `t339` the bits and the kind of all samples.
    """
    height, width, count = samples.shape
    planes = [*np.moveaxis(samples, 2, 0)] if planar else [samples]
    data = b"".join(plane.astype(plane.dtype.newbyteorder(order)).tobytes() for plane in planes)
    size = len(data) // len(planes)
    places = [2000 + size * plane for plane in range(len(planes))]
    values = {256: [width], 257: [height], 258: [samples.itemsize * 8] * count, 259: [1]}
    values |= {262: [2 if count > 2 else 1], 273: places, 277: [count], 278: [height]}
    values |= {279: [size] * len(planes), 284: [1 + planar]}
    values |= {int(tag[1:]): [value] for tag, value in tags.items()}
    values[339] = values.get(339, [1]) * count
    directory, rest = struct.pack(order + "H", len(values)), b""
    for tag, numbers in sorted(values.items()):
        packed = struct.pack(f"{order}{len(numbers)}I", *numbers)
        if len(packed) > 4:
            rest += packed
            packed = struct.pack(order + "I", 1000 + len(rest) - len(packed))
        directory += struct.pack(order + "HHI", tag, 4, len(numbers)) + packed
    header = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, 8)
    return ((header + directory).ljust(1000, b"\0") + rest).ljust(2000, b"\0") + data


@pytest.mark.parametrize("order", "<>")
def test_tiffs_that_pillow_takes_for_others(order: Literal["<", ">"]) -> None:
    pixels = np.asarray(scene())
    deep = pixels.astype(np.uint16) * 257
    assert mean_difference(tiff(deep, order, planar=True), scene()) == 0
    assert mean_difference(tiff(pixels, order, planar=True), scene()) == 0
    with_alpha = np.concatenate([deep, np.full_like(deep[..., :1], 65535)], -1)
    assert mean_difference(tiff(with_alpha, order, planar=True, t338=2), scene()) == 0
    grey = np.asarray(scene().convert("L"))[..., None]
    for kind, value in ((np.uint16, grey * 257.0), (np.float32, grey / 255)):
        one_plane = tiff(value.astype(kind), order, planar=True, t339=1 + 2 * (kind is np.float32))
        assert mean_difference(one_plane, scene().convert("L")) < 0.1
    assert mean_difference(tiff(grey ^ 128, order, t339=2), scene().convert("L")) == 0
    half = np.concatenate([grey // 2, np.full_like(grey, 128)], -1)  # multiplied by its opacity
    over_white = Image.fromarray((grey[..., 0] // 2 + 127).astype(np.uint8))
    assert mean_difference(tiff(half, order, t338=1), over_white) < 1.1


def test_a_tiff_that_pillow_does_not_read_says_what_it_is() -> None:
    message = fails(tiff(np.zeros((2, 2, 3), np.float32), t339=3))
    assert message.startswith("unsupported: a TIFF of 3 × 32-bit float samples"), message


def test_a_scan_that_comes_thousands_of_times_is_refused() -> None:
    bomb = repeated_scans(PROGRESSIVE, 2000)
    assert fails(bomb).startswith("too_large: a JPEG of 2,0")
    assert mean_difference(repeated_scans(PROGRESSIVE, 20), scene()) < 3
    # A film behind the picture, as phones write, is no scan of it.
    assert mean_difference(PROGRESSIVE + b"\xff\xda\0\x08" * 500, scene()) < 3


def png_chunk(kind: bytes, data: bytes = b"") -> bytes:
    crc = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + crc


def with_many_parts(kind: str, count: int) -> bytes:
    """A grey picture whose headers have `count` parts more than they need, one kind of a format."""
    image = Image.new("RGB", (4, 3), (90, 90, 90))
    jpeg, png, ppm = (encoded(image, name) for name in ("JPEG", "PNG", "PPM"))
    data = png.index(b"IDAT") - 4
    resources = b"8BIM\x04\0\0\0\0\0\0\0" * count
    psd = struct.pack(">4sH6xHIIHHI", b"8BPS", 1, 3, 3, 4, 8, 3, 0)
    psd += struct.pack(">I", len(resources)) + resources + struct.pack(">IH", 0, 0)
    return {
        "fill bytes": jpeg[:2] + b"\xff" * count + jpeg[2:],
        "segments": jpeg[:2] + b"\xff\xe0\0\2" * count + jpeg[2:],
        "a comment": b"P6\n#" + b"x" * count + ppm[2:],
        "chunks": png[:data] + png_chunk(b"abCd") * count + png[data:],
        "chunks of data": png[:data] + png_chunk(b"IDAT") * count + png[data:],
        "resources": psd + bytes([90] * 36),
    }[kind]


@pytest.mark.parametrize(
    "kind", ["fill bytes", "segments", "a comment", "chunks", "chunks of data", "resources"]
)
def test_headers_without_end_are_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow takes up to half a minute for one of 19 MB."""
    monkeypatch.setattr(decoding, "MAX_READS", 5_000)
    assert open_upright(with_many_parts(kind, 500)).getpixel((0, 0)) == (90, 90, 90)
    with pytest.raises(ImageError, match="of more than 5,000 pieces") as refused:
        open_upright(with_many_parts(kind, 5_000))
    assert refused.value.reason == "too_large"


@pytest.mark.parametrize("jpeg", [JPEG, PROGRESSIVE], ids=["baseline", "progressive"])
def test_a_jpeg_that_lacks_only_its_end_is_whole(jpeg: bytes) -> None:
    assert open_upright(jpeg[:-2]).tobytes() == open_upright(jpeg).tobytes()
    for share in (0.5, 0.8):
        assert fails(jpeg[: int(share * len(jpeg))]).startswith("truncated")


@pytest.mark.parametrize(
    ("depth", "color"), [(1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (8, 2), (16, 2)]
)
def test_a_transparent_sample_of_any_depth(depth: int, color: int) -> None:
    """A ramp whose second step is transparent, and so shows what is behind it: white."""
    most = 2**depth - 1
    steps = np.linspace(0, most, min(most, 15) + 1).round().astype(int)
    samples = np.repeat(steps[:, None], 3 if color else 1, 1)
    bits = (samples[..., None] >> np.arange(depth - 1, -1, -1)) & 1
    data = b"\0" + np.packbits(bits.astype(np.uint8).ravel()).tobytes()
    header = struct.pack(">IIBB3x", len(steps), 1, depth, color)
    png = b"\x89PNG\r\n\x1a\n" + bytes(25)
    for kind, content in (
        (b"IEND", b""),
        (b"IDAT", zlib.compress(data)),
        (b"tRNS", struct.pack(f">{samples.shape[1]}H", *samples[1])),
        (b"IHDR", header),
    ):
        png = with_chunk(png, kind, content)
    expected = np.repeat((steps * 255 // most)[:, None], 3, 1)
    expected[1] = 255
    assert mean_difference(png[:8] + png[33:], Image.fromarray(expected[None].astype("u1"))) < 0.5


def test_what_is_beside_the_picture_of_a_png_may_be_damaged_or_huge() -> None:
    png = encoded(scene(), "PNG", exif=exif(3))
    turned = scene().transpose(UNDO[3])
    text = with_chunk(png, b"tEXt", b"Comment\0hello")
    assert mean_difference(text.replace(b"hello", b"jello"), turned) == 0
    huge = with_chunk(png, b"zTXt", b"Raw profile\0\0" + zlib.compress(bytes(3_000_000)))
    assert mean_difference(huge, turned) == 0
    assert image_format(huge) == "PNG"
    assert fails(huge[: len(huge) - 100]).startswith("truncated")
    assert fails(png.replace(b"IHDR", b"IHDr")).startswith("undecodable: a PNG whose beginning is")


@pytest.mark.parametrize("kind", ["BMP", "TGA"])
def test_opacity_that_a_program_left_at_zero_is_none(kind: str) -> None:
    clear = scene().convert("RGBA")
    clear.putalpha(0)
    content = bytearray(encoded(clear, kind))
    if kind == "BMP":  # which Pillow writes without opacity
        masks = struct.pack("<4I4s48x", 0xFF0000, 0xFF00, 0xFF, 0xFF000000, b"BGRs")
        struct.pack_into("<I", content, 10, 122)
        struct.pack_into("<I", content, 14, 108)
        struct.pack_into("<I", content, 30, 3)
        content[54:54] = masks
    assert mean_difference(bytes(content), scene()) == 0
    corner = len(content) - 1 - (26 if kind == "TGA" else 0)
    content[corner] = 255  # of one pixel: the others are transparent
    assert mean_difference(bytes(content), Image.new("RGB", (320, 240), "white")) < 0.1


def test_a_frame_smaller_than_its_screen_has_no_background() -> None:
    frame = Image.new("P", (10, 10), 1)
    frame.putpalette([0, 0, 0, 250, 0, 0])
    gif = bytearray(encoded(frame, "GIF"))
    gif[6:10] = struct.pack("<HH", 30, 20)  # the screen
    place = gif.index(b"\x2c\0\0\0\0\x0a\0\x0a\0")
    gif[place + 1 : place + 5] = struct.pack("<HH", 5, 7)
    expected = Image.new("RGB", (30, 20), "white")
    expected.paste((250, 0, 0), (5, 7, 15, 17))
    assert mean_difference(bytes(gif), expected) == 0


def test_only_the_listed_formats_are_opened() -> None:
    for kind in ("EPS", "PDF"):
        assert fails(encoded(scene(), kind)).startswith("unsupported")
    for kind in ("XBM", "IM", "SPIDER"):
        image = scene().convert({"XBM": "1", "IM": "RGB", "SPIDER": "F"}[kind])
        assert fails(encoded(image, kind)).startswith("not_an_image")


def test_other_formats_that_people_have() -> None:
    for kind in ("TGA", "DDS", "ICO", "ICNS", "PCX", "SGI", "PPM", "JPEG2000", "QOI", "MPO"):
        size = {"ICO": (256, 256), "ICNS": (1024, 1024)}.get(kind, (320, 240))
        options = {"sizes": [size]} if kind == "ICO" else {}
        assert mean_difference(encoded(scene(*size), kind, **options), scene(*size)) < 2, kind


@pytest.mark.slow
def test_a_huge_picture_comes_at_a_smaller_scale() -> None:
    wide = encoded(Image.new("RGB", (21_000, 10_000), (200, 100, 50)), quality=50)
    assert plain_jpeg_size(wide) is None
    panorama = decode_upright(wide)
    assert (panorama.width, panorama.height) == (21_000, 10_000)
    assert panorama.image.size == (5250, 2500)
    assert panorama.image.getpixel((2000, 2000)) == pytest.approx((200, 100, 50), abs=3)
    # A picture larger than uploads may be is read at a smaller scale, too, if it is a JPEG.
    small = decode_upright(wide, max_pixels=27_000_000)
    assert (small.width, *small.image.size) == (21_000, 5250, 2500)
    with pytest.raises(ImageError, match="at most 1,000,000"):
        decode_upright(encoded(Image.new("L", (1001, 1000)), "PNG"), max_pixels=1_000_000)


@pytest.mark.slow
def test_memory_follows_the_pixels_allowed() -> None:
    """52 megapixels of 16 bits, of 450 KB, in a process of its own that says its peak."""
    code = """
import io
from pathlib import Path
from PIL import Image
from lib.images.decoding import decode_upright
file = io.BytesIO()
Image.new("I;16", (7_200, 7_200), 1).save(file, "PNG", compress_level=1)
picture = decode_upright(file.getvalue())
status = Path("/proc/self/status").read_text()
print(*picture[1:], *picture.image.size, status.split("VmHWM:")[1].split()[0])
"""
    if not Path("/proc/self/status").exists():
        pytest.skip("the system does not tell a process's peak")
    command = [sys.executable, "-c", code]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    *sizes, peak = map(int, printed.split())
    assert sizes == [7_200, 7_200, 3_600, 3_600]
    assert peak < 400_000  # KiB; the samples are 101,000, and as float64 would be 405,000


@pytest.mark.parametrize("kind", ["AVIF", "WEBP"])
def test_formats_that_take_more_memory_have_fewer_pixels(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = encoded(scene(), kind)
    decode_upright(content)
    monkeypatch.setitem(decoding._MOST_PIXELS, kind, 320 * 240 - 1)
    assert fails(content) == "too_large: 320×240 pixels; at most 76,799 of such a file are decoded"


def icon(kind: str, inner: bytes) -> bytes:
    """An icon that says nothing of how large the picture inside is."""
    if kind == "ICNS":
        lengths = (length.to_bytes(4) for length in (len(inner) + 16, len(inner) + 8))
        return b"icns%bic10%b%b" % (*lengths, inner)
    return struct.pack("<3H4B2H2I", 0, 1, 1, 0, 0, 0, 0, 1, 32, len(inner), 22) + inner


def test_what_is_larger_inside_than_a_file_says_is_not_unpacked() -> None:
    for kind, inner in (("ICO", "PNG"), ("ICNS", "PNG"), ("ICNS", "JPEG2000")):
        content = icon(kind, encoded(Image.new("RGBA", (1024, 1024)), inner))
        with pytest.raises(ImageError, match="1024×1024 pixels; at most 1,000,000 of") as caught:
            decode_upright(content, max_pixels=1_000_000)
        assert caught.value.reason == "too_large"
    side, tile = 30_000, zlib.compress(bytes(1_000))
    tags = {256: 16, 257: 16, 258: 8, 259: 8, 262: 1, 277: 1, 322: side, 323: side, 324: 200}
    directory = b"".join(struct.pack("<2H2I", tag, 4, 1, value) for tag, value in tags.items())
    directory += struct.pack("<2H3I", 325, 4, 1, len(tile), 0)
    content = struct.pack("<2sHIH", b"II", 42, 8, len(tags) + 1) + directory
    assert fails(content.ljust(200, b"\0") + tile).startswith("too_large: 30000×30000 pixels")


def test_what_is_not_read_is_named() -> None:
    deep = bytearray(JPEG)
    deep[deep.index(b"\xff\xc0") + 4] = 16  # bits of a sample
    assert fails(bytes(deep)) == "unsupported: a JPEG that is not read: cannot handle 16-bit layers"
    svg = b'<?xml version="1.0"?>\n<!-- a drawing --><svg xmlns="http://www.w3.org/2000/svg"/>'
    assert fails(svg).startswith("unsupported: SVG is not read")
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
    assert fails(pointer) == "not_an_image: Git LFS has not fetched the picture: git lfs pull"
    photoshop = b"8BPS" + struct.pack(">H6xHIIHH", 1, 4, 8, 8, 32, 4).ljust(200, b"\0")
    assert "a PSD of 4 × 32 bits in colour mode 4" in fails(photoshop)
    large = photoshop[:4] + b"\0\2" + photoshop[6:]
    for content, name in (
        (large, "Photoshop's large document (PSB) is not read"),
        (gzip.compress(JPEG), "a packed file under a picture's name: unpack it"),
        (b"\0\0\0\x18ftypmp42" + bytes(100), "a film or raw photo of kind 'mp42' is not read"),
        (b"II\xbc\x01" + bytes(100), "JPEG XR is not read"),
    ):
        assert fails(content).startswith(f"unsupported: {name}")
    assert fails(b"/annex/objects/SHA256E-s1--x.jpg\n").endswith("git annex get")
    assert fails(bytes(5000)).startswith("empty: the file holds nothing but zeros")


def test_an_avif_that_says_first_that_it_is_of_the_heif_family() -> None:
    content = encoded(scene(), "AVIF", quality=95)
    general = content[:8] + b"mif1" + content[12:]
    assert b"avif" in general[:40]
    assert mean_difference(general, scene()) < 3
    assert image_format(general) == "AVIF"
    assert fails(general[:200]).startswith("undecodable: an AVIF")


@pytest.mark.skipif(not HEIF_IS_READ, reason="pillow-heif is not installed")
def test_heic_files_are_upright_and_in_srgb(monkeypatch: pytest.MonkeyPatch) -> None:
    import pillow_heif

    pillow_heif.register_heif_opener()
    stored = scene().transpose(UNDO[6])
    assert mean_difference(encoded(stored, "HEIF", quality=95, exif=exif(6)), scene()) < 2
    assert fails(encoded(stored, "HEIF")[:200]) == "undecodable: a damaged HEIC file"
    monkeypatch.setitem(decoding._MOST_PIXELS, "HEIF", 320 * 240 - 1)
    assert fails(encoded(stored, "HEIF")).startswith("too_large")
