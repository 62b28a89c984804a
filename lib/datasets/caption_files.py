"""Caption files in the shapes in which people have them, as one kind of row.

COCO's JSON, Karpathy's, lists and tables in JSON or JSON Lines, CSV of any delimiter, Parquet and
Arrow, Flickr8k's tokens, WebDataset's tars, and folders with a text, JSON or XMP beside each image
or a metadata file. The shape is told by the content, not by the name. What cannot be understood is
refused with its place in the file; what is left out is counted and named.
"""

import bz2
import gzip
import itertools
import json
import lzma
import posixpath
import re
import tarfile
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from pathlib import PurePosixPath
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
from fsspec.implementations.zip import ZipFileSystem

from lib.datasets.caption_json import EXPECTED, json_lines, json_rows, record_rows
from lib.datasets.caption_rows import (
    CaptionRow,
    CaptionRows,
    choose_columns,
    is_counter,
    row_of,
    says_nothing,
    speaker,
    texts_of,
)
from lib.datasets.caption_tables import TOKEN, arrow_rows, delimited_rows, parquet_rows, token_rows
from lib.datasets.matching import clean, has_image_ending
from lib.errors import BadInputError, ImageSearchError, MissingError, left_out
from lib.images.code_pages import code_page
from lib.images.embedded_texts import HEAD_BYTES, HEAD_DOES, embedded_texts
from lib.images.file_names import ENDINGS, is_hidden
from lib.progress import Progress
from lib.storage import NUMBERS, encoding_of, filesystem, numbered

_SEVERAL = re.compile(rf"[*?[]|{NUMBERS.pattern}")
_MOST_BYTES = 4 << 30  # of a file, and of what a compressed one becomes
_MOST_SIDECAR_BYTES = 1 << 20
_READERS = 16  # images that are read at the same time
# As Excel writes CSV, by the language of the system.
_EXCELS = (
    *("cp1252", "cp1251", "cp932", "gbk", "euc_kr", "big5", "cp1254", "cp1250"),
    *("cp1253", "cp1255", "cp1256"),
)


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
    if size > _MOST_BYTES:
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
            rows = _text(_decode(_decompress(opened), source, result), source, result)
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


def _decompress(opened: Any) -> bytes:
    content: bytes = opened.read()
    openers: dict[bytes, Callable[[Any], Any]] = {
        b"\x1f\x8b": gzip.open,
        b"BZh": bz2.open,
        b"\xfd7zXZ": lzma.open,
    }
    for magic, opener in openers.items():
        if content.startswith(magic):
            file = opener(BytesIO(content))
            content = file.read(min(_MOST_BYTES, max(200 * len(content), 64 << 20)))
            if file.read(1):
                raise ValueError("unpacked it has more than 200 times its size")
    return content


def _decode(content: bytes, source: str, result: CaptionRows) -> str:
    """UTF-8, UTF-16 or UTF-32 by its mark, UTF-16 by its zeros, else one of _EXCELS.

    Where most of what is not ASCII is UTF-8, the rest is damage, not another encoding.
    """
    if (marked := encoding_of(content)) != "utf-8-sig":
        return content.decode(marked)
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
    with tarfile.open(fileobj=opened) as archive:
        for member in archive:
            stem = posixpath.splitext(member.name)[0]
            if has_image_ending(member.name):
                images[stem] = member.name
                images.setdefault(_FIRST_DOT.sub("", stem), member.name)
            elif member.isreg() and _is_sidecar(member.name, member.size):
                content = archive.extractfile(member)
                assert content is not None
                said, url = _sidecar(content.read(), f"{source}: {member.name}", result)
                texts.setdefault(stem, {}).update(dict.fromkeys(said))
                urls[stem] = url or urls.get(stem, "")
            archive.members = []  # type: ignore[attr-defined]
    for stem, captions in texts.items():
        name = images.get(stem) or images.get(_FIRST_DOT.sub("", stem), stem)
        if captions:
            path = f"{PurePosixPath(source).name}/{name}"
            yield CaptionRow(name, path, urls[stem], "", _not_blank(captions))


