"""Where images come from: what a directory, a glob, or a file of either kind lists."""

import math
import os
import posixpath
import re
import stat
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from lib.errors import BadInputError, ImageSearchError, MissingError
from lib.images.addresses import open_filesystem
from lib.images.containers import (
    CONTAINERS,
    ContainerFile,
    NoImageColumnError,
    container_kind,
    holds_images,
    list_container,
    refusal,
)
from lib.images.file_names import LeftOut, ending, is_image, left_out_as, remedy_of
from lib.images.listed import ListedImage, listed_image, rows_of, uri_of, version
from lib.schemas import PROVENANCE_KEY
from lib.storage import NUMBERS, numbered

_TABLES_BESIDE = "tables beside the images that they tell of"
_OF_DATABASE = "folders of a database"
# What a database has in it; images beside these are images.
_DATABASE_FOLDERS = {
    *("descriptors", "failures", "embeddings", "embedder", "versions", "captions", "evaluation")
}
_DEEPEST = 16  # folders of a web server, one in another
_MOST_ALIKE = 4  # of them, down to which 00/ to ff/ may lie in each of 00/ to ff/
_ON_AND_ON = "pages of a web server that lead on and on"
_Files = list[tuple[str, dict[str, Any]]]


def list_images(
    source: str, skipped: Counter[str] | None = None, include_hidden: bool = False
) -> Iterator[ListedImage]:
    """The images of a source, in no particular order, one at a time.

    `source` is a directory, a single image, a glob, a `.zip` or `.tar` archive, a COCO `.json`
    of images, a list of URIs or paths (`.parquet`, `.json`, `.jsonl`, `.csv`, `.tsv`, or `.txt`
    with one a line; gzip may have compressed the last four), or a `.parquet` table of image bytes;
    each on this machine or behind a URL. In a directory or glob, archives and `.parquet` tables are
    opened, too. A path that exists is taken as it is, whatever signs it has.

    `skipped` counts what is left out, by kind, while the images are taken: pictures and films that
    are not read, folders and archives that cannot be, and, without `include_hidden`, what
    `lib.images.file_names.is_hidden` says.

    Raises MissingError where nothing is there and BadInputError where it cannot be listed.
    """
    return rows_of(Listing([whole(source)], include_hidden, skipped).items())


class Part(NamedTuple):
    """What of a source can be listed apart from the rest, by another process, too."""

    name: str
    step: Callable[..., "_Items"]  # a method of Listing
    arguments: tuple[Any, ...]


def whole(source: str) -> Part:
    """A source as a part; see `list_images`."""
    return Part(source, Listing._source, (source,))


