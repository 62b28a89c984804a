"""Decoding: every odd kind of file becomes what a person would see, or a typed reason."""

import dataclasses
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from lib.images.decoding import ImageError
from lib.images.jpeg import plain_jpeg
from lib.images.preprocessing import (
    Preprocessing,
    _decode_with_pillow,
    decode,
    resize,
    resize_with_torch,
)
from tests.images.odd_images import encoded, exif, plain_jpeg_size, scene

SMALL = Preprocessing(256, 224, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
WHOLE = dataclasses.replace(SMALL, whole=True)


def looks_like_scene(pixels: np.ndarray) -> None:
    assert pixels.shape == (224, 224, 3)
    assert pixels.dtype == np.uint8
    left, right, top = pixels[150:, 20:80], pixels[150:, 150:210], pixels[5:50, 20:200]
    assert left[..., 0].mean() > 180
    assert left[..., 2].mean() < 60
    assert right[..., 2].mean() > 180
    assert right[..., 0].mean() < 60
    assert top.mean() > 225


def sixteen_bit_png() -> bytes:
    grey = np.linspace(0, 65535, 256 * 256).reshape(256, 256).astype(np.uint16)
    return encoded(Image.fromarray(grey), "PNG")


VARIANTS: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: encoded(scene(), quality=95),
    "progressive": lambda: encoded(scene(), quality=95, progressive=True),
    "cmyk jpeg": lambda: encoded(scene().convert("CMYK"), quality=95),
    "png": lambda: encoded(scene(), "PNG"),
    "palette png": lambda: encoded(scene().quantize(16), "PNG"),
    "alpha png": lambda: encoded(scene().convert("RGBA"), "PNG"),
    "webp": lambda: encoded(scene(), "WEBP", quality=95),
    "animated gif": lambda: encoded(
        scene(), "GIF", save_all=True, append_images=[Image.new("RGB", (320, 240), "green")]
    ),
    "tiff": lambda: encoded(scene(), "TIFF"),
    "bmp": lambda: encoded(scene(), "BMP"),
    "wrong ending": lambda: encoded(scene(), "PNG"),
}


@pytest.mark.parametrize("kind", VARIANTS)
def test_every_format_shows_the_same_picture(kind: str) -> None:
    picture = decode(VARIANTS[kind](), SMALL)
    looks_like_scene(picture.pixels)
    assert (picture.width, picture.height) == (320, 240)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_exif_orientation_is_applied(orientation: int, kind: str) -> None:
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = scene() if orientation == 1 else scene().transpose(undo[orientation])
    picture = decode(encoded(stored, kind, exif=exif(orientation)), SMALL)
    looks_like_scene(picture.pixels)
    assert (picture.width, picture.height) == (320, 240)


def test_transparency_goes_over_white() -> None:
    clear = Image.new("RGBA", (300, 300), (255, 0, 0, 0))
    assert decode(encoded(clear, "PNG"), SMALL).pixels.min() == 255


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    pixels = decode(sixteen_bit_png(), SMALL).pixels
    assert pixels[:10].mean() < 30
    assert 100 < pixels[107:117].mean() < 155
    assert pixels[-10:].mean() > 225


def test_greyscale_has_three_equal_channels() -> None:
    pixels = decode(encoded(scene().convert("L")), SMALL).pixels
    assert (pixels == pixels[..., :1]).all()


