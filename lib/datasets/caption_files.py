"""Caption files in the shapes in which people have them, as one kind of row.

COCO's JSON, Karpathy's, lists and tables in JSON or JSON Lines, CSV of any delimiter, Parquet and
Arrow, Flickr8k's tokens, WebDataset's tars, and folders with a text, JSON or XMP beside each image
or a metadata file. The shape is told by the content, not by the name. What cannot be understood is
refused with its place in the file; what is left out is counted and named.
"""

import json
import posixpath
import re
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
from fsspec.implementations.zip import ZipFileSystem

from lib.datasets.caption_json import EXPECTED, json_lines, json_rows, record_rows
from lib.datasets.caption_rows import CaptionRow, CaptionRows
from lib.datasets.caption_tables import TOKEN, arrow_rows, delimited_rows, parquet_rows, token_rows
from lib.datasets.caption_text import MOST_BYTES, decode, decompress, unpacked
from lib.datasets.matching import clean, has_image_ending
from lib.datasets.sidecars import (
    SidecarImages,
    is_sidecar,
    read_embedded,
    read_sidecars,
    sidecar_texts,
)
from lib.errors import BadInputError, ImageSearchError, MissingError, left_out
from lib.images.archives import tar_members
from lib.images.file_names import is_hidden, is_image
from lib.storage import NUMBERS, filesystem, numbered

_SEVERAL = re.compile(rf"[*?[]|{NUMBERS.pattern}")


def read_caption_rows(source: str) -> CaptionRows:
    """Read a caption file, a folder or a zip of one, several files by a glob or by a range of
    numbers (`{000..123}.tar`), or WebDataset shards; here or at a URL.

    Raises MissingError where nothing is there, BadInputError where it cannot be understood.
    """
    fs, path = filesystem(source)
    result = CaptionRows()
    try:
        if fs.isdir(path):
            _read_folder(fs, path, source, result)
        elif (part := _SEVERAL.search(path)) and not fs.exists(path):
            files = [
                file
                for name in numbered(path)
                for file in (sorted(fs.glob(name)) if {*name} & {*"*?["} else [name])
            ]
            if not files:
                raise MissingError(f"no file matches {source}")
            root = posixpath.dirname(path[: part.start()])
            for file in files:
                # The same names may come again in other folders.
                folder = posixpath.dirname(file)[len(root) :].strip("/")
                _read_file(fs, file, file, result, folder, shard=len(files) > 1)
        else:
            _read_file(fs, path, source, result)
        result.notes += left_out(result.problems, len(result.rows))
    except ImageSearchError:
        raise
    except FileNotFoundError as error:
        raise MissingError(f"{error.filename or source} is not there") from error
    except OSError as error:
        if error.errno:
            raise
        raise BadInputError(f"{source} cannot be read: {error}") from error
    except Exception as error:  # Arrow, JSON, tar and compression have dozens of their own
        raise BadInputError(f"{source} cannot be read as captions: {error!r:.300}") from error
    return result


def _read_file(
    fs: Any, path: str, source: str, result: CaptionRows, folder: str = "", shard: bool = False
) -> None:
    info = fs.info(path)
    size = info["size"] or 0
    if size > max(200 * info.get("compress_size", size), 64 << 20):  # of a zip's member
        raise ValueError("unpacked it has more than 200 times its size")
    if size > MOST_BYTES:
        raise BadInputError(f"{source} has {size / 1e9:.1f} GB; split it into files below 4 GB")
    with fs.open(path, "rb") as opened:
        start = opened.read(512)
        opened.seek(0)
        if start[:4] == b"PAR1":
            rows: Iterable[CaptionRow] = parquet_rows(opened, source, shard, result)
        elif start and path.lower().endswith((".parquet", ".feather")) and start[:6] != b"ARROW1":
            raise BadInputError(f"{source} cannot be read: it is no Parquet or Feather file")
        elif start[:6] == b"ARROW1":
            table = pa.ipc.open_file(opened).read_all()
            rows = arrow_rows(table.to_batches(), table.schema, source, shard, result)
        elif start[:4] == b"\xff\xff\xff\xff":  # a stream, as Hugging Face's save_to_disk writes
            stream = pa.ipc.open_stream(opened)
            rows = arrow_rows(stream, stream.schema, source, shard, result)
        elif start[:4] == b"PK\x03\x04":
            rows = _zip(opened, source, result)
        elif start[257:262] == b"ustar" or path.lower().endswith((".tar", ".tar.gz", ".tgz")):
            rows = _tar(opened, source, result)
        else:
            rows = _text(decode(decompress(opened), source, result), source, result)
        for row in rows:
            if folder and row.name and "://" not in row.name:
                row = row._replace(name=f"{folder}/{row.name}")
            result.rows.append(row)


def _zip(opened: Any, source: str, result: CaptionRows) -> Iterable[CaptionRow]:
    """The rows of a zip, which is read as the folder that it holds."""
    inside = CaptionRows(notes=result.notes, problems=result.problems)
    try:
        archive = ZipFileSystem(opened)
        if archive.exists("[Content_Types].xml") or archive.exists("mimetype"):
            raise BadInputError(
                f"{source} holds no captions: it is a spreadsheet (.xlsx, .ods) or another "
                "document; save the table as CSV"
            )
        _read_folder(archive, "", source, inside)
    except OSError as error:
        if isinstance(error, ImageSearchError):  # of the store where the zip lies
            raise
        raise BadInputError(f"{source} is damaged: {error}") from error
    return inside.rows


_MARKUP = re.compile(r"\s*<(\?x|!doctype|html|annotations?[\s>]|x:xmpmeta|rdf:)", re.IGNORECASE)


