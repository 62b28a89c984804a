"""What programs write about a photograph into its own file: XMP, IPTC and Exif."""

import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from PIL.IptcImagePlugin import getiptcinfo

from lib.images.decoding import ImageError, open_header

# What is said of a JPEG file comes before its picture, and of a PNG by most programs.
HEAD_BYTES, HEAD_DOES = 1 << 18, (b"\xff\xd8\xff", b"\x89PNG")
_IMAGE_DESCRIPTION = 0x010E  # tag of Exif and of TIFF
_CAPTION, _KEYWORDS = (2, 120), (2, 25)  # data sets of IPTC-IIM 4.2


@dataclass(frozen=True)
class EmbeddedTexts:
    """Texts as the file has them, in whatever encoding; empty where it has none."""

    xmp: bytes = b""  # a packet of XML
    description: bytes = b""  # of Exif
    caption: bytes = b""  # of IPTC
    keywords: list[bytes] = field(default_factory=list)  # of IPTC


def embedded_texts(content: bytes) -> EmbeddedTexts:
    """What an image file says; the first HEAD_BYTES do of one that begins as HEAD_DOES.

    Empty where it is no image, or what it says is damaged: extraction tells of that.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = open_header(content)
        except ImageError:
            return EmbeddedTexts()
        description: object = ""
        iptc: Mapping[tuple[int, int], bytes | list[bytes]] = {}
        with suppress(Exception):  # Pillow raises nearly anything
            description = image.getexif().get(_IMAGE_DESCRIPTION, "")
        with suppress(Exception):
            iptc = getiptcinfo(image) or {}  # type: ignore[arg-type]
        xmp = image.info.get("xmp") or b""  # of a PNG after Exif, which reads it to its end
    said = {key: value if isinstance(value, list) else [value] for key, value in iptc.items()}
    return EmbeddedTexts(
        xmp.encode() if isinstance(xmp, str) else xmp,
        # Pillow reads its bytes as Latin-1, whatever they are.
        description.encode("latin-1", "replace") if isinstance(description, str) else b"",
        said.get(_CAPTION, [b""])[0],
        said.get(_KEYWORDS, []),
    )
