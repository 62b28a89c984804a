"""Archives that strangers made: harmless ones are unpacked, the others refused, unwritten."""

import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from lib.datasets import archives
from lib.datasets.archives import read_remote_member, unpack
from lib.errors import BadInputError
from tests.http_server import FileServer, Misbehaviour


def make_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return path


def make_tar(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    mode = "w:gz" if path.suffix == ".gz" else "w"
    with tarfile.open(path, mode) as opened:  # type: ignore[call-overload]
        for member, content in members:
            member.size = len(content)
            opened.addfile(member, io.BytesIO(content))
    return path


def files_below(directory: Path) -> list[str]:
    return sorted(p.relative_to(directory).as_posix() for p in directory.rglob("*") if p.is_file())


def special(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member, b""


HARMLESS = {"a/one.txt": b"one", "a/b/two.txt": b"two" * 1000, "left.txt": b"left"}


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_what_is_wanted_is_written_and_what_is_there_is_kept(tmp_path: Path, kind: str) -> None:
    archive = tmp_path / f"archive.{kind}"
    if kind == "zip":
        make_zip(archive, HARMLESS)
    else:
        make_tar(archive, [(tarfile.TarInfo(name), c) for name, c in HARMLESS.items()])
    out = tmp_path / "out"

    def below_a(name: str) -> str | None:
        return name if name.startswith("a/") else None

    written = unpack(archive, out, below_a)
    assert files_below(out) == ["a/b/two.txt", "a/one.txt"]
    assert sorted(written) == [out / "a/b/two.txt", out / "a/one.txt"]
    assert (out / "a/b/two.txt").read_bytes() == b"two" * 1000
    before = (out / "a/one.txt").stat().st_mtime_ns
    (out / "a/b/two.txt").write_bytes(b"cut")
    unpack(archive, out, below_a)
    assert (out / "a/one.txt").stat().st_mtime_ns == before
    assert (out / "a/b/two.txt").read_bytes() == b"two" * 1000


@pytest.mark.parametrize(
    "name", ["../up.txt", "a/../../up.txt", "/etc/up.txt", "..\\up.txt", "C:/up.txt", "C:\\up.txt"]
)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_name_that_leads_out_is_refused(tmp_path: Path, name: str, kind: str) -> None:
    archive = tmp_path / f"archive.{kind}"
    if kind == "zip":
        make_zip(archive, {"good.txt": b"good", name: b"bad"})
    else:
        make_tar(archive, [(tarfile.TarInfo("good.txt"), b"good"), (tarfile.TarInfo(name), b"bad")])
    with pytest.raises(BadInputError, match="leads out"):
        unpack(archive, tmp_path / "out")
    assert files_below(tmp_path) == [archive.name]


@pytest.mark.parametrize(
    "member",
    [
        special("link", tarfile.SYMTYPE, "/etc/passwd"),
        special("link", tarfile.LNKTYPE, "good.txt"),
        special("device", tarfile.CHRTYPE),
        special("pipe", tarfile.FIFOTYPE),
    ],
    ids=["symlink", "hard link", "device", "pipe"],
)
def test_a_tar_with_links_or_devices_is_refused(
    tmp_path: Path, member: tuple[tarfile.TarInfo, bytes]
) -> None:
    archive = make_tar(tmp_path / "a.tar", [(tarfile.TarInfo("good.txt"), b"good"), member])
    with pytest.raises(BadInputError, match="link or a special file"):
        unpack(archive, tmp_path / "out")
    assert files_below(tmp_path) == ["a.tar"]


def test_a_zip_with_a_symlink_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as opened:
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        opened.writestr(link, "/etc/passwd")
    with pytest.raises(BadInputError, match="link or a special file"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_a_link_that_lies_in_the_target_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "a").symlink_to(tmp_path / "elsewhere")
    archive = make_zip(tmp_path / "a.zip", {"a/one.txt": b"one"})
    with pytest.raises(BadInputError, match="link out of"):
        unpack(archive, tmp_path / "out")
    assert files_below(tmp_path / "elsewhere") == []


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_bomb_is_refused(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "ALWAYS_ALLOWED_BYTES", 1 << 20)
    zeros = bytes(8 << 20)
    archive = tmp_path / f"bomb.{kind}"
    if kind == "zip":
        make_zip(archive, {"zeros": zeros})
    else:
        make_tar(archive, [(tarfile.TarInfo("zeros"), zeros)])
    with pytest.raises(BadInputError, match="bomb"):
        unpack(archive, tmp_path / "out")
    assert files_below(tmp_path) == [archive.name]


def test_a_zip_that_lies_about_a_size_is_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"one.txt": b"x" * 100_000})
    content = bytearray(archive.read_bytes())
    at = content.rindex(b"PK\x01\x02") + 24  # the uncompressed size in the central directory
    content[at : at + 4] = (10).to_bytes(4, "little")
    archive.write_bytes(content)
    with pytest.raises(BadInputError):
        unpack(archive, tmp_path / "out")
    assert files_below(tmp_path / "out") == []


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text"])
def test_a_damaged_archive_is_refused_and_leaves_no_part(
    tmp_path: Path, kind: str, damage: str
) -> None:
    archive = tmp_path / f"a.{kind}"
    members = {f"{n}.bin": bytes((n * i * 31) % 251 for i in range(5000)) for n in range(1, 4)}
    if kind == "zip":
        make_zip(archive, members)
    else:
        make_tar(archive, [(tarfile.TarInfo(name), c) for name, c in members.items()])
    content = bytearray(archive.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "flip":
        content[len(content) // 3] ^= 0xFF
    else:
        content = bytearray(b"" if damage == "empty" else b"<html>not found</html>")
    archive.write_bytes(content)
    with pytest.raises(BadInputError):
        unpack(archive, tmp_path / "out")
    for name in files_below(tmp_path):
        if name != archive.name:
            assert (tmp_path / name).read_bytes() == members[name.removeprefix("out/")]


def test_one_member_is_read_out_of_a_zip_on_a_server(tmp_path: Path) -> None:
    import random

    big = random.Random(0).randbytes(9_000_000)
    archive = make_zip(tmp_path / "a.zip", {"big": big, "small.json": b"{}"})
    with FileServer({"a.zip": archive.read_bytes()}) as server:
        assert read_remote_member(f"{server.url}/a.zip", "small.json") == b"{}"
        assert server.bytes_sent < 7_000_000
        server.behaviour = Misbehaviour(ranges=False)
        with pytest.raises(BadInputError, match=r"small\.json cannot be read out of"):
            read_remote_member(f"{server.url}/a.zip", "small.json")