def _text(text: str, source: str, result: CaptionRows) -> Iterable[CaptionRow]:
    start = text.lstrip()[:1]
    if start in ("{", "["):
        try:
            return json_rows(json.loads(text), source, result)
        except json.JSONDecodeError as error:
            records = json_lines(text, source, result)
            if records is None:
                raise BadInputError(f"{source} is not valid JSON: {error}") from error
            return record_rows(records, source, "line", result)
    if _MARKUP.match(text):
        raise BadInputError(
            f"{source} holds no captions: it is XML or a web page, as CVAT and VOC write boxes of "
            "objects in; captions are needed as a table or JSON, or as text beside each image"
        )
    if start and source.lower().endswith((".json", ".jsonl")):
        raise BadInputError(f"{source} is no JSON and so not {EXPECTED}")
    lines = re.split("\r\n|\r|\n", text)
    sample = [line for line in lines[:20] if line.strip()]
    if sample and sum(bool(TOKEN.fullmatch(line)) for line in sample) * 2 >= len(sample):
        return token_rows(lines, source, result)
    return delimited_rows(lines, source, result)


def _tar(opened: Any, source: str, result: CaptionRows) -> Iterator[CaptionRow]:
    """A WebDataset shard: a text belongs to the image of its stem, else of its key, the path up to
    the first dot of the file name (`1.0.txt`, `1.1.txt` and `1.jpg` are one sample)."""
    images: dict[str, str] = {}
    texts: dict[str, dict[str, None]] = {}
    urls: dict[str, str] = {}
    file = unpacked(opened)
    try:
        for member in tar_members(file):
            stem = posixpath.splitext(member.name)[0]
            if has_image_ending(member.name):
                images[stem] = member.name
                images.setdefault(_FIRST_DOT.sub("", stem), member.name)
            elif member.isreg() and is_sidecar(member.name, member.size):
                file.seek(member.offset_data)
                place, content = f"{source}: {member.name}", file.read(member.size)
                said, url = sidecar_texts(content, place, result)
                texts.setdefault(stem, {}).update(dict.fromkeys(said))
                urls[stem] = url or urls.get(stem, "")
    except (tarfile.TarError, EOFError) as error:  # what comes before is read
        if not texts:
            raise
        result.problems.append(f"{source} is read in part: {error}")
    for stem, captions in texts.items():
        name = images.get(stem) or images.get(_FIRST_DOT.sub("", stem), stem)
        if captions:
            path = f"{PurePosixPath(source).name}/{name}"
            yield CaptionRow(name, path, urls[stem], "", _not_blank(captions))


_FIRST_DOT = re.compile(r"\.[^/]*$")


def _not_blank(texts: Iterable[str]) -> list[str]:
    """Texts without blank ones, where others are."""
    return [text for text in texts if text] or [""]


def _read_folder(fs: Any, root: str, source: str, result: CaptionRows) -> None:
    """A folder: a metadata file, captions under a known name, shards, else a text an image."""
    sizes = {
        f"{folder.rstrip('/')}/{name}".removeprefix(f"{root.rstrip('/')}/"): info["size"] or 0
        for folder, _, files in fs.walk(root, detail=True)
        for name, info in files.items()
    }
    # What lies in a recycle bin or in .ipynb_checkpoints says of the same names what it once said.
    names = sorted(path for path in sizes if not is_hidden(path, root))
    for pattern in _FOLDER_FILES:
        files = [name for name in names if re.search(pattern, name, re.IGNORECASE)]
        for name in files:
            place, shard = f"{source}/{name}", len(files) > 1
            _read_file(fs, f"{root}/{name}", place, result, posixpath.dirname(name), shard)
        if files:
            return
    images = SidecarImages(names)
    beside = [name for name in names if is_sidecar(name, sizes[name])]
    texts: dict[str, dict[str, None]] = {}
    for name, said in read_sidecars(fs, root, beside, source, result):
        texts.setdefault(images[name], {}).update(dict.fromkeys(said))
    tables = [name for name in names if re.search(_TABLE, name, re.IGNORECASE)]
    told = any(said for name, said in texts.items() if has_image_ending(name))
    if len(tables) == 1 and not told:  # then other texts are notes: README.txt
        name = tables[0]
        try:
            _read_file(fs, f"{root}/{name}", f"{source}/{name}", result, posixpath.dirname(name))
            return
        except BadInputError:
            if not any(texts.values()):
                raise
    untold = [name for name in names if is_image(name) and not any(texts.get(name, ()))]
    embedded = read_embedded(fs, root, untold, source, result)
    texts |= {name: dict.fromkeys(said) for name, said in embedded if said}
    if not any(texts.values()) and not result.problems:
        silent = f"; what is beside {next(iter(texts))} says nothing of it" if texts else ""
        raise BadInputError(
            f"{source} is a folder without captions: it needs a metadata.csv or .jsonl, a "
            "captions file, beside each image a .txt, a .json with a caption or description, or an "
            ".xmp with a description or keywords, or images that hold such themselves (XMP, IPTC, "
            f"Exif){silent}"
        )
    result.rows += [
        CaptionRow(name, clean(name), "", "", _not_blank(said))
        for name, said in texts.items()
        if said
    ]


_TABLE = r"\.(csv|tsv|jsonl?|ndjson)$"
# The first kind that a folder has is read, all files of it.
_FOLDER_FILES = (
    r"(^|/)metadata\.(csv|jsonl|parquet)$",  # Hugging Face's ImageFolder
    r"(^|/)(flickr\d+k\.token\.txt|results_20130124\.token|results\.csv|(dataset_(?!infos?\.)|captions_)\w+\.json)$",
    r"^[^/]*/?captions?\.(csv|tsv|txt|jsonl?|parquet)$",
    r"(\.parquet|-\d+-of-\d+\.arrow)$",
    r"\.tar$",
)
