"""Unpack zip and tar archives that strangers made: what could do harm is refused, unwritten."""

import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

import fsspec
from tqdm import tqdm

from lib.errors import BadInputError, ImageSearchError
from lib.storage import TEMPORARY_PREFIX

# Deflate packs at most 1032 to 1; pictures and caption files stay below 10, a bomb does not.
MOST_EXPANSION = 200
ALWAYS_ALLOWED_BYTES = 256 << 20
_BLOCK_BYTES = 1 << 20


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
    archive: Path,
    directory: Path,
    wanted: Callable[[str], str | None] = lambda name: name,
    progress: bool = True,
) -> list[Path]:
    """Write members of a zip or tar archive below `directory`; returns their files.

    `wanted` gives, for a member's name, the relative path to write, or None to leave it out. A file
    that is there with the member's size is kept, so that an interrupted call goes on. Every member
    is looked at before the first is written: a name that leads out of the directory, a link, a
    device, encryption, or an expansion beyond `MOST_EXPANSION` raises BadInputError; so does a
    damaged member (zip: by its CRC-32). Raises ImageSearchError where the disk is too small.
    """
    try:
        if zipfile.is_zipfile(archive):
            return _unpack_zip(archive, directory, wanted, progress)
        return _unpack_tar(archive, directory, wanted, progress)
    except (zipfile.BadZipFile, tarfile.TarError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise BadInputError(f"{archive} is no whole zip or tar archive: {reason}") from error
    except (OSError, ValueError, EOFError, zlib.error, lzma.LZMAError) as error:
        if isinstance(error, ImageSearchError) or (isinstance(error, OSError) and error.errno):
            raise
        raise BadInputError(f"{archive} is damaged: {error}") from error


def _unpack_zip(
    archive: Path, directory: Path, wanted: Callable[[str], str | None], progress: bool
) -> list[Path]:
    with zipfile.ZipFile(archive) as opened:
        members: list[tuple[zipfile.ZipInfo, Path]] = []
        total = 0
        for member in opened.infolist():
            _refuse_zip_member(member, archive)
            total += member.file_size
            target = _target(member.filename, archive, directory, wanted)
            if target and not member.is_dir():
                members.append((member, target))
        _refuse_bomb(total, archive)
        missing = [(m, target) for m, target in members if not _is_there(target, m.file_size)]
        _require_space(sum(member.file_size for member, _ in missing), directory)
        with _bar(sum(member.file_size for member, _ in missing), progress) as bar:
            for member, target in missing:
                with opened.open(member) as content:
                    _write(content, target, directory, member.file_size, archive, bar)
    return [target for _, target in members]


def _refuse_zip_member(member: zipfile.ZipInfo, archive: Path) -> None:
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise BadInputError(
            f"{archive} is refused: {member.filename!r} is a link or a special file"
        )
    if member.flag_bits & 1:
        raise BadInputError(f"{archive} is refused: {member.filename!r} is encrypted")


def _unpack_tar(
    archive: Path, directory: Path, wanted: Callable[[str], str | None], progress: bool
) -> list[Path]:
    total = wanted_bytes = 0
    with tarfile.open(archive) as opened:
        for member in opened:
            if not (member.isreg() or member.isdir()) or member.issparse():
                raise BadInputError(
                    f"{archive} is refused: {member.name!r} is a link or a special file"
                )
            total += member.size
            _refuse_bomb(total, archive)
            target = _target(member.name, archive, directory, wanted)
            if target and not member.isdir() and not _is_there(target, member.size):
                wanted_bytes += member.size
        _drain(opened, archive, total)
    _require_space(wanted_bytes, directory)
    written: list[Path] = []
    with tarfile.open(archive) as opened, _bar(wanted_bytes, progress) as bar:
        for member in opened:
            target = _target(member.name, archive, directory, wanted)
            if target is None or member.isdir():
                continue
            written.append(target)
            if not _is_there(target, member.size):
                content = cast(IO[bytes], opened.extractfile(member))
                _write(content, target, directory, member.size, archive, bar)
    return written


def _drain(opened: tarfile.TarFile, archive: Path, total: int) -> None:
    """Read what follows the last member, so that the checksum of a compressed archive is met."""
    rest = cast(IO[bytes], opened.fileobj)
    while block := rest.read(_BLOCK_BYTES):
        total += len(block)
        _refuse_bomb(total, archive)


def _target(
    name: str, archive: Path, directory: Path, wanted: Callable[[str], str | None]
) -> Path | None:
    safe_path(name, str(archive))
    relative = wanted(name)
    return None if relative is None else directory / safe_path(relative, str(archive))


def _refuse_bomb(total: int, archive: Path) -> None:
    size = archive.stat().st_size
    if total > max(ALWAYS_ALLOWED_BYTES, MOST_EXPANSION * size):
        raise BadInputError(
            f"{archive} is refused: {size} bytes would become {total}, as a decompression bomb does"
        )


def _require_space(count: int, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(directory).free
    if count > free:
        raise ImageSearchError(
            f"unpacking needs {count / 1e9:.1f} GB on the disk of {directory}, "
            f"and {free / 1e9:.1f} GB are free"
        )


def _is_there(target: Path, size: int) -> bool:
    return target.is_file() and target.stat().st_size == size


def _write(
    content: IO[bytes], target: Path, directory: Path, size: int, archive: Path, bar: Any
) -> None:
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
                bar.update(len(block))
        if written != size:
            raise BadInputError(f"{archive} is damaged: {target.name} is not as long as it says")
        Path(temporary).chmod(0o644)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _bar(total: int, progress: bool) -> Any:
    return tqdm(
        total=total, unit="B", unit_scale=True, desc="unpacking", delay=0.5, disable=not progress
    )


def read_remote_member(url: str, name: str, most_bytes: int = 1 << 30) -> bytes:
    """One member of a zip that lies elsewhere, without fetching the rest; its CRC-32 is checked.

    Needs a server that answers range requests. Raises BadInputError where that or anything else
    fails: the caller can always fetch the whole archive instead.
    """
    try:
        with fsspec.open(url, "rb") as remote, zipfile.ZipFile(remote) as opened:
            member = opened.getinfo(name)
            if member.file_size > most_bytes:
                raise ValueError(f"{name} has {member.file_size} bytes")
            return opened.read(member)
    except Exception as error:
        raise BadInputError(f"{name} cannot be read out of {url}: {error!r}") from error
