"""Word vectors from every kind of file are the same, and a file is parsed once."""

import gzip
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from gensim.models import KeyedVectors

from lib.errors import BadInputError, MissingError
from lib.storage import cache_directory
from lib.text import word_vectors
from lib.text.word_vectors import load_word_vectors, word_vectors_digest

WORDS = ["the", "orange", "juice", "n't", "naïve", "10:30", "\u0085x"]
MATRIX = (np.arange(len(WORDS) * 4, dtype=np.float32).reshape(-1, 4) - 9.5) / 8
LINES = [
    f"{word} {' '.join(f'{v:g}' for v in row)}" for word, row in zip(WORDS, MATRIX, strict=True)
]
GLOVE = ("\n".join(LINES) + "\n").encode()
WORD2VEC = f"{len(WORDS)} 4\n".encode() + GLOVE


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def vectors() -> KeyedVectors:
    vectors = KeyedVectors(4)
    vectors.add_vectors(WORDS, MATRIX)
    return vectors


def make(path: Path) -> str:
    name = path.name
    if name.endswith(".zip"):
        with zipfile.ZipFile(path, "w") as opened:
            opened.writestr("folder/glove.txt", GLOVE)
            opened.writestr("readme.md", "no vectors")
    elif name.endswith(".bin"):
        vectors().save_word2vec_format(str(path), binary=True)
    elif name.endswith(".kv"):
        vectors().save(str(path))
    else:
        content = WORD2VEC if "header" in name else GLOVE
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return str(path)


NAMES = ["a.txt", "header.txt", "a.txt.gz", "header.txt.gz", "a.vec", "a.zip", "a.bin", "a.kv"]


@pytest.mark.parametrize("name", NAMES)
def test_every_kind_of_file_gives_the_same_vectors(tmp_path: Path, name: str) -> None:
    source = make(tmp_path / name)
    for _ in range(2):  # parsed, then from the cache
        loaded = load_word_vectors(source)
        assert loaded.index_to_key == WORDS
        assert loaded.vectors.dtype == np.float32
        np.testing.assert_array_equal(loaded.vectors, MATRIX)
        assert loaded.get_vector("orange").tolist() == MATRIX[1].tolist()
    assert word_vectors_digest(load_word_vectors(source)) == word_vectors_digest(vectors())


@pytest.mark.parametrize("name", ["a.bin", "a.w2v", "glove.6B.50d", "a.txt"])
@pytest.mark.parametrize("kind", ["header.txt", "a.txt", "a.txt.gz", "a.bin", "a.zip", "bom"])
def test_the_content_tells_the_kind_not_the_name(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / "as").mkdir()
    path = Path(make(tmp_path / "as" / kind))
    if kind == "bom":
        path.write_bytes(b"\xef\xbb\xbf" + WORD2VEC)
    loaded = load_word_vectors(str(path.rename(tmp_path / name)))
    assert loaded.index_to_key == WORDS
    np.testing.assert_array_equal(loaded.vectors, MATRIX)


def test_a_pickle_is_not_opened_under_a_name_of_text(tmp_path: Path) -> None:
    path = Path(make(tmp_path / "a.kv")).rename(tmp_path / "a.txt")
    with pytest.raises(BadInputError, match=r"a\.txt is a pickle; if you trust it, name it \.kv"):
        load_word_vectors(str(path))


