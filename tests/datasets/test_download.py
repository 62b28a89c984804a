"""Downloads against a real server that misbehaves; no outcome but the whole file or a reason."""

import hashlib
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from lib.datasets import download as module
from lib.datasets.download import DownloadError, RemoteFile, download, download_all, published
from lib.errors import BadInputError, ImageSearchError
from tests.http_server import FileServer, Misbehaviour

CONTENT = random.Random(7).randbytes(300_000)
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(module, "READ_TIMEOUT_S", 1.0)


def remote(server: FileServer, directory: Path, digest: str = SHA256) -> RemoteFile:
    return RemoteFile((f"{server.url}/a.bin",), directory / "a.bin", len(CONTENT), digest)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize(
    "behaviour",
    [
        Misbehaviour(),
        Misbehaviour(ranges=False),
        Misbehaviour(versions=False),
        Misbehaviour(cut_randomly=True),
        Misbehaviour(cut_after=[1, 100_000, 5, 299_999 - 100_006]),
        Misbehaviour(cut_after=[200_000, 299_999], ranges=False),
        Misbehaviour(statuses=[503, 500, 429]),
        Misbehaviour(redirect=True, cut_after=[1000]),
        Misbehaviour(pause_s=0.001, cut_after=[50_000]),
        Misbehaviour(nonsense_ranges=True, cut_after=[1000]),
        Misbehaviour(length=False),
        Misbehaviour(length=False, cut_after=[1000], versions=False),
        Misbehaviour(versions=False, cut_after=[1000]),
    ],
    ids=lambda behaviour: str(behaviour).removeprefix("Misbehaviour")[:120],
)
def test_the_whole_file_comes_whatever_the_server_does(
    tmp_path: Path, behaviour: Misbehaviour
) -> None:
    with FileServer({"a.bin": CONTENT}, behaviour) as server:
        assert download(remote(server, tmp_path))
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert names(tmp_path) == ["a.bin"]


def test_a_second_run_makes_no_request(tmp_path: Path) -> None:
    with FileServer({"a.bin": CONTENT}) as server:
        download(remote(server, tmp_path))
        asked = server.requests.total()
        assert not download(remote(server, tmp_path))
        assert server.requests.total() == asked == 1


def test_what_came_is_not_fetched_again(tmp_path: Path) -> None:
    with FileServer({"a.bin": CONTENT}, Misbehaviour(cut_after=[100_000])) as server:
        download(remote(server, tmp_path))
        (asked,) = server.ranges
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        assert 100_000 - module.BLOCK_BYTES < start <= 100_000
        assert server.bytes_sent == 100_000 + len(CONTENT) - start


def test_a_failed_run_is_continued_by_the_next(tmp_path: Path) -> None:
    breaking = Misbehaviour(cut_after=[123_456], statuses=[0] + [503] * module.ATTEMPTS)
    with FileServer({"a.bin": CONTENT}, breaking) as server:
        with pytest.raises(DownloadError, match=r"HTTP 503 .* by hand"):
            download(remote(server, tmp_path))
        came = (tmp_path / "a.bin.part").stat().st_size
        assert 123_456 - module.BLOCK_BYTES < came <= 123_456
        assert not (tmp_path / "a.bin").exists()
        sent = server.bytes_sent
        download(remote(server, tmp_path))
        assert server.bytes_sent - sent == len(CONTENT) - came
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert names(tmp_path) == ["a.bin"]


def test_a_killed_process_is_continued_by_the_next(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from lib.datasets.download import *\n"
        "file = RemoteFile((sys.argv[1],), Path(sys.argv[2]), digest=sys.argv[3])\n"
        "download(file)"
    )
    with FileServer({"a.bin": CONTENT}, Misbehaviour(pause_s=0.05)) as server:
        arguments = [sys.executable, "-c", program, f"{server.url}/a.bin", str(tmp_path / "a.bin")]
        arguments.append(SHA256)
        with subprocess.Popen(arguments) as process:
            part = tmp_path / "a.bin.part"
            while not (part.exists() and part.stat().st_size):
                assert process.poll() is None
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
        came = part.stat().st_size
        assert 0 < came < len(CONTENT)
        server.behaviour = Misbehaviour()
        assert download(remote(server, tmp_path))
        assert server.ranges == [f"bytes={came}-"]
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_file_that_changed_meanwhile_is_fetched_anew(tmp_path: Path) -> None:
    breaking = Misbehaviour(cut_after=[50_000], statuses=[0] + [503] * module.ATTEMPTS)
    with FileServer({"a.bin": CONTENT}, breaking) as server:
        file = RemoteFile((f"{server.url}/a.bin",), tmp_path / "a.bin")
        with pytest.raises(DownloadError):
            download(file)
        server.files["a.bin"] = other = CONTENT[::-1]
        download(file)
    assert (tmp_path / "a.bin").read_bytes() == other


def test_a_damaged_part_is_fetched_anew(tmp_path: Path) -> None:
    breaking = Misbehaviour(cut_after=[50_000], statuses=[0] + [503] * module.ATTEMPTS)
    with FileServer({"a.bin": CONTENT}, breaking) as server:
        with pytest.raises(DownloadError):
            download(remote(server, tmp_path))
        (tmp_path / "a.bin.part").write_bytes(bytes(1000))  # not how it began
        download(remote(server, tmp_path))
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("digest", ["sha256:00ff", "md5:00ff"])
def test_a_wrong_checksum_is_refused_and_nothing_gets_the_name(tmp_path: Path, digest: str) -> None:
    with FileServer({"a.bin": CONTENT}) as server:
        with pytest.raises(DownloadError, match=r"has the (SHA256|MD5) .* where 00ff is published"):
            download(remote(server, tmp_path, digest))
        assert server.requests.total() == 2
    assert not (tmp_path / "a.bin").exists()