class Listing:
    """Parts of a source, listed one after another; a part may turn out to consist of parts.

    `skipped` counts what is left out, see `list_images`.
    """

    def __init__(
        self,
        parts: Iterable[Part],
        include_hidden: bool = False,
        skipped: Counter[str] | None = None,
    ) -> None:
        self._parts = [*parts][::-1]
        self.skipped = Counter[str]() if skipped is None else skipped
        self._left_out = LeftOut(self.skipped, include_hidden)

    @property
    def parts(self) -> list[Part]:
        """Those that are still to be listed, in order."""
        return self._parts[::-1]

    def items(
        self, rows: float = math.inf, seconds: float = math.inf
    ) -> Iterator["ListedImage | pa.Table"]:
        """Images, and tables of them; no other part is begun after so many, or so long."""
        end = time.monotonic() + seconds
        while self._parts and rows > 0 and time.monotonic() < end:
            part = self._parts.pop()
            inner = []
            try:
                for item in part.step(self, *part.arguments):
                    if isinstance(item, Part):
                        inner.append(item)
                    else:
                        rows -= len(item) if isinstance(item, pa.Table) else 1
                        yield item
            except (ImageSearchError, OSError):
                raise
            except Exception as error:  # each store has its own: no credentials, no permission, …
                reason = f"{type(error).__name__}: {error}"
                raise BadInputError(f"{part.name} cannot be listed: {reason}") from error
            self._parts += inner[::-1]

    def _source(self, source: str) -> "_Items":
        fs, path = open_filesystem(source)
        local = isinstance(fs, LocalFileSystem)
        http = source.startswith(("http://", "https://"))
        name = urlsplit(source).path if http else path
        if not (local and os.path.lexists(path)):
            if numbers := NUMBERS.search(name):
                yield from _numbered(source, numbers)
                return
            if re.search(r"\*" if http else r"[*?[]", name) and not _exists(fs, path):
                yield from self._glob(fs, path, source)
                return
            if local:
                raise MissingError(f"no images at {source}: there is no such file or directory")
        # To know whether an address of the web is a directory takes reading all of it.
        if container_kind(name) in CONTAINERS and (http or not fs.isdir(path)):
            yield _source_file(fs, path, source, None)
        elif re.search(r"\.(tar\.\w+|tgz|tbz2?|txz)$", name, re.I) and not fs.isdir(path):
            raise BadInputError(
                f"{source} is a compressed tar, which only reads from its start: unpack it or tar "
                "it without compression (JPEGs do not shrink)"
            )
        elif local and Path(path).is_dir():
            yield _local_folder(path, "", ())
        elif is_image(name):
            try:
                yield _entry(fs, fs.info(path), posixpath.dirname(path))
            except FileNotFoundError as error:
                raise MissingError(f"no images at {source}: {error.__cause__ or error}") from error
        elif local:
            remedy = remedy_of(left_out_as(name))
            raise BadInputError(
                f"{source} is neither an image nor one of {', '.join(CONTAINERS)}, by its ending"
                + (f": {remedy}" if remedy else "")
            )
        else:
            yield _remote_folder(fs, path, path)

    def _file(self, where: ContainerFile) -> "_Items":
        """The images that an archive or table lists; of a damaged one those that could be."""
        empty = True
        try:
            for item in list_container(where, self._left_out):
                empty = False
                yield _part(item) if isinstance(item, ContainerFile) else item
        except Exception as error:  # what reads archives raises nearly anything
            said = refusal(where, error)
            if where.below is not None and isinstance(error, NoImageColumnError):
                self.skipped["tables without images"] += 1
            elif where.below is not None or (said and not empty):
                self._left_out.add_unreadable(where.uri, error)
            elif said:
                raise said from error
            else:
                raise

    def _table_beside(self, where: ContainerFile, folders: bool) -> "_Items":
        """The images of a table, but none where it tells of those that lie beside it.

        Beside `folders` alone its addresses are images, its paths none (DiffusionDB, imagefolder).
        """
        if holds_images(where.fs, where.path, or_addresses=folders):
            yield _part(where)
        else:
            self.skipped[_TABLES_BESIDE] += 1

    def _folder(self, root: str, below: str, above: tuple[tuple[int, int], ...]) -> "_Items":
        """Images in a folder and those below it; a link to a folder above leads no further."""
        try:
            with os.scandir(f"{root}/{below}") as scan:
                entries = list(scan)
            status = Path(f"{root}/{below}").stat()
        except OSError as error:
            if not below:
                raise BadInputError(f"{root} cannot be listed: {error}") from error
            self._left_out.add_unreadable(f"{root}/{below}", error)
            return
        if (status.st_dev, status.st_ino) in above:
            self.skipped["links to a folder above"] += 1
            return
        above = (*above, (status.st_dev, status.st_ino))
        folders: set[str] = set()
        files: _Files = []
        for entry in entries:
            if self._left_out.hides(below + entry.name, root):
                continue
            try:
                if entry.is_dir():
                    folders.add(entry.name)
                    continue
                status = entry.stat()
            except OSError:  # a link to nothing, or to itself: of an image reading says so
                if is_image(entry.name):
                    files.append((f"{root}/{below}{entry.name}", {"size": -1}))
                else:
                    self.skipped["links to nothing"] += 1
                continue
            if not stat.S_ISREG(status.st_mode):
                self.skipped["pipes, sockets and devices"] += 1
                continue
            info = {"size": status.st_size, "etag": f"{status.st_mtime_ns:x}"}
            files.append((f"{root}/{below}{entry.name}", info))
        folders -= self._of_database(LocalFileSystem(), f"{root}/{below}", folders)
        yield from self._directory(LocalFileSystem(), root, files, folders)
        for folder in sorted(folders):
            yield _local_folder(root, f"{below}{folder}/", above)

    def _remote_folder(
        self, fs: Any, root: str, folder: str, above: tuple[int, ...] = ()
    ) -> "_Items":
        """Images below a prefix or a page; above: what tells the pages on the way from others."""
        try:
            _, folders, files = next(fs.walk(folder, maxdepth=1, detail=True, on_error="raise"))
        except OSError as error:
            if folder != root:
                self._left_out.add_unreadable(uri_of(fs, folder), error)
                return
            if not isinstance(error, FileNotFoundError):
                raise
            raise MissingError(f"no images at {uri_of(fs, root)}: {error}") from error
        # Keys of a store may have such names, but in a page they are links to itself or above.
        turns_back = (".", "..") if "http" in fs.protocol else ()
        page = zlib.crc32("\n".join(sorted([*folders, "", *files])).encode())
        if turns_back and (above.count(page) == _MOST_ALIKE or len(above) > _DEEPEST):
            self.skipped[_ON_AND_ON] += 1
            return
        above = (*above, page)
        inner = {}
        for name, info in folders.items():
            path = info["name"].rstrip("/")
            if name not in turns_back and not self._left_out.hides(_below(root, path), root):
                inner[name] = path
        seen = self._not_hidden(root, ((info["name"], info) for info in files.values()))
        for name in self._of_database(fs, folder, set(inner)):
            del inner[name]
        yield from self._directory(fs, root, seen, set(inner))
        if "s3" in fs.protocol and files.get("", {}).get("type") == "directory":
            # Keys with nothing between two slashes, of which s3fs makes the folder itself.
            keys = fs.find(folder, prefix="/", detail=True).items()
            yield from self._directories(fs, root, self._not_hidden(root, keys))
        if files.get("", {}).get("size"):  # where others keep an empty mark of a folder
            self.skipped["keys that end in a slash"] += 1
        for path in inner.values():
            yield _remote_folder(fs, root, path, above)

    def _of_database(self, fs: Any, folder: str, folders: set[str]) -> set[str]:
        """Those of its folders that are a database's: their tables name images listed anyway."""
        if "descriptors" not in folders or not _holds_descriptors(fs, f"{folder}/descriptors"):
            return set()
        own = folders & _DATABASE_FOLDERS
        self.skipped[_OF_DATABASE] += len(own)
        return own

    def _glob(self, fs: Any, pattern: str, source: str) -> "_Items":
        local = isinstance(fs, LocalFileSystem)
        disk = (
            _GlobbedDisk(self._left_out.add_unreadable, follow="**" not in pattern) if local else fs
        )
        matches = disk.glob(pattern, detail=True)
        if not matches:
            raise MissingError(f"no file matches {source}")
        root = posixpath.dirname(pattern[: re.search(r"[*?[]", pattern).start()])  # type: ignore[union-attr]
        files = []
        for name, info in self._not_hidden(root, matches.items()):
            if info["type"] != "directory":
                files.append((name, info))
            elif "**" not in pattern and local:
                yield _local_folder(root, f"{_below(root, name)}/", ())
        yield from self._directories(fs, root, files)

    def _not_hidden(self, root: str, files: Iterable[tuple[str, dict[str, Any]]]) -> _Files:
        return [each for each in files if not self._left_out.hides(_below(root, each[0]), root)]

    def _directories(self, fs: Any, root: str, files: _Files) -> "_Items":
        """Images in several folders, see `_directory`."""
        groups: dict[str, _Files] = {}
        for name, info in files:
            groups.setdefault(posixpath.dirname(name), []).append((name, info))
        for group in groups.values():
            yield from self._directory(fs, root, group, set())

    def _directory(self, fs: Any, root: str, files: _Files, folders: set[str]) -> "_Items":
        """Images in one folder, and the archives and tables there.

        An archive beside a folder of its name is that folder, packed. A table beside a folder or
        an archive of its name tells of the images in it (img2dataset), and a list of URIs beside
        images of theirs.
        """
        stems = folders | {_stem(name) for name, _ in files if ending(name) == ".tar"}
        tables, plain = [], True
        for name, info in files:
            kind = ending(name)
            if is_image(name):
                plain = False
                yield _entry(fs, info | {"name": name}, root)
            elif kind in (".zip", ".tar"):
                if _stem(name) in folders:
                    self.skipped["archives beside a folder of their name"] += 1
                else:
                    plain = False
                    yield _part(ContainerFile(fs, name, uri_of(fs, name), _below(root, name)))
            elif kind == ".parquet":
                if _stem(name) in stems:
                    self.skipped[_TABLES_BESIDE] += 1
                else:
                    tables.append(ContainerFile(fs, name, uri_of(fs, name), _below(root, name)))
            else:
                self._left_out.add_other(name)
        for table in tables:
            if plain and not folders:
                yield _part(table)
            else:
                yield Part(table.uri, Listing._table_beside, (table, plain))