_FIRST_DOT = re.compile(r"\.[^/]*$")
# Google Takeout's IMG_1.jpg(2).json and IMG_1.jpg.supplemental-metadata(2).json: IMG_1(2).jpg
_TAKEOUT = re.compile(r"^(.+?)(\.\w+)(?:\.[a-z-]*)?(\(\d+\))?$", re.DOTALL)


_FLICKRS = re.compile(r"[0-9]{6,}")  # photo_53012345678.json is of a-dog_53012345678_o.jpg
_LONG = 40  # characters; Takeout cuts the name of a sidecar at 46, that of an image at 47
_COUNT = re.compile(r"^.*?((?:\(\d+\))?)$", re.DOTALL)


def _of_longer_name(stem: str, names: Sequence[str]) -> str:
    """The one image of sorted names that begins as a sidecar whose name was cut; else empty."""
    count = _COUNT.sub(r"\1", stem)
    begin = stem.removesuffix(count)
    if len(posixpath.basename(begin)) < _LONG:
        return ""
    after = itertools.islice(names, bisect_left(names, begin), None)
    longer = itertools.takewhile(lambda name: name.startswith(begin), after)
    same = [name for name in longer if _COUNT.sub(r"\1", posixpath.splitext(name)[0]) == count]
    return same[0] if len(same) == 1 else ""


def _is_sidecar(name: str, size: int) -> bool:
    named = name.lower().endswith((".txt", ".caption", ".json", ".xmp"))
    return named and not posixpath.basename(name).startswith(".") and size <= _MOST_SIDECAR_BYTES


def _not_blank(texts: Iterable[str]) -> list[str]:
    """Texts without blank ones, where others are."""
    return [text for text in texts if text] or [""]


def _sidecar(content: bytes, source: str, result: CaptionRows) -> tuple[list[str], str]:
    """The captions and the URL in a file that belongs to one image; none where it is broken."""
    try:
        return _sidecar_texts(content, source)
    except BadInputError as error:
        result.problems.append(str(error))
        return [], ""


def _sidecar_texts(content: bytes, source: str) -> tuple[list[str], str]:
    if source.lower().endswith(".xmp"):
        return _chosen(*_xmp_texts(content, source)), ""
    text = _decode(content, source, CaptionRows())
    if not source.lower().endswith(".json"):
        said = text[: found.start()] if (found := _SETTINGS.search(text)) else text
        lines = (clean(line).strip() for line in said.splitlines())
        return [line for line in lines if not says_nothing(line)] or [""], ""
    try:
        record = json.loads(text)
    except json.JSONDecodeError as error:
        raise BadInputError(f"{source} is not valid JSON: {error}") from error
    if isinstance(record, list) and all(isinstance(e, str) or speaker(e) for e in record):
        return texts_of(record, source, "the list") or [""], ""
    if isinstance(record, list) and len(record) == 1:  # exiftool's
        record = record[0]
    if not isinstance(record, Mapping):
        return [], ""
    columns = choose_columns(map(str, record)) or choose_columns([*map(str, record), "key"])
    if columns is None:
        return [], ""
    row = row_of(record, columns, source, "the object")
    if row.rejected:
        return [""], ""
    title = record.get("name")  # Flickr's, where Google Takeout has `title`
    if any(row.texts) or not isinstance(title, str) or is_counter(title):
        return [*row.texts], row.url
    return [clean(title).strip()], row.url


# What Stable Diffusion's interfaces write below a prompt: the first says what is not in the image.
_SETTINGS = re.compile(r"^(Negative prompt: |Steps: \d+, )", re.MULTILINE)


def _xmp_texts(content: bytes, source: str) -> tuple[list[str], list[str]]:
    """The descriptions and the keywords, as Lightroom, darktable and digiKam write them."""
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise BadInputError(f"{source} is not valid XMP: {error}") from error
    entries: list[list[str]] = []
    for element in ("description", "subject"):
        items = (item for each in root.iter(_DUBLIN_CORE + element) for item in each.iter())
        texts = (clean(item.text or "").strip() for item in items)
        entries.append([text for text in texts if not says_nothing(text)])
    described, keywords = entries
    return described, keywords


def _chosen(described: list[str], keywords: Sequence[str]) -> list[str]:
    """The descriptions, else the keywords as one caption; none where there are neither."""
    return described or ([", ".join(keywords)] if keywords else [])


