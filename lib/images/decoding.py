"""Image files to pictures as a person sees them, without PyTorch, which takes seconds to import.

The one place where Pillow opens anything, with `lib.images.jpeg`.
"""

import io
import re
import struct
import warnings
import zlib
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from lib.errors import BadInputError
from lib.images.colors import SampleScale, profile_of, strips, to_srgb
from lib.images.jpeg import (
    MAX_SCANS,
    WHOLE_PIXELS,
    XMP_ORIENTATION,
    count_scans,
    lacks_only_its_end,
)

MAX_PIXELS = 200_000_000
# Decoders that take 9, 7 and 16 bytes a pixel, however small the file: a gigabyte here.
_MOST_PIXELS = {"AVIF": 110_000_000, "HEIF": 140_000_000, "WEBP": 62_000_000}
# Of one file: Pillow reads headers in Python, in pieces of as little as a byte, a second or two for
# so many. A picture of 200 megapixels has 800,000 where it is in tiles of 16 × 16, uncompressed.
MAX_READS = 1_000_000
# Pillow's decoders in C that need nothing but memory. Not EPS, which runs Ghostscript, nor formats
# that are films, documents or fonts.
FORMATS = (
    *("AVIF", "BMP", "DDS", "DIB", "GIF", "ICNS", "ICO", "JPEG", "JPEG2000", "PCX"),
    *("PNG", "PPM", "PSD", "QOI", "SGI", "TGA", "TIFF", "WEBP"),
)
HEIF_IS_READ = find_spec("pillow_heif") is not None

_PNG = b"\x89PNG\r\n\x1a\n"
_TELLING = {b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"eXIf"}  # how to show a PNG's picture
# Before width and height of a PNG or JPEG 2000.
_ICON = re.compile(rb"(?:IHDR|\xff\x4f\xff\x51....)(.{4})(.{4})", re.DOTALL)
_TILE_WIDTH, _TILE_HEIGHT = 322, 323  # tags of TIFF
_ORIENTATION = 0x0112  # tag of Exif and of TIFF
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

ImageFile.LOAD_TRUNCATED_IMAGES = False
# Pillow refuses more than twice this, also in the pictures inside of an icon.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2


class ImageError(BadInputError):
    """An image that cannot be described; `reason` is one of a few fixed words."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.reason, str(self))


class UprightImage(NamedTuple):
    """A picture as a person sees it."""

    image: Image.Image  # RGB; of a smaller scale than the file's where that is very large
    width: int  # of the whole picture in pixels, upright
    height: int


class _File(io.BytesIO):
    """A file's bytes; raises ImageError where they are read in more than MAX_READS pieces."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads > MAX_READS:
            raise ImageError("too_large", f"its headers are of more than {MAX_READS:,} pieces")
        return super().read(size)


def decode_upright(
    content: bytes, max_pixels: int = MAX_PIXELS, enough: int | None = None
) -> UprightImage:
    """The picture as a person sees it: RGB in sRGB, upright, over white, the first of several.

    Pictures over 50 megapixels come at reduced scale, JPEGs also where a longer side of `enough`
    pixels is all that is needed. More than `max_pixels` are refused, but of a JPEG, which is read
    at a smaller scale without unpacking it, eight times as many. Raises ImageError with reason
    `empty`, `not_an_image`, `unsupported`, `truncated`, `too_large` or `undecodable`.
    """
    if not content:
        raise ImageError("empty", "the file has no bytes")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if content[:3] == b"\xff\xd8\xff":
                image, size = _load_jpeg(content, max_pixels, enough)
            else:
                image, size = _load(content, max_pixels)
            return _upright(image, size)
        except ImageError:
            raise
        except Exception as error:  # Pillow's decoders raise nearly anything.
            picture = _picture_chunks(content) if content.startswith(_PNG) else content
            if len(picture) < len(content):
                return decode_upright(picture, max_pixels, enough)
            raise _failure(content, error) from error


def _failure(content: bytes, error: Exception) -> ImageError:
    """What an error of Pillow or of ours says of a file."""
    if isinstance(error, UnidentifiedImageError):
        return _unidentified(content)
    if isinstance(error, Image.DecompressionBombError | MemoryError):
        return ImageError("too_large", str(error) or "more memory is needed than there is")
    if isinstance(error, BadInputError):
        return ImageError("unsupported", str(error))
    truncated = "truncated" in str(error).lower() or isinstance(error, EOFError)
    reason = "truncated" if truncated else "undecodable"
    return ImageError(reason, str(error) or type(error).__name__)


