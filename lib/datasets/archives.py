"""Unpack zip and tar archives that strangers made: what could do harm is refused, unwritten."""

import io
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, cast

import fsspec

from lib.errors import BadInputError, ImageSearchError
from lib.progress import Progress
from lib.storage import TEMPORARY_PREFIX

# Deflate packs at most 1032 to 1; pictures and caption files stay below 10, a bomb does not.
MOST_EXPANSION = 200
ALWAYS_ALLOWED_BYTES = 256 << 20
_BLOCK_BYTES = 1 << 20
_MOST_MEMBER_BYTES = 1 << 30  # of one that is read into memory
_SPECIAL = "a link or a special file"


def safe_path(name: str, archive: str) -> PurePosixPath:
    """A member's name as a relative path; raises BadInputError where it would lead elsewhere."""
    path = PurePosixPath(name)
    if (
        path.is_absolute()
        or ".." in path.parts
        or "\\" in name
        or "\0" in name
        or (path.parts and path.parts[0].endswith(":"))
    ):
        raise BadInputError(
            f"{archive} is refused: it holds {name!r}, which leads out of the folder"
        )
    return path


def unpack(
    archive: Path, directory: Path, choose: Callable[[str], str | None] = lambda name: name
) -> list[Path]:
    """Write members of a zip or tar archive below `directory`; returns their files.

    `choose` gives, for a member's name, the relative path to write, or None to leave it out. A file
    that is there with the member's size is kept, so that an interrupted call goes on. Every member
    is looked at before the first is written: a name that leads out of the directory, a link, a
    device, encryption, or an expansion beyond `MOST_EXPANSION` raises BadInputError; so does a
    damaged member (zip: by its CRC-32). Raises ImageSearchError where the disk is too small.
    """
    opener = zipfile.ZipFile if zipfile.is_zipfile(archive) else tarfile.open
    with _naming(archive), opener(archive) as opened:
        members = (
            _zip_members(opened) if isinstance(opened, zipfile.ZipFile) else _tar_members(opened)
        )
        targets: list[tuple[_Member, Path]] = []
        total, allowed = 0, max(ALWAYS_ALLOWED_BYTES, MOST_EXPANSION * archive.stat().st_size)
        for member in members:
            if member.refused:
                raise BadInputError(f"{archive} is refused: {member.name!r} is {member.refused}")
            total += member.size
            if total > allowed:
                raise BadInputError(
                    f"{archive} is refused: it would become more than {allowed} bytes, as a "
                    "decompression bomb does"
                )
            safe_path(member.name, str(archive))
            relative = choose(member.name)
            if relative is not None and not member.name.endswith("/") and member.name:
                targets.append((member, directory / safe_path(relative, str(archive))))
        missing = [
            (member, target)
            for member, target in targets
            if not target.is_file() or target.stat().st_size != member.size
        ]
        count = sum(member.size for member, _ in missing)
        directory.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(directory).free
        if count > free:
            raise ImageSearchError(
                f"unpacking needs {count / 1e9:.1f} GB on the disk of {directory}, "
                f"and {free / 1e9:.1f} GB are free"
            )
        with Progress(round(count / 1e6), "MB") as shown:
            shown.note = "unpacking"
            for member, target in missing:
                with member.open() as content:
                    _write(content, target, directory, member.size, archive)
                shown.advance(member.size / 1e6)
        return [target for _, target in targets]


@contextmanager
def _naming(archive: Path) -> Iterator[None]:
    """Name the archive that cannot be read."""
    try:
        yield
    except (zipfile.BadZipFile, tarfile.TarError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise BadInputError(f"{archive} is no whole zip or tar archive: {reason}") from error
    except (OSError, ValueError, EOFError, zlib.error, lzma.LZMAError) as error:
        if isinstance(error, ImageSearchError) or (isinstance(error, OSError) and error.errno):
            raise
        raise BadInputError(f"{archive} is damaged: {error}") from error


@dataclass(frozen=True)
class _Member:
    """A file or, where its name ends with a slash, a folder; `refused` says why it is neither."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]
    refused: str = ""


def _zip_members(opened: zipfile.ZipFile) -> Iterator[_Member]:
    for member in opened.infolist():
        usual = stat.S_IFMT(member.external_attr >> 16) in (0, stat.S_IFREG, stat.S_IFDIR)
        refused = "encrypted" if member.flag_bits & 1 else "" if usual else _SPECIAL
        yield _Member(member.filename, member.file_size, partial(opened.open, member), refused)


def _tar_members(opened: tarfile.TarFile) -> Iterator[_Member]:
    for member in opened:
        usual = (member.isreg() or member.isdir()) and not member.issparse()
        name = member.name + "/" * member.isdir()
        content = cast(Callable[[], IO[bytes]], partial(opened.extractfile, member))
        yield _Member(name, member.size, content, "" if usual else _SPECIAL)
    # What follows the last member, so that the checksum of a compressed archive is met.
    rest = cast(IO[bytes], opened.fileobj)
    while block := rest.read(_BLOCK_BYTES):
        yield _Member("", len(block), partial(io.BytesIO, block))


def _write(content: IO[bytes], target: Path, directory: Path, size: int, archive: Path) -> None:
    """Write one member under a temporary name, then rename: what has its name is whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.parent.resolve().is_relative_to(directory.resolve()):
        raise BadInputError(f"{target.parent} is a link out of {directory}; remove it")
    handle, temporary = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=target.parent)
    written = 0
    try:
        with os.fdopen(handle, "wb") as file:
            while block := content.read(_BLOCK_BYTES):
                written += len(block)
                if written > size:
                    break
                file.write(block)
        if written != size:
            raise BadInputError(f"{archive} is damaged: {target.name} is not as long as it says")
        Path(temporary).chmod(0o644)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_remote_member(url: str, name: str) -> bytes:
    """One member of a zip that lies elsewhere, without fetching the rest; its CRC-32 is checked.

    Needs a server that answers range requests. Raises BadInputError where that or anything else
    fails: the caller can always fetch the whole archive instead.
    """
    try:
        with fsspec.open(url, "rb") as remote, zipfile.ZipFile(remote) as opened:
            member = opened.getinfo(name)
            if member.file_size > _MOST_MEMBER_BYTES:
                raise ValueError(f"{name} has {member.file_size} bytes")
            return opened.read(member)
    except Exception as error:
        raise BadInputError(f"{name} cannot be read out of {url}: {error!r}") from error