def _within_images(
    fs: Any, root: str, names: Sequence[str], source: str, result: CaptionRows
) -> Iterator[tuple[str, list[str]]]:
    """The captions in the files of images themselves, by XMP, else IPTC, else Exif."""

    def read(name: str) -> tuple[str, list[str]]:
        try:
            content = fs.cat_file(f"{root}/{name}", 0, HEAD_BYTES)
            if len(content) == HEAD_BYTES and not content.startswith(HEAD_DOES):
                content = fs.cat_file(f"{root}/{name}")
        except OSError as error:
            result.problems.append(f"{source}/{name} cannot be read: {error}")
            return name, []
        return name, _embedded(content, name)

    with (
        ThreadPoolExecutor(_READERS) as pool,
        Progress(len(names), "images read for captions") as progress,
    ):
        for name, said in pool.map(read, names):
            progress.advance(1)
            if said:
                yield name, said


def _embedded(content: bytes, name: str) -> list[str]:
    embedded = embedded_texts(content)
    described, keywords = list[str](), list[str]()
    if embedded.xmp:
        with suppress(BadInputError):  # as for all that is damaged in an image: extraction tells
            described, keywords = _xmp_texts(embedded.xmp, name)
    caption, description = _line(embedded.caption), _line(embedded.description)
    # One word is what phones and programs write there: cof, hdrpl, Screenshot.
    written = caption or (description if " " in description else "")
    words = filter(None, map(_line, embedded.keywords))
    return _chosen(described or [written] * bool(written), keywords or [*words])


def _line(text: bytes) -> str:
    """A text of an image file, which seldom says its encoding; empty where it says nothing."""
    try:
        line = " ".join(_decode(text.rstrip(b"\0"), "", CaptionRows()).split())
    except BadInputError:
        return ""
    return "" if says_nothing(line) or has_image_ending(line) else line


_DUBLIN_CORE = "{http://purl.org/dc/elements/1.1/}"


def _read_folder(fs: Any, root: str, source: str, result: CaptionRows) -> None:
    """A folder: a metadata file, captions under a known name, shards, else a text an image."""
    paths = (
        posixpath.join(posixpath.relpath(folder, root), name) if folder != root else name
        for folder, _, files in fs.walk(root)
        for name in files
    )
    # What lies in a recycle bin or in .ipynb_checkpoints says of the same names what it once said.
    names = sorted(path for path in paths if not is_hidden(path, root))
    for pattern in _FOLDER_FILES:
        files = [name for name in names if re.search(pattern, name, re.IGNORECASE)]
        for name in files:
            place, shard = f"{source}/{name}", len(files) > 1
            _read_file(fs, f"{root}/{name}", place, result, posixpath.dirname(name), shard)
        if files:
            return
    images = {posixpath.splitext(name)[0]: name for name in names if has_image_ending(name)}
    pictures = sorted(images.values())
    by_number = {f"photo_{n}": name for name in pictures for n in _FLICKRS.findall(name)}
    texts: dict[str, dict[str, None]] = {}
    for name in names:
        stem = posixpath.splitext(name)[0]
        path = f"{root}/{name}"
        if _is_sidecar(name, fs.info(path)["size"]):
            image = _TAKEOUT.sub(r"\1\3\2", stem)
            if not has_image_ending(image):
                image = images.get(stem) or _of_longer_name(stem, pictures)
                image = image or by_number.get(posixpath.basename(stem), stem)
            said, _ = _sidecar(fs.cat_file(path), f"{source}/{name}", result)
            texts.setdefault(image, {}).update(dict.fromkeys(said))
    tables = [name for name in names if re.search(_TABLE, name, re.IGNORECASE)]
    beside = any(said for name, said in texts.items() if has_image_ending(name))
    if len(tables) == 1 and not beside:  # then other texts are notes: README.txt
        name = tables[0]
        try:
            _read_file(fs, f"{root}/{name}", f"{source}/{name}", result, posixpath.dirname(name))
            return
        except BadInputError:
            if not any(texts.values()):
                raise
    untold = [
        name
        for name in names
        if posixpath.splitext(name)[1].lower() in ENDINGS and not any(texts.get(name, ()))
    ]
    if untold:
        within = _within_images(fs, root, untold, source, result)
        texts |= {name: dict.fromkeys(said) for name, said in within}
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