def image_format(content: bytes) -> str:
    """Pillow's name of a file's format, such as PNG. Raises ImageError where it is not read."""
    if content.startswith(_PNG):
        return "PNG"  # also where Pillow stumbles over its texts
    return open_header(content).format or ""


def open_header(content: bytes) -> Image.Image:
    """A file's picture before it is decoded. Raises ImageError where the format is not read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _open(content)
    except Exception as error:  # Pillow raises nearly anything
        raise _unidentified(content) from error


def _open(content: bytes) -> Image.Image:
    if content[:3] == b"\xff\xd8\xff":
        return _open_jpeg(content)
    if HEIF_IS_READ and content[4:8] == b"ftyp" and not _is_avif(content):
        import pillow_heif

        pillow_heif.register_heif_opener(thumbnails=False)
        return Image.open(io.BytesIO(content), formats=("HEIF",))
    return Image.open(_File(content), formats=FORMATS)


def _is_avif(content: bytes) -> bool:
    """Whether this is an AVIF: some say first that they are of the HEIF family."""
    brands = content[8 : min(int.from_bytes(content[:4]), 256)]
    return content[4:8] == b"ftyp" and (b"avif" in brands or b"avis" in brands)


def _open_jpeg(content: bytes) -> JpegImageFile:
    """A JPEG of any size: Pillow's own limit holds for those that `Image.open` opens."""
    try:
        return JpegImageFile(_File(content))
    except (SyntaxError, IndexError, TypeError, KeyError, EOFError, struct.error) as error:
        if "cannot handle" in str(error):  # 12 or 16 bits, two components
            raise ImageError("unsupported", f"a JPEG that is not read: {error}") from error
        raise UnidentifiedImageError("no JPEG") from error


def _load(content: bytes, max_pixels: int) -> tuple[Image.Image, tuple[int, int]]:
    """An opened and decoded file that is no JPEG, and its size."""
    if content[:4] in (b"\0\0\1\0", b"icns"):  # what is inside may be larger than they say
        for width, height in _ICON.findall(content):
            _check_pixels((int.from_bytes(width), int.from_bytes(height)), max_pixels)
    image: Any = _open(content)
    _correct(image)
    size = image.size
    slow = any(tile.codec_name in Image.DECODERS for tile in getattr(image, "tile", ()))
    most = min(max_pixels, _MOST_PIXELS.get(image.format, max_pixels))
    _check_pixels(size, most // 16 if slow else most)
    if image.format == "TIFF" and _TILE_WIDTH in image.tag_v2:  # a tile is unpacked whole
        _check_pixels((image.tag_v2[_TILE_WIDTH], image.tag_v2.get(_TILE_HEIGHT, 1)), max_pixels)
    frame = image.tile[0].extents if image.format == "GIF" and image.tile else None
    if image.format == "JPEG2000" and image.width * image.height > WHOLE_PIXELS:
        image.reduce = 1  # it decodes at half the scale
    image.load()
    if frame and frame != (0, 0, *size):
        # The screen around a smaller frame shows what is behind, as in browsers.
        canvas = Image.new("RGBA", size, (255, 255, 255, 0))
        canvas.paste(image.crop(frame).convert("RGBA"), frame[:2])
        image = canvas
    return image, image.size if image.format != "JPEG2000" else size


def _correct(image: Any) -> None:
    """What Pillow says of an opened file and means otherwise."""
    if image.format == "PNG" and "transparency" in image.info and image.tile:
        # A sample as the file has it, not as it is decoded.
        value, samples = image.info["transparency"], image.tile[0].args
        if samples in ("L;2", "L;4"):
            image.info["transparency"] = value * {"L;2": 85, "L;4": 17}[samples]
        elif samples == "RGB;16B":
            image.info["transparency"] = tuple(sample >> 8 for sample in value)
    if image.format == "TIFF" and image.tag_v2.get(284) == 2:  # a plane for each sample
        if len(image.getbands()) == 1:
            image.tag_v2[284] = 1
            image._setup()
        elif image.tag_v2[258][0] == 16:
            order = ";16B" if image.tag_v2.prefix == b"MM" else ";16L"
            image.tile = [
                tile._replace(args=(tile.args[0] + order, *tile.args[1:]))
                if tile.codec_name == "raw"
                else tile
                for tile in image.tile
            ]


def _picture_chunks(png: bytes) -> bytes:
    """A PNG without texts and without damaged chunks that its picture does not need."""
    chunks, position = [png[:8]], 8
    while position < len(png):
        end = position + 12 + int.from_bytes(png[position : position + 4])
        chunk, kind = png[position:end], png[position + 4 : position + 8]
        whole = zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:])
        told = kind in _TELLING or chunk.startswith(b"iTXtXML:com.adobe.xmp", 4)
        if kind[:1].isupper() or (whole and told):
            chunks.append(chunk)
        position = end
    return b"".join(chunks)


