"""Every kind of source lists the same images and reads the same bytes; bad storage is told."""

import io
import itertools
import json
import os
import socket
import tarfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from lib.errors import BadInputError, MissingError
from lib.images import addresses, reading
from lib.images.decoding import ImageError
from lib.images.listed import ListedImage
from lib.images.listing import list_images
from lib.images.reading import read_image
from lib.schemas import FAILURES, Provenance, descriptor_schema
from lib.storage import write_bytes_atomic
from tests.http_server import serving

CONTENTS = {f"{'deep/' if n % 2 else ''}{n}.jpg": bytes([n]) * (100 + n) for n in range(6)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    for path, content in CONTENTS.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    (root / "notes.txt").write_text("no image")
    return root


def contents(source: str) -> dict[str, bytes]:
    return {image.path: read_image(image) for image in list_images(source)}


def zipped(folder: Path) -> str:
    target = folder.parent / "all.zip"
    with zipfile.ZipFile(target, "w") as archive:
        for path in CONTENTS:
            archive.write(folder / path, path)
    return str(target)


def tarred(folder: Path) -> str:
    target = folder.parent / "all.tar"
    with tarfile.open(target, "w") as archive:
        for path in CONTENTS:
            archive.add(folder / path, path)
    return str(target)


def as_csv(folder: Path) -> str:
    target = folder.parent / "list.csv"
    uris = [str(folder / path) for path in CONTENTS]
    pyarrow.csv.write_csv(pa.table({"path": list(CONTENTS), "url": uris}), target)
    return str(target)


def as_uris(folder: Path) -> str:
    target = folder.parent / "list.parquet"
    uris = [str(folder / path) for path in CONTENTS]
    pq.write_table(pa.table({"file_name": list(CONTENTS), "uri": uris}), target)
    return str(target)


def as_bytes(folder: Path) -> str:
    target = folder.parent / "bytes.parquet"
    table = pa.table({"path": list(CONTENTS), "image": [{"bytes": c} for c in CONTENTS.values()]})
    pq.write_table(table, target, row_group_size=2)
    return str(target)


def as_coco(folder: Path) -> str:
    target = folder.parent / "captions.json"
    images = [
        {"id": 1000 + n, "file_name": path, "coco_url": str(folder / path)}
        for n, path in enumerate(CONTENTS)
    ]
    target.write_text(json.dumps({"images": images, "annotations": []}))
    return str(target)


@pytest.mark.parametrize("make", [str, zipped, tarred, as_csv, as_uris, as_bytes, as_coco])
def test_every_kind_of_source_gives_the_same_images(
    make: Callable[[Path], str], folder: Path
) -> None:
    assert contents(make(folder)) == CONTENTS


def test_a_glob_takes_what_it_names(folder: Path) -> None:
    assert contents(f"{folder}/deep/*.jpg") == {
        path.removeprefix("deep/"): content
        for path, content in CONTENTS.items()
        if path.startswith("deep/")
    }


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("db", ["my.db/", ""])
def test_a_database_among_the_images_is_none_of_them(
    remote: bool, db: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    above = request.getfixturevalue("bucket") if remote else str(tmp_path)
    source = f"{above}/with{bool(db)}"
    for name in ("a.jpg", "descriptors/b.jpg", f"{db}c.jpg", f"{db}evaluation/recall.png"):
        write_bytes_atomic(f"{source}/{name}", b"an image")
    names = {image.path for image in list_images(source)}
    assert names == {"a.jpg", "descriptors/b.jpg", f"{db}c.jpg", f"{db}evaluation/recall.png"}
    provenance = Provenance("resnet18", "0" * 64, "whole picture", "float32", 512)
    for table, name in (
        (descriptor_schema(provenance).empty_table(), "descriptors/0.parquet"),
        (FAILURES.empty_table(), "failures/0.parquet"),
        (pa.table({"name": ["a.parquet"], "rows": [1]}), "versions/files-0.parquet"),
    ):
        pq.write_table(table, sink := io.BytesIO())
        write_bytes_atomic(f"{source}/{db}{name}", sink.getvalue())
    skipped: Counter[str] = Counter()
    names = {image.path for image in list_images(source, skipped)}
    assert names == ({"a.jpg", "descriptors/b.jpg", "my.db/c.jpg"} if db else {"a.jpg", "c.jpg"})
    assert skipped == {"folders of a database": 4}


def test_versions_follow_content(folder: Path) -> None:
    for make in (str, zipped, tarred):
        first = {image.path: image for image in list_images(make(folder))}
        assert all(image.etag for image in first.values())
        (folder / "0.jpg").write_bytes(b"another")
        second = {image.path: image for image in list_images(make(folder))}
        assert first["0.jpg"] != second["0.jpg"]
        (folder / "0.jpg").write_bytes(CONTENTS["0.jpg"])


def test_ids_of_a_coco_file(folder: Path) -> None:
    assert {image.image_id for image in list_images(as_coco(folder))} == {
        str(1000 + n) for n in range(6)
    }


def test_sources_that_cannot_be_listed(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no such file"):
        list(list_images(str(tmp_path / "absent")))
    with pytest.raises(MissingError, match="no file matches"):
        list(list_images(f"{tmp_path}/*.jpg"))
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
    with pytest.raises(MissingError, match=r"no images at .*gone\.jpg: "):
        list(list_images(str(tmp_path / "gone.jpg")))
    (tmp_path / "a.zip").write_bytes(b"PK no")
    with pytest.raises(BadInputError, match="no whole zip"):
        list(list_images(str(tmp_path / "a.zip")))
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(BadInputError, match="no COCO file"):
        list(list_images(str(tmp_path / "deep.json")))
    for source in ("http://[x/a.zip", "s3://", "s3:///set"):
        with pytest.raises(BadInputError, match=r"is no address|names no host or bucket"):
            list(list_images(source))
    (tmp_path / "a.tar.gz").write_bytes(b"")
    with pytest.raises(BadInputError, match="compressed tar"):
        list(list_images(str(tmp_path / "a.tar.gz")))
    pq.write_table(pa.table({"name": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(BadInputError, match="it has name"):
        list(list_images(str(tmp_path / "a.parquet")))


class Unreliable(BaseHTTPRequestHandler):
    """Fails in the way that the path names, as often as it says."""

    seen: ClassVar[dict[str, int]] = {}
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        how, _, times = self.path.strip("/").partition("-")
        self.seen[self.path] = self.seen.get(self.path, 0) + 1
        broken = self.seen[self.path] <= int(times.partition(".")[0] or 0)
        if broken and how in ("503", "404", "403"):
            self.send_error(int(how))
            return
        if broken and how == "429":
            self.send_response(429)
            self.send_header("Retry-After", "3600")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"x" * 500)
        if broken and how == "stall":
            self.wfile.flush()
            time.sleep(1.5)
        elif broken and how == "cut":
            self.close_connection = True
            return
        self.wfile.write(b"x" * 500)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def unreliable(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(reading, "FIRST_WAIT_S", 0.02)
    monkeypatch.setattr(addresses, "STALL_S", 0.4)
    monkeypatch.setenv(addresses.PRIVATE_ADDRESSES, "1")
    Unreliable.seen.clear()
    with serving(Unreliable) as url:
        yield url


def image_at(uri: str) -> ListedImage:
    return ListedImage("a.jpg", uri, -1, "", "a")


def test_an_image_of_a_store_that_was_listed_is_one_request(
    s3_bucket: str, s3_requests: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """fsspec asks for the size of each first, where it is not told how much to read."""
    from lib.storage import write_bytes_atomic

    for path, content in (CONTENTS | {"empty.jpg": b""}).items():
        write_bytes_atomic(f"{s3_bucket}/{path}", content)
    listed = {image.path: image for image in list_images(s3_bucket)}
    s3_requests.clear()
    assert {path: read_image(listed[path]) for path in CONTENTS} == CONTENTS
    assert [method for method, _ in s3_requests] == ["get_object"] * len(CONTENTS)
    assert read_image(listed["empty.jpg"]) == b""
    s3_requests.clear()
    assert read_image(image_at(f"{s3_bucket}/0.jpg")) == CONTENTS["0.jpg"]
    assert [method for method, _ in s3_requests] == ["head_object", "get_object"]
    monkeypatch.setattr(reading, "MAX_FILE_BYTES", 200)
    write_bytes_atomic(f"{s3_bucket}/0.jpg", b"x" * 201)  # since it was listed
    with pytest.raises(ImageError) as caught:
        read_image(listed["0.jpg"])
    assert caught.value.reason == "too_large"


@pytest.mark.parametrize("how", ["good-0.jpg", "503-2.jpg", "stall-1.jpg", "cut-2.jpg"])
def test_transient_errors_are_tried_again(unreliable: str, how: str) -> None:
    assert read_image(image_at(f"{unreliable}/{how}")) == b"x" * 1000


def test_a_scheme_may_be_in_capitals(unreliable: str) -> None:
    address = f"{unreliable}/good-0.jpg".replace("http", "HTTP", 1)
    assert read_image(image_at(address)) == b"x" * 1000


@pytest.mark.parametrize(
    ("how", "reason", "attempts"),
    [
        ("404-9.jpg", "missing", 1),
        ("403-9.jpg", "forbidden", 1),
        ("503-9.jpg", "unreadable", 4),
        ("cut-9.jpg", "unreadable", 4),
        ("429-9.jpg", "unreadable", 1),  # it asks for a wait beyond the deadline
    ],
)
def test_lasting_errors_have_a_reason(
    unreliable: str, how: str, reason: str, attempts: int
) -> None:
    with pytest.raises(ImageError) as caught:
        read_image(image_at(f"{unreliable}/{how}"))
    assert caught.value.reason == reason, str(caught.value)
    assert Unreliable.seen[f"/{how}"] == attempts


class Page(BaseHTTPRequestHandler):
    """A folder as a page that links to itself, and to the one above."""

    def do_GET(self) -> None:
        links = ["./", "../", "a.jpg"] if "sub" in self.path else ["./", "sub/", "b.jpg"]
        if "/on" in self.path:  # the same for ever
            links = ["a/", "b/", "c.jpg"]
        if "/new" in self.path:
            links = [f"{len(self.path)}/"]
        page = "".join(f'<a href="{link}">{link}</a>' for link in links).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_page_that_links_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(addresses.PRIVATE_ADDRESSES, "1")
    with serving(Page) as url:
        images = itertools.islice(list_images(f"{url}/photos/"), 5)
        assert [image.path for image in images] == ["b.jpg", "sub/a.jpg"]


@pytest.mark.reports
def test_pages_that_link_on_and_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(addresses.PRIVATE_ADDRESSES, "1")
    with serving(Page) as url:
        for folder, images in (("on", 1 + 2 + 4 + 8), ("new", 0)):
            skipped: Counter[str] = Counter()
            assert len(list(list_images(f"{url}/{folder}/", skipped))) == images
            assert skipped == {"pages of a web server that lead on and on": 16 if images else 1}


def test_keys_of_object_storage_that_are_no_paths(s3_bucket: str) -> None:
    import boto3

    keys = ["a.jpg", "/b.jpg", "//c.jpg", "dir/d.jpg", "dir//e.jpg", "dir//deep/f.jpg"]
    keys += ["dir/h i+j%20#?.jpg", "dir//.hidden.jpg", "dir/content.jpg/"]
    put = boto3.client("s3").put_object
    for key in keys:
        put(Bucket="photos", Key=key, Body=key.encode())
    for mark in ("dir/", "empty/", "photo.jpg/"):  # as a console makes folders
        put(Bucket="photos", Key=mark)
    skipped: Counter[str] = Counter()
    images = list(list_images(s3_bucket, skipped))
    assert sorted(image.path for image in images) == sorted(keys[:-2])
    assert all(read_image(image) == image.path.encode() for image in images)
    assert skipped == {"hidden": 1, "keys that end in a slash": 1}


@pytest.fixture
def bucket(s3_bucket: str) -> str:
    """A bucket that holds the images."""
    from s3fs import S3FileSystem

    for path, content in CONTENTS.items():
        S3FileSystem().pipe_file(f"{s3_bucket}/set/{path}", content)
    return s3_bucket


def test_object_storage_lists_reads_and_tells_versions(bucket: str) -> None:
    assert contents(f"{bucket}/set") == CONTENTS
    assert all(image.etag for image in list_images(f"{bucket}/set"))


def test_a_store_that_lets_nobody_in_is_one_line(
    bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from s3fs import S3FileSystem

    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setattr(S3FileSystem, "_cache", {})  # an earlier one knows the keys
    for source in ("set", "set/0.jpg", "set/*.jpg", "all.zip"):
        with pytest.raises(BadInputError, match="cannot be listed: NoCredentialsError"):
            list(list_images(f"{bucket}/{source}"))


def test_a_database_on_object_storage(bucket: str, folder: Path) -> None:
    from lib.descriptors import store
    from lib.parquet import write_table_atomic
    from lib.storage import join

    table = pa.table({"path": ["a"], "bytes": [1], "etag": ["x"]})
    write_table_atomic(table, join(f"{bucket}/db", "failures", "1.parquet"))
    files = list(store.shard_states(f"{bucket}/db"))
    assert store.known_images(files, range(len(files)))["path"].to_pylist() == ["a"]
    assert store.count_rows(f"{bucket}/db") == (0, 1)


def test_a_zip_behind_a_url_is_read_in_place(bucket: str, folder: Path) -> None:
    from s3fs import S3FileSystem

    S3FileSystem().put_file(zipped(folder), f"{bucket}/all.zip")
    assert contents(f"{bucket}/all.zip") == CONTENTS


class Slow(BaseHTTPRequestHandler):
    """Sends what the path names: too slowly, too much, or somewhere else."""

    asked: ClassVar[list[str]] = []
    inside = ""  # where a redirect leads
    archive = b""

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(self.archive)))
        self.end_headers()

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path == "/redirect.jpg":
            self.send_response(302)
            self.send_header("Location", self.inside)
            self.end_headers()
            return
        parts = [bytes(100_000)] * 1000
        slow = self.path.startswith("/slow")
        if self.path.startswith(("/photos.zip", "/slow.zip")):
            first, last = map(int, self.headers["Range"][6:].split("-"))
            self.send_response(206)
            size = len(self.archive)
            self.send_header("Content-Range", f"bytes {first}-{min(last, size - 1)}/{size}")
            parts = [self.archive[first : last + 1]]
            self.send_header("Content-Length", str(len(parts[0])))
        else:
            self.send_response(200)
        self.end_headers()
        try:
            for part in parts:
                for at in range(len(part) if slow else 1):
                    self.wfile.write(part[at : at + 1] if slow else part)
                    time.sleep(0.05 if slow else 0)
        except OSError:
            pass  # the client had enough

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(reading, "DEADLINE_S", 0.5)
    monkeypatch.setattr(reading, "MAX_FILE_BYTES", 1_000_000)
    Slow.asked.clear()
    with serving(Slow) as url:
        yield url


@pytest.mark.reports
def test_an_address_has_a_deadline_and_a_limit(slow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(addresses.PRIVATE_ADDRESSES, "1")
    start = time.monotonic()
    with pytest.raises(ImageError, match=r"no whole answer in 0\.5 s") as caught:
        read_image(image_at(f"{slow}/slow.jpg"))
    assert caught.value.reason == "unreadable"
    with pytest.raises(ImageError, match="at most 1,000,000 are read") as caught:
        read_image(image_at(f"{slow}/endless.jpg"))
    assert caught.value.reason == "too_large"
    assert Slow.asked == ["/slow.jpg", "/endless.jpg"]
    monkeypatch.setattr(Slow, "archive", bytes(1000))
    with pytest.raises(ImageError):
        read_image(image_at(f"zip://a.jpg::{slow}/slow.zip"))
    assert time.monotonic() - start < 10  # all of either slow file would take 50 s


@pytest.mark.reports
def test_private_addresses_are_read_only_when_asked_for(
    slow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(addresses.PRIVATE_ADDRESSES, raising=False)
    port = slow.rpartition(":")[2]
    for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "169.254.169.254"):
        with pytest.raises(ImageError, match="is no public address") as caught:
            read_image(image_at(f"http://{host}:{port}/endless.jpg"))
        assert caught.value.reason == "forbidden"
    with pytest.raises(ImageError, match="is no public address"):
        read_image(image_at(f"webhdfs://127.0.0.1:{port}/endless.jpg"))
    assert Slow.asked == []


@pytest.mark.reports
def test_a_redirect_leads_to_no_private_address(slow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first host passes for public here; where it redirects to is none."""
    real = addresses._public_socket

    connected: list[Any] = []

    def first_is_public(address: Any) -> Any:
        connected.append(address)
        return socket.socket(*address[:3]) if len(connected) == 1 else real(address)

    monkeypatch.delenv(addresses.PRIVATE_ADDRESSES, raising=False)
    monkeypatch.setattr(addresses, "_public_socket", first_is_public)
    monkeypatch.setattr(addresses, "STALL_S", 3.0)  # a session of its own
    monkeypatch.setattr(Slow, "inside", "http://127.0.0.2:9/keys.jpg")
    with pytest.raises(ImageError, match=r"127\.0\.0\.2 is no public address"):
        read_image(image_at(f"{slow}/redirect.jpg"))


@pytest.mark.reports
def test_a_question_mark_begins_the_query_of_an_address(
    slow: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(addresses.PRIVATE_ADDRESSES, "1")
    monkeypatch.setattr(Slow, "archive", Path(zipped(folder)).read_bytes())
    assert contents(f"{slow}/photos.zip?X-Sig=a[1]*b.csv") == CONTENTS
    # A server that knows no ranges.
    with pytest.raises(BadInputError, match="fetch it, and give the file"):
        list(list_images(f"{slow}/endless.zip"))


LISTS = [zipped, tarred, as_bytes, as_csv, as_uris, as_coco]


@pytest.mark.parametrize("make", LISTS)
def test_what_opens_an_image_is_the_same_from_any_directory(
    make: Callable[[Path], str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    source = os.path.relpath(make(Path("../images")))
    images = list(list_images(source))
    monkeypatch.chdir(folder.parent.parent)
    assert {image.path: read_image(image) for image in images} == CONTENTS