def test_another_size_than_published_is_refused_before_it_comes(tmp_path: Path) -> None:
    with FileServer({"a.bin": CONTENT[:-1]}) as server:
        with pytest.raises(DownloadError, match="offers 299999 bytes where 300000 are published"):
            download(remote(server, tmp_path))
        assert server.requests.total() == 1


def test_a_file_put_there_by_hand_is_checked(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"something else")
    file = RemoteFile(("http://127.0.0.1:9/a.bin",), tmp_path / "a.bin", len(CONTENT), SHA256)
    with pytest.raises(BadInputError, match="has 14 bytes where 300000 are published"):
        download(file)
    assert (tmp_path / "a.bin").read_bytes() == b"something else"
    (tmp_path / "a.bin").write_bytes(CONTENT)
    assert not download(file)


def test_the_second_url_is_taken_where_the_first_fails(tmp_path: Path) -> None:
    with FileServer({"b/a.bin": CONTENT}) as server:
        urls = (f"{server.url}/a.bin", f"{server.url}/b/a.bin")
        download(RemoteFile(urls, tmp_path / "a.bin"))
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_no_internet_says_what_was_wanted_and_where_to_put_it(tmp_path: Path) -> None:
    file = RemoteFile(("http://no-such-host.invalid/a.bin",), tmp_path / "a.bin")
    with pytest.raises(DownloadError) as caught:
        download(file)
    message = str(caught.value)
    assert "no-such-host.invalid is not found; is there internet?" in message
    assert f"put the file at {tmp_path / 'a.bin'} by hand" in message
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    target = tmp_path / "file" / "weights.pth"
    with pytest.raises(DownloadError, match=r"file/weights\.pth cannot be written"):
        download(RemoteFile(("http://127.0.0.1:1/weights.pth",), target))


def test_a_part_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "weights.pth.part").mkdir()
    target = tmp_path / "weights.pth"
    with pytest.raises(DownloadError, match=r"/weights\.pth cannot be written"):
        download(RemoteFile(("http://127.0.0.1:1/weights.pth",), target))


def test_a_server_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    file = RemoteFile(("http://127.0.0.1:9/a.bin",), tmp_path / "a.bin")
    with pytest.raises(DownloadError, match="refused"):
        download(file)


def test_a_mirror_is_a_directory_or_url_with_the_official_paths_or_names(tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    (mirror / "zips").mkdir(parents=True)
    (mirror / "zips" / "a.bin").write_bytes(CONTENT)
    (mirror / "b.bin").write_bytes(CONTENT)
    for name in ("a.bin", "b.bin"):
        url = f"http://official.invalid/zips/{name}"
        file = published(url, tmp_path / name, str(mirror), size=5, digest="sha256:00")
        download(file)
        assert (tmp_path / name).read_bytes() == CONTENT
        assert not download(file)
    same_size = published(
        "http://official.invalid/b.bin", tmp_path / "c", f"file://{mirror}", len(CONTENT), "md5:00"
    )
    with pytest.raises(DownloadError, match="has the MD5"):
        download(same_size)


def test_a_store_that_fsspec_reaches_is_a_source(tmp_path: Path) -> None:
    import fsspec

    fsspec.filesystem("memory").pipe_file("/mirror/a.bin", CONTENT)
    download(RemoteFile(("memory://mirror/a.bin",), tmp_path / "a.bin"))
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_many_files_come_at_once_and_one_failure_does_not_stop_them(tmp_path: Path) -> None:
    files = {f"{n}.bin": CONTENT[n : n + 5000] for n in range(60)}
    with FileServer(files, Misbehaviour(statuses=[503] * 5, cut_after=[100] * 9)) as server:
        files_to_fetch = [
            RemoteFile((f"{server.url}/{name}",), tmp_path / name) for name in [*files, "none.bin"]
        ]
        done = download_all(files_to_fetch)
        assert (done.fetched, done.already_there, len(done.failures)) == (60, 0, 1)
        assert "HTTP 404" in done.failures[str(tmp_path / "none.bin")]
        asked = server.requests.total()
        again = download_all(files_to_fetch[:-1])
        assert (again.fetched, again.already_there) == (0, 60)
        assert server.requests.total() == asked
    assert all((tmp_path / name).read_bytes() == content for name, content in files.items())


def test_when_everything_fails_the_rest_is_not_tried(tmp_path: Path) -> None:
    with FileServer({}) as server:
        files_to_fetch = [RemoteFile((f"{server.url}/{n}",), tmp_path / str(n)) for n in range(500)]
        with pytest.raises(DownloadError, match="HTTP 404"):
            download_all(files_to_fetch, parallel=4)
        assert server.requests.total() < 100


def test_two_processes_do_not_write_into_one_file(tmp_path: Path) -> None:
    with (
        FileServer({"a.bin": CONTENT}) as server,
        module._claim(tmp_path / "a.bin.part"),
        pytest.raises(DownloadError, match="another process"),
    ):
        download(remote(server, tmp_path))


def test_a_full_disk_is_told_before_anything_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with (
        FileServer({"a.bin": CONTENT}) as server,
        pytest.raises(ImageSearchError, match=r"needs 0\.3 MB more"),
    ):
        download(remote(server, tmp_path))
    assert (tmp_path / "a.bin.part").stat().st_size == 0