_Items = Iterator[ListedImage | pa.Table | Part]


class _GlobbedDisk(LocalFileSystem):
    """A disk whose links are what they lead to, and that tells of folders that cannot be read.

    `follow`: also those to folders, which below `**` may lead round and round.
    """

    cachable = False

    def __init__(self, unreadable: Callable[[str, Exception], None], follow: bool) -> None:
        super().__init__()
        self._unreadable, self._follow = unreadable, follow

    def ls(self, path: str, detail: bool = False, **options: Any) -> Any:
        try:
            return super().ls(path, detail, **options)
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                self._unreadable(path, error)
            raise

    def info(self, path: Any, **options: Any) -> Any:
        info = super().info(path, **options)
        if info["islink"]:
            with suppress(OSError):  # a link to nothing: reading says so
                target = super().info(info["name"], **options)
                if self._follow or target["type"] != "directory":
                    return target
        return info


def _holds_descriptors(fs: Any, folder: str) -> bool:
    """Whether the first table in a folder is one of descriptors."""
    with suppress(OSError, pa.ArrowException):
        names = fs.ls(folder, detail=False)
        if tables := [name for name in names if ending(name) == ".parquet"]:
            with fs.open(min(tables)) as file:
                return PROVENANCE_KEY in (pq.read_schema(file).metadata or {})
    return False