def _load_jpeg(
    content: bytes, max_pixels: int, enough: int | None
) -> tuple[Image.Image, tuple[int, int]]:
    """A decoded JPEG, at the scale of 1, ½, ¼ or ⅛ that suffices, and its whole size."""
    image = _open_jpeg(content)
    assert image.fp is not None
    width, height = size = image.size
    pixels = width * height
    first_scan = content.rfind(b"\xff\xda", 0, image.fp.tell())
    if image.info.get("progressive") or content[first_scan + 4] != len(image.layer):
        # All coefficients are kept until the last scan, two bytes each.
        most = max(across * down for _, across, down, _ in image.layer)
        kept = sum(across * down for _, across, down, _ in image.layer) / most
        scans = count_scans(content)
        if scans > MAX_SCANS or scans * pixels > 25 * max_pixels:
            raise ImageError("too_large", f"a JPEG of {scans:,} scans of {width}×{height} pixels")
        _check_pixels(size, int(3 * max_pixels / kept))
    _check_pixels(size, 8 * max_pixels)
    scale = 1
    while scale < 8 and (
        pixels > scale**2 * min(max_pixels, WHOLE_PIXELS)
        or (enough and max(size) >= 2 * scale * enough)
    ):
        scale *= 2
    if content.find(b"\xff\xd9", first_scan) < 0 and lacks_only_its_end(content):
        image = JpegImageFile(io.BytesIO(content + b"\xff\xd9"))
    image.draft(None, (width // scale or 1, height // scale or 1))
    image.load()
    return image, size


def _check_pixels(size: tuple[int, int], most: int) -> None:
    if size[0] * size[1] > most:
        raise ImageError(
            "too_large", f"{size[0]}×{size[1]} pixels; at most {most:,} of such a file are decoded"
        )


def _upright(image: Image.Image, size: tuple[int, int]) -> UprightImage:
    orientation = _orientation(image)
    rgb = _to_rgb(image)
    if orientation in _UPRIGHT:
        rgb = rgb.transpose(_UPRIGHT[orientation])
    return UprightImage(rgb, *(size[::-1] if orientation >= 5 else size))


def _orientation(image: Image.Image) -> int:
    """1 to 8, of the Exif data, else of the XMP packet; 1 where neither says."""
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception:  # damaged Exif data is none
        orientation = None
    if orientation is None:
        xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
        tag = XMP_ORIENTATION.search(xmp.encode() if isinstance(xmp, str) else xmp)
        orientation = int(tag[1]) if tag else 1
    return orientation if orientation in _UPRIGHT else 1


def _to_rgb(image: Image.Image) -> Image.Image:
    """The image in sRGB over white, its scale a half, a third, … where it is very large.

    Strip by strip, so that a large one is never held in two modes.
    """
    scale = 1
    while image.width * image.height > scale**2 * WHOLE_PIXELS:
        scale += 1
    convert = _converter(image)
    if scale == 1:
        return convert(image)
    result = Image.new("RGB", (-(-image.width // scale), -(-image.height // scale)))
    for top, strip in strips(image, scale):
        result.paste(convert(strip).reduce(scale), (0, top // scale))
    return result


def _converter(image: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """What turns a strip of an image into sRGB over white."""
    grey = image.mode == "F" or image.mode.startswith("I")
    scale = SampleScale(image) if grey else None
    profile = profile_of(image.info)
    tags: Any = getattr(image, "tag_v2", {})
    signed = (tags.get(258, (1,))[0], tags.get(339, (1,))[0]) == (8, 2)
    # Programs that know no transparency leave zeros there.
    unused = image.format in ("BMP", "DIB", "TGA") and image.mode in ("RGBA", "LA")
    unused = unused and image.getchannel("A").getextrema() == (0, 0)

    def convert(strip: Image.Image) -> Image.Image:
        if strip.mode == "La":
            strip = strip.convert("LA")
        alpha = _alpha(strip) if strip.has_transparency_data and not unused else None
        if scale is not None:
            strip = scale.to_grey(strip)
        if signed:
            strip = strip.point([value ^ 128 for value in range(256)] * len(strip.getbands()))
        if strip.mode not in ("RGB", "L", "CMYK"):
            strip = strip.convert("L" if strip.mode in ("1", "LA") else "RGB")
        transform = to_srgb(profile, strip.mode) if profile else None
        if transform is not None:
            strip = transform.apply(strip.convert(transform.input_mode))
        rgb = strip.convert("RGB")
        if alpha is None or alpha.getextrema() == (255, 255):
            return rgb
        return Image.composite(rgb, Image.new("RGB", rgb.size, "white"), alpha)

    return convert


def _alpha(strip: Image.Image) -> Image.Image:
    """The opacity of a strip that has one, 8-bit grey."""
    if strip.mode == "I;16":
        return Image.fromarray(np.asarray(strip) != strip.info["transparency"]).convert("L")
    return strip.convert("RGBA").getchannel("A")


_NAMES = {  # of formats that people have and that are not read, by how files start
    b"%PDF": "PDF",
    b"%!PS": "PostScript",
    b"\xc5\xd0\xd3\xc6": "EPS",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"v/1\x01": "OpenEXR",
    b"#?RADIANCE": "Radiance HDR",
    b"FUJIFILM": "Fujifilm raw",
    b"II\xbc": "JPEG XR",
    b"gimp xcf": "GIMP's XCF",
    b"8BPS\0\2": "Photoshop's large document (PSB)",
}


def _unidentified(content: bytes) -> ImageError:
    """Why Pillow knows no format for a file."""
    if content[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return ImageError("unsupported", f"a TIFF {_tiff_samples(content)}, which is not read")
    if _is_avif(content):
        return ImageError(
            "undecodable", "an AVIF that is damaged or over 16,384 pixels wide or high"
        )
    if content[4:8] == b"ftyp" and content[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"hevc"):
        if HEIF_IS_READ:
            return ImageError("undecodable", "a damaged HEIC file")
        return ImageError("unsupported", "a HEIC file: pip install pillow-heif")
    name = next((name for start, name in _NAMES.items() if content.startswith(start)), None)
    if name is not None:
        return ImageError("unsupported", f"{name} is not read: convert it to JPEG or PNG")
    if content[:4] == b"8BPS" and len(content) > 26:
        channels, depth, mode = struct.unpack(">12xH8xHH", content[:26])
        return ImageError(
            "unsupported", f"a PSD of {channels} × {depth} bits in colour mode {mode} is not read"
        )
    if b"<svg" in content[:4000]:
        return ImageError("unsupported", "SVG is not read: convert it to JPEG or PNG")
    for beginning, kind in ((_PNG, "PNG"), (b"GIF8", "GIF")):
        if content.startswith(beginning):
            return ImageError("undecodable", f"a {kind} whose beginning is damaged")
    if content.startswith(b"version https://git-lfs"):
        return ImageError("not_an_image", "Git LFS has not fetched the picture: git lfs pull")
    if content.startswith(b"/annex/objects/"):
        return ImageError("not_an_image", "git-annex has not fetched the picture: git annex get")
    if content.startswith((b"\x1f\x8b", b"PK\3\4", b"7z\xbc\xaf", b"Rar!")):
        return ImageError("unsupported", "a packed file under a picture's name: unpack it")
    if content[4:8] == b"ftyp":
        kind = content[8:12].decode("latin-1")
        return ImageError("unsupported", f"a film or raw photo of kind {kind!r} is not read")
    if not content.strip(b"\0"):
        return ImageError("empty", "the file holds nothing but zeros, as a copy that broke off")
    start = content[:40].decode("ascii", "replace").strip()
    return ImageError("not_an_image", f"no image format is known that starts {start!r}")


def _tiff_samples(content: bytes) -> str:
    """What the samples of a TIFF's first picture are, in words."""
    try:
        header = content[: 16 if content[2] == 43 else 8]
        tags = ImageFileDirectory_v2(header)
        file = io.BytesIO(content)
        file.seek(tags.next)
        tags.load(file)
        bits = tags.get(258, (1,))
        kind = {1: "unsigned", 2: "signed", 3: "float", 5: "complex", 6: "complex"}
        sample = kind.get(tags.get(339, (1,))[0], "unknown")
        return (
            f"of {len(bits)} × {bits[0]}-bit {sample} samples, photometric interpretation "
            f"{tags.get(262, 'unknown')}, compression {tags.get(259, 1)}"
        )
    except Exception:  # whatever a damaged directory makes Pillow raise
        return "without a readable directory"
