"""Bytes of a caption file to text, whatever they are compressed by and encoded in."""

import bz2
import gzip
import lzma
from collections.abc import Callable
from io import BytesIO
from typing import Any

from lib.datasets.caption_rows import CaptionRows
from lib.errors import BadInputError
from lib.images.code_pages import code_page
from lib.storage import encoding_of

MOST_BYTES = 4 << 30  # of a file, and of what a compressed one becomes
# As Excel writes CSV, by the language of the system.
_EXCELS = (
    *("cp1252", "cp1251", "cp932", "gbk", "euc_kr", "big5", "cp1254", "cp1250"),
    *("cp1253", "cp1255", "cp1256"),
)


_OPENERS: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}


def unpacked(opened: Any) -> Any:
    """An open file, or one of what gzip, bzip2 or xz has compressed in it."""
    start = opened.read(6)
    opened.seek(0)
    openers = (opener for magic, opener in _OPENERS.items() if start.startswith(magic))
    return next(openers, lambda file: file)(opened)


def decompress(opened: Any) -> bytes:
    """The content of an open file, see `unpacked`.

    Raises ValueError where that is more than 200 times its size.
    """
    packed: bytes = opened.read()
    file = unpacked(BytesIO(packed))
    content: bytes = file.read(min(MOST_BYTES, max(200 * len(packed), 64 << 20)))
    if file.read(1):
        raise ValueError("unpacked it has more than 200 times its size")
    return content


def decode(content: bytes, source: str, result: CaptionRows) -> str:
    """UTF-8, UTF-16 or UTF-32 by its mark, UTF-16 by its zeros, else one of _EXCELS.

    Where most of what is not ASCII is UTF-8, the rest is damage, not another encoding. What was
    guessed or replaced is noted in `result`. Raises BadInputError for what is no text or damaged.
    """
    if (marked := encoding_of(content)) != "utf-8-sig":
        try:
            return content.decode(marked)
        except UnicodeDecodeError as error:
            raise BadInputError(f"{source} cannot be read as captions: {error}") from error
    sample = content[:1000]
    if sample.count(0) > len(sample) // 3:
        odd = sample[1::2].count(0) > sample[::2].count(0)
        text = content.decode("utf-16-le" if odd else "utf-16-be", "replace")
        if "\0" not in text[:1000]:
            return text
    kinds = {
        b"\xd0\xcf\x11\xe0": "a file of an older Excel: save the table as CSV",
        b"SQLite format 3": "a database, as Lightroom's catalogue: export the table as CSV",
        b"\x28\xb5\x2f\xfd": "compressed by zstd: unpack it",
        b"{\\rtf": "RTF: save it as plain text",
        b"\x80": "a pickle",
        b"\x93NUMPY": "an array",
        b"%PDF": "a PDF",
        b"\xff\xd8": "a JPEG",
    }
    for magic, kind in kinds.items():
        if content.startswith(magic):
            raise BadInputError(f"{source} holds no captions: it is {kind}")
    if any(byte < 9 or 13 < byte < 27 for byte in sample):
        raise BadInputError(f"{source} holds no captions: it is no text, and no Parquet file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        text = content.decode("utf-8-sig", "replace")
        replaced = text.count("\ufffd")
        if len(text) - len(text.encode("ascii", "ignore")) > 2 * replaced:
            says = f"{replaced} characters that are not UTF-8 (line {line}) and show as \ufffd"
            result.notes.append(f"{source} has {says}")
            return text
        lines = [part for part in content.splitlines() if not part.isascii()]
        page = code_page(lines, _EXCELS, margin=0.5)
        spoken = page.replace("cp", "Windows-")
        result.notes.append(
            f"{source} is not UTF-8 (line {line}); it was read as {spoken}, as Excel writes"
        )
        return content.decode(page, "replace")