def _local_folder(root: str, below: str, above: tuple[tuple[int, int], ...]) -> Part:
    return Part(f"{root}/{below}", Listing._folder, (root, below, above))


def _remote_folder(fs: Any, root: str, folder: str, above: tuple[int, ...] = ()) -> Part:
    return Part(uri_of(fs, folder), Listing._remote_folder, (fs, root, folder, above))


def _numbered(source: str, numbers: re.Match[str]) -> Iterator[Part]:
    """The shards 000 to 123 of `name-{000..123}.tar`, or those in the folders `{000..123}`."""
    head = source[: source.index(numbers[0])]
    above = urlsplit(head[: head.rfind("/") + 1]).path
    for shard in numbered(source):
        below = urlsplit(shard).path.removeprefix(above)
        yield _source_file(*open_filesystem(shard), shard, below)


def _source_file(fs: Any, path: str, source: str, below: str | None) -> Part:
    """An archive or a table named as the source; a local path holds from any directory."""
    uri = uri_of(fs, path) if isinstance(fs, LocalFileSystem) else source
    return _part(ContainerFile(fs, path, uri, below))


def _part(where: ContainerFile) -> Part:
    return Part(where.uri, Listing._file, (where,))


def _entry(fs: Any, info: dict[str, Any], root: str) -> ListedImage:
    name = str(info["name"])
    size = info.get("size")
    return listed_image(
        _below(root, name), uri_of(fs, name), -1 if size is None else size, version(info)
    )


def _below(root: str, name: str) -> str:
    return name.removeprefix(root.rstrip("/") + "/")


def _stem(name: str) -> str:
    return posixpath.splitext(posixpath.basename(name))[0]


def _exists(fs: Any, path: str) -> bool:
    try:
        return bool(fs.exists(path))
    except (OSError, ValueError):  # no name that this store could have
        return False