@pytest.mark.parametrize("size", [(1, 1), (20_000, 10), (10, 20_000), (224, 224), (5, 7)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_extreme_shapes(size: tuple[int, int], kind: str) -> None:
    picture = decode(encoded(Image.new("RGB", size, (10, 200, 30)), kind), SMALL)
    assert picture.pixels.shape == (224, 224, 3)
    assert picture.pixels.mean((0, 1)) == pytest.approx((10, 200, 30), abs=4)
    assert (picture.width, picture.height) == size


def bomb() -> bytes:
    """A PNG of a few bytes that claims 50,000 × 50,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "no bytes": (lambda: b"", "empty"),
    "html": (lambda: b"<!DOCTYPE html><html><body>404</body></html>", "not_an_image"),
    "truncated jpeg": (
        lambda: encoded(scene(), quality=95)[: len(encoded(scene(), quality=95)) // 2],
        "truncated",
    ),
    "truncated png": (lambda: encoded(scene(), "PNG")[:300], "truncated"),
    "only a start": (lambda: b"\xff\xd8\xff\xe0", "not_an_image"),
    "bomb": (bomb, "too_large"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_decoded_says_why(kind: str) -> None:
    make, reason = BAD[kind]
    with pytest.raises(ImageError) as caught:
        decode(make(), SMALL)
    assert caught.value.reason == reason, str(caught.value)


def test_any_damage_decodes_or_gives_a_reason() -> None:
    whole = encoded(scene(), quality=90)
    random = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(whole)
        for position in random.integers(0, len(damaged), 3):
            damaged[position] = random.integers(256)
        try:
            assert decode(bytes(damaged), SMALL).pixels.shape == (224, 224, 3)
        except ImageError as error:
            known = error.reason in ("truncated", "undecodable", "not_an_image", "too_large")
            assert known, error.reason  # noqa: PT017 - either outcome is right


def _resize_with_pillow(
    pixels: np.ndarray, size: tuple[int, int], interpolation: str
) -> np.ndarray:
    method = Image.Resampling[interpolation.upper()]
    return np.asarray(Image.fromarray(pixels).resize(size, method))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_fast_path_equals_torchvision_transforms(coco_dir: Path, interpolation: str) -> None:
    from torchvision.transforms import CenterCrop, InterpolationMode, Resize

    preprocessing = Preprocessing(256, 224, (0.0,) * 3, (1.0,) * 3, interpolation)
    for file in sorted((coco_dir / "images").glob("*.jpg"))[:20]:
        content = file.read_bytes()
        if plain_jpeg_size(content) is None:
            continue  # torchvision does not heed colour profiles
        image = Image.open(file).convert("RGB")
        expected = CenterCrop(224)(Resize(256, InterpolationMode(interpolation))(image))
        target = np.array(expected, float)
        plain = decode(content, preprocessing, resize=_resize_with_pillow).pixels
        slow = _decode_with_pillow(content, preprocessing).pixels
        for resizing in (resize, resize_with_torch):
            fast = decode(content, preprocessing, resize=resizing).pixels
            assert np.abs(fast - target).mean() < 1.0, file.name
            assert (fast != plain).mean() < 0.01, file.name
            assert np.abs(fast - plain.astype(float)).max() <= 3, file.name
        assert np.abs(slow - target).mean() < 2.0, file.name


def test_a_centre_crop_by_hand() -> None:
    frame = SMALL.frame(1024, 512)  # 512 × 256, of which 224 × 224
    assert frame == ((512, 256), 144, 16, (224, 224))
    assert frame.box == (144 / 512, 1 / 16, 368 / 512, 15 / 16)
    assert SMALL.frame(256, 256).box == (1 / 16, 1 / 16, 15 / 16, 15 / 16)


@pytest.mark.parametrize(
    ("picture", "size"),
    [
        ((300, 300), (224, 224)),
        ((640, 480), (288, 224)),  # 298.7
        ((480, 640), (224, 288)),
        ((1200, 800), (352, 224)),  # 336, half way between two steps
        ((3000, 1000), (672, 224)),
        ((20_000, 10), (672, 224)),
        ((1, 1), (224, 224)),
    ],
)
def test_a_whole_picture_keeps_its_shape_in_steps_of_32(
    picture: tuple[int, int], size: tuple[int, int]
) -> None:
    frame = WHOLE.frame(*picture)
    assert frame.size == size
    assert frame.box == (0, 0, 1, 1)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_whole_picture_has_its_edges(kind: str) -> None:
    image = Image.new("RGB", (600, 300), "green")
    image.paste("red", (0, 0, 30, 300))
    image.paste("blue", (570, 0, 600, 300))
    pixels = decode(encoded(image, kind), WHOLE).pixels
    assert pixels.shape == (224, 448, 3)
    for columns, colour in ((slice(0, 15), (255, 0, 0)), (slice(433, 448), (0, 0, 255))):
        assert pixels[:, columns].mean((0, 1)) == pytest.approx(colour, abs=8)


def test_a_huge_picture_keeps_its_size_and_what_it_shows() -> None:
    content = encoded(scene(9000, 6000), quality=80)
    picture = decode(content, SMALL)
    looks_like_scene(picture.pixels)
    assert (picture.width, picture.height) == (9000, 6000)


@pytest.mark.parametrize(
    ("size", "orientation", "scale"),
    [
        ((1_343, 1_800), 1, 1),  # a pixel less than thrice 448
        ((1_344, 1_800), 1, 2),
        ((1_344, 1_800), 6, 2),
        ((3_600, 2_688), 6, 4),
        ((5_376, 5_376), 1, 8),
        ((12_000, 1_344), 1, 2),  # 672 × 224: the shorter side decides
    ],
)
def test_a_large_jpeg_may_be_decoded_at_a_smaller_scale(
    size: tuple[int, int], orientation: int, scale: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[tuple[int, ...]] = []

    def spy(content: bytes, *arguments: Any, **options: Any) -> np.ndarray:
        pixels = decode_jpeg(content, *arguments, **options)
        shapes.append(pixels.shape[1::-1])
        return pixels

    decode_jpeg = simplejpeg.decode_jpeg
    monkeypatch.setattr(simplejpeg, "decode_jpeg", spy)
    content = encoded(scene(*size), quality=80, exif=exif(orientation))
    part = decode(content, WHOLE, scaled=True)
    assert shapes == [tuple(-(-side // scale) for side in size)]
    whole = decode(content, WHOLE)
    assert shapes[1] == size
    assert (part.width, part.height) == (whole.width, whole.height)
    assert (part.width, part.height) == (size if orientation == 1 else size[::-1])
    assert np.abs(part.pixels.astype(int) - whole.pixels).mean() < 1


@pytest.mark.reports
def test_the_fast_path_heeds_colour_profiles(coco_dir: Path) -> None:
    """Of some COCO photographs, seven in fifty have one that is not sRGB."""
    profiled = 0
    for file in sorted((coco_dir / "images").glob("*.jpg"))[:60]:
        content = file.read_bytes()
        jpeg = plain_jpeg(content)
        if jpeg is None or jpeg.to_srgb is None:
            continue
        profiled += 1
        fast = decode(content, SMALL).pixels.astype(float)
        slow = _decode_with_pillow(content, SMALL).pixels
        assert np.abs(fast - slow).mean() < 3.0, file.name
        as_srgb = encoded(Image.open(file), quality=95, icc_profile=None)
        unheeded = _decode_with_pillow(as_srgb, SMALL).pixels.astype(float)
        assert np.abs(fast - slow).mean() < np.abs(unheeded - slow).mean(), file.name
    assert profiled >= 3


@pytest.mark.reports
def test_uploads_have_a_lower_limit() -> None:
    content = encoded(Image.new("RGB", (1000, 1000), (200, 30, 30)), "PNG")
    with pytest.raises(ImageError, match="at most 500,000"):
        decode(content, SMALL, max_pixels=500_000)
    # A JPEG is read at a smaller scale.
    picture = decode(encoded(scene(1200, 900), quality=95), SMALL, max_pixels=500_000)
    looks_like_scene(picture.pixels)
    assert (picture.width, picture.height) == (1200, 900)
