"""What a JPEG says beside its pixels: its scans, its end, and whether any decoder may read it."""

import io
import re
from typing import NamedTuple

from PIL import ImageChops, ImageCms
from PIL.JpegImagePlugin import JpegImageFile

from lib.images.colors import to_srgb

# A larger picture comes at half, a third, … of its scale: 200 MB as Pillow keeps it.
WHOLE_PIXELS = 50_000_000
# Of one JPEG: encoders write a dozen at most, and each makes a decoder go over the whole picture.
MAX_SCANS = 100
# Lossless, hierarchical and arithmetic frames, fill bytes, and an end without a picture.
_OTHER_FRAMES = {*range(0xC3, 0xD0), 0xFF, 0xD9} - {0xC4, 0xC8, 0xCC}
_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])")
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
XMP_ORIENTATION = re.compile(rb"""tiff:Orientation\s*(?:=\s*["']|>)\s*([1-8])""")


def count_scans(content: bytes) -> int:
    """Scans of a JPEG, up to its end: what follows that is another picture, or a film."""
    if content.count(b"\xff\xda") <= MAX_SCANS:
        return content.count(b"\xff\xda")  # no fewer than there are
    position, scans = 2, 0
    while (marker := _MARKER.search(content, position)) and marker[1] != b"\xd9":
        scans += marker[1] == b"\xda"
        position = marker.end() + int.from_bytes(content[marker.end() : marker.end() + 2])
    return scans


def lacks_only_its_end(content: bytes) -> bool:
    """Whether a JPEG without an end marker has all of its picture.

    What a decoder makes of a cut-off picture depends on what follows; a whole one stays as it is.
    """
    pictures = []
    for following in (b"", bytes(range(1, 255))):
        image = JpegImageFile(io.BytesIO(content + following + b"\xff\xd9"))
        image.draft(None, (image.width // 8 or 1, image.height // 8 or 1))
        pictures.append(image.convert("RGB"))
    difference = ImageChops.difference(*pictures).getbbox()
    # The last row of blocks may be cut: two rows of pixels at an eighth of the scale.
    return difference is None or difference[1] >= pictures[0].height - 2 > 2


class PlainJpeg(NamedTuple):
    """A JPEG that every decoder reads alike: whole, 8 bits, RGB or grey, few scans.

    Of at most 50 megapixels; a larger one is better read at a smaller scale.
    """

    width: int  # as it is stored
    height: int
    orientation: int  # 1 to 8, as Exif numbers them: 1 is upright
    to_srgb: ImageCms.ImageCmsTransform | None  # see lib.images.colors.to_srgb
    usual: bool  # one scan of grey or YCbCr, as most are: what decoders in hardware take


def plain_jpeg(content: bytes) -> PlainJpeg | None:
    """What a faster decoder than Pillow must know of a JPEG, or None where Pillow should read it.

    Reads the headers only, in one pass, and copies nothing but a colour profile.
    """
    if content[:3] != b"\xff\xd8\xff":
        return None
    size, components, progressive, rgb = None, 0, False, False
    exif, by_exif, by_xmp = False, None, None  # orientations
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
            rgb |= content[start + 6 : end : 3] == b"RGB"  # the names of its components
        elif marker == 0xE1 and content.startswith(b"Exif\0\0", start):
            by_exif = _exif_orientation(content, start + 6, end)
            if exif or by_exif == 0:
                return None
            exif = True
        elif marker == 0xE1 and content.startswith(_XMP, start):
            if tag := XMP_ORIENTATION.search(content, start, end):
                by_xmp = int(tag[1])
        elif marker == 0xEE and content.startswith(b"Adobe", start):
            rgb |= content[start + 11 : start + 12] == b"\0"  # no transform to YCbCr
        elif marker == 0xE2 and content.startswith(b"ICC_PROFILE\0", start):
            profile.append(content[start + 12 : end])
        elif marker == 0xDA:
            if (
                size is None
                or not 0 < size[0] * size[1] <= WHOLE_PIXELS
                or components not in (1, 3)
            ):
                return None
            # A decoder goes once over a file whose first scan holds all components.
            one_scan = not progressive and content[start] == components
            few = one_scan or count_scans(content) <= MAX_SCANS
            whole = content.endswith(b"\xff\xd9") or content.rfind(b"\xff\xd9") > position
            if not (few and whole):
                return None
            return PlainJpeg(
                *size, by_exif or by_xmp or 1, _transform(profile, components), one_scan and not rgb
            )
        elif marker in _OTHER_FRAMES:
            return None
        position = end
    return None


def _exif_orientation(content: bytes, start: int, end: int) -> int | None:
    """1 to 8 where the Exif data there say so in a form that all readers take, None where they say
    nothing of it; otherwise 0.
    """
    order = {b"II*\0": "little", b"MM\0*": "big"}.get(content[start : start + 4])
    if order is None:
        return 0

    def number(position: int, length: int) -> int:
        return int.from_bytes(content[position : position + length], order)  # type: ignore[arg-type]

    entries = start + number(start + 4, 4)
    if entries + 2 > end:
        return 0
    first, count = entries + 2, number(entries, 2)
    if first + 12 * count > end:
        return 0
    for entry in range(first, first + 12 * count, 12):
        if number(entry, 2) == 0x0112:
            one_short = number(entry + 2, 2) == 3 and number(entry + 4, 4) == 1
            value = number(entry + 8, 2)
            return value if one_short and value <= 8 else 0
    return None


def _transform(segments: list[bytes], components: int) -> ImageCms.ImageCmsTransform | None:
    """What turns pixels under the profile in these ICC segments into sRGB; None: nothing."""
    profile = b"".join(segment[2:] for segment in sorted(segments))  # each begins with its number
    return to_srgb(profile, "RGB" if components == 3 else "L") if profile else None