@pytest.mark.parametrize("name", ["a.bin", "a.kv"])
def test_words_without_finite_numbers_are_left_out(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = vectors()
    odd.vectors[1, 2], odd.vectors[3, 0] = np.nan, np.inf
    if name == "a.kv":
        odd.save(str(tmp_path / name))
    else:
        odd.save_word2vec_format(str(tmp_path / name), binary=True)
    loaded = load_word_vectors(str(tmp_path / name))
    assert loaded.index_to_key == [WORDS[row] for row in (0, 2, 4, 5, 6)]
    np.testing.assert_array_equal(loaded.vectors, MATRIX[[0, 2, 4, 5, 6]])
    assert "left out: 2 words" in capsys.readouterr().out


def test_a_file_is_parsed_once_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make(tmp_path / "a.txt")
    load_word_vectors(source)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("parsed again")

    with monkeypatch.context() as patch:
        patch.setattr(word_vectors, "_parse_text", refuse)
        assert isinstance(load_word_vectors(source).vectors, np.memmap)
    Path(source).write_bytes(GLOVE.replace(b"orange", b"purple"))
    os.utime(source, (1, 1))
    assert load_word_vectors(source).index_to_key[1] == "purple"


def test_a_damaged_cache_is_made_anew(tmp_path: Path) -> None:
    source = make(tmp_path / "a.txt")
    load_word_vectors(source)
    (matrix,) = cache_directory().glob("word-vectors/*/vectors.npy")
    matrix.write_bytes(matrix.read_bytes()[:50])
    np.testing.assert_array_equal(load_word_vectors(source).vectors, MATRIX)


def test_a_cache_that_cannot_be_written_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no directory")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert load_word_vectors(make(tmp_path / "a.txt")).index_to_key == WORDS


def test_of_a_zip_with_several_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "glove.zip"
    with zipfile.ZipFile(path, "w") as opened:
        opened.writestr("glove.4d.txt", GLOVE)
        opened.writestr("glove.1d.txt", "the 1\n")
    with pytest.raises(BadInputError, match=r"name one: .*glove\.zip!glove\.4d\.txt or"):
        load_word_vectors(str(path))
    assert load_word_vectors(f"{path}!glove.4d.txt").vector_size == 4
    assert load_word_vectors(f"{path}!glove.1d.txt").vector_size == 1
    with pytest.raises(BadInputError, match=r"holds no glove\.9d\.txt"):
        load_word_vectors(f"{path}!glove.9d.txt")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", b""),
        ("a.txt", b"the 1 2 3\norange 1 2\n"),
        ("a.txt", b"the one two\n"),
        ("a.txt", b"the\norange\n"),
        ("a.txt", b"2 0\nthe\norange\n"),
        ("a.txt", b"the nan nan\norange 1 inf\n"),
        ("a.bin", b"2 0\nthe \norange \n"),
        ("a.bin", (793712314).to_bytes(4, "little") + bytes(100)),
        ("a.txt", b"\xff\xfe\x00\x01"),
        ("a.txt.gz", b"no gzip"),
        ("a.zip", b"no zip"),
        ("a.bin", b"1000 50\nthe "),
        ("a.kv", b"no pickle"),
        ("a.txt", b"99999999999 50\n<html>"),
        ("a.bin.gz", gzip.compress((793712314).to_bytes(4, "little") + bytes(100), mtime=0)),
    ],
)
def test_what_is_no_file_of_vectors_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInputError, match=name):
        load_word_vectors(str(tmp_path / name))


@pytest.mark.parametrize("header", [b"", b"5 2\n"])
def test_odd_lines_of_a_file_cost_no_other(
    tmp_path: Path, header: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        b"the 1 2",
        b". . . 3 4",  # a word with spaces in it
        b"tab\t5\t6\r",
        b"1990 7 8 ",
        b"the 9 9",  # the first counts
        b"bad nan 1",
        b"short 1",
        b"\xff\xfe 1 2",
    ]
    (tmp_path / "a.txt").write_bytes(header + b"\n".join(lines) + b"\n")
    loaded = load_word_vectors(str(tmp_path / "a.txt"))
    assert loaded.index_to_key == ["the", ". . .", "tab", "1990"]
    assert loaded.vectors.tolist() == [[1, 2], [3, 4], [5, 6], [7, 8]]
    assert "left out: 3 lines without 2 finite numbers, 1 of words" in capsys.readouterr().out


def test_a_text_that_ends_too_early_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cut.vec").write_text("4 2\na 1 0\nb 0 1\nc 1\n")
    assert len(load_word_vectors(str(tmp_path / "cut.vec"))) == 2
    assert "cut.vec seems to be cut off: its first line says 4 words, 3" in capsys.readouterr().out


def test_what_a_mac_adds_to_a_zip_is_no_second_file(tmp_path: Path) -> None:
    path = tmp_path / "glove.zip"
    with zipfile.ZipFile(path, "w") as opened:
        opened.writestr("glove.txt", GLOVE)
        opened.writestr("__MACOSX/._glove.txt", b"\0\5\x16\7")
    assert load_word_vectors(str(path)).index_to_key == WORDS


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"no word vectors at .*none\.txt"):
        load_word_vectors(str(tmp_path / "none.txt"))


def test_the_packaged_vectors_are_mapped() -> None:
    loaded = load_word_vectors()
    assert (len(loaded), loaded.vector_size) == (400_000, 50)
    assert isinstance(loaded.vectors, np.memmap)
    assert loaded.similarity("orange", "juice") > loaded.similarity("orange", "parliament")
