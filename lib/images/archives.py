"""Members of zip and tar archives: their names as the archiver meant them, and where they lie."""

import struct
import tarfile
import zipfile
from collections.abc import Iterator
from typing import Any

from lib.images.code_pages import code_page

_UTF8_FLAG = 0x800
_UNICODE_PATH = 0x7075  # Info-ZIP's extra field
_EXTENDED = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"(\xb5/\xfd": "zstd"}
_MOST_ZEROS = 1 << 20  # bytes; tar writes records of 10,240
_LARGEST_HEADER = 1_000_000  # bytes of a tar's extended header; names have a few hundred


def zip_members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Members by name, the newest of equal ones, folders left out.

    Zip knows two encodings, code page 437 and UTF-8, and many archivers write another: what is
    UTF-8 without saying so is taken as such, and the page of other names is that in which they look
    like names. Where folders are told by backslashes alone, as some Windows programs write, these
    are slashes. Raises zipfile.BadZipFile.
    """
    infos = [info for info in archive.infolist() if info.filename]
    if any(info.volume for info in infos):
        raise zipfile.BadZipFile("it is the last of several parts: join them (zip -s 0)")
    raw = [_raw_name(info) for info in infos]
    unclear = [name for name in raw if isinstance(name, bytes)]
    page = code_page(unclear) if unclear else ""
    names = (name if isinstance(name, str) else name.decode(page, "replace") for name in raw)
    members = dict(zip(names, infos, strict=True))
    if not any("/" in name for name in members):
        members = {name.replace("\\", "/"): info for name, info in members.items()}
    return {name: info for name, info in members.items() if not name.endswith("/")}


def _raw_name(info: zipfile.ZipInfo) -> str | bytes:
    """A member's name, or the bytes of it where their encoding is not known."""
    if info.flag_bits & _UTF8_FLAG or info.filename.isascii():
        return info.filename
    extra = info.extra
    while len(extra) >= 4:
        kind, length = struct.unpack("<HH", extra[:4])
        if kind == _UNICODE_PATH:
            return extra[9 : 4 + length].decode("utf-8", "replace")
        extra = extra[4 + length :]
    raw = info.filename.encode("cp437")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw


class BoundedTarInfo(tarfile.TarInfo):
    """A tar member whose extended headers are not read where they are longer than any name."""

    def _proc_member(self, archive: Any) -> Any:
        if self.type in _EXTENDED and self.size > _LARGEST_HEADER:
            raise tarfile.ReadError(f"a header of {self.size:,} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]


def tar_members(file: Any) -> Iterator[tarfile.TarInfo]:
    """The files and links in an uncompressed tar, one at a time, also in others that were appended
    to it (`cat`). Raises tarfile.TarError.
    """
    head = file.read(6)
    for beginning, program in _COMPRESSED.items():
        if head.startswith(beginning):
            raise tarfile.ReadError(f"it is compressed by {program}: unpack it")
    start: int | None = 0
    while start is not None:
        file.seek(start)
        with tarfile.open(fileobj=file, mode="r:", tarinfo=BoundedTarInfo) as archive:
            for member in archive:
                if member.isfile() or member.islnk() or member.issym():
                    yield member
                archive.members = []  # type: ignore[attr-defined]
            end = archive.offset  # type: ignore[attr-defined]
        # tarfile takes a damaged header for the end, which is zeros.
        start = _after_zeros(file, end)
        if start == end:
            raise tarfile.ReadError(f"a damaged header at byte {end:,}")


def _after_zeros(file: Any, end: int) -> int | None:
    """Where something follows the zeros at the end of a tar; None where nothing does.

    More zeros than archivers write are no end, but what a copy that broke off has left out.
    """
    file.seek(end)
    zeros = file.read(_MOST_ZEROS)
    following = zeros.lstrip(b"\0")
    if not following:
        return end if len(zeros) == _MOST_ZEROS else None
    return int(end + (len(zeros) - len(following)) // tarfile.BLOCKSIZE * tarfile.BLOCKSIZE)
