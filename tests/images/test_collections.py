"""Collections as people have them: what is listed, what is left out, and what is said of it."""

import base64
import bz2
import errno
import gzip
import io
import json
import lzma
import os
import socket
import struct
import tarfile
import tracemalloc
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from lib.errors import BadInputError, MissingError
from lib.images.code_pages import code_page
from lib.images.decoding import HEIF_IS_READ, ImageError
from lib.images.file_names import skipped_in_words, unreadable_ones
from lib.images.listed import ListedImage
from lib.images.listing import list_images
from lib.images.reading import read_image, read_uri

pytestmark = pytest.mark.reports


def write(root: Path, *paths: str) -> None:
    """Files whose content is their path."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())


def write_list(table: pa.Table, file: Path) -> None:
    """A list of images, of the kind that the file's ending says."""
    if file.suffix == ".parquet":
        pq.write_table(table, file)
    elif file.suffix == ".jsonl":
        file.write_text("\n".join(map(json.dumps, table.to_pylist())))
    else:
        options = pyarrow.csv.WriteOptions(delimiter="\t" if file.suffix == ".tsv" else ",")
        pyarrow.csv.write_csv(table, file, options)


def listed(source: object, include_hidden: bool = False) -> dict[str, bytes]:
    """Content by path; each also by its URI alone, as a thumbnail is read."""
    images = list(list_images(str(source), include_hidden=include_hidden))
    contents = {image.path: read_image(image) for image in images}
    assert len(contents) == len(images)
    assert contents == {image.path: read_uri(image.uri) for image in images}
    return contents


def counted(source: object) -> Counter[str]:
    skipped: Counter[str] = Counter()
    list(list_images(str(source), skipped))
    return skipped


LEFT_BEHIND = [
    "._IMG_1.jpg",
    "__MACOSX/._IMG_1.jpg",
    ".Trash-1000/files/old.jpg",
    ".Trashes/501/old.jpg",
    "$RECYCLE.BIN/S-1-5/$R1.jpg",
    "System Volume Information/x.jpg",
    "@eaDir/IMG_1.jpg/SYNOPHOTO_THUMB_XL.jpg",
    "#recycle/old.jpg",
    "@Recycle/old.jpg",
    ".@__thumb/IMG_1.jpg",
    ".thumbnails/1.jpg",
    ".stversions/IMG_1~2020.jpg",
    ".dropbox.cache/x.jpg",
    ".picasaoriginals/IMG_1.jpg",
    "Catalog Previews.lrdata/A/1.jpg",
    "Photos Library.photoslibrary/resources/derivatives/1.jpg",
    "data/me/files_trashbin/files/trip.d1700000000/1.jpg",
    "~syncthing~IMG_1.jpg",
    "IMG_1.sync-conflict-20190101-120000-ABCDEFG.jpg",
    "IMG_1 (Ann's conflicted copy 2020-01-01).jpg",
    ".trashed-1700000000-IMG_2.jpg",
    "lost+found/1.jpg",
]


def test_what_systems_viewers_and_sync_tools_leave_is_left_out(tmp_path: Path) -> None:
    photos = ["IMG_1.jpg", "2019/IMG_2.jpg", "Photos Library.photoslibrary/originals/A/1.jpg"]
    write(tmp_path, *photos, *LEFT_BEHIND, "Thumbs.db", ".DS_Store", "desktop.ini")
    assert set(listed(tmp_path)) == set(photos)
    assert set(listed(tmp_path, include_hidden=True)) == {*photos, *LEFT_BEHIND}
    skipped = counted(tmp_path)
    # A folder counts once, whatever it holds; Previews lie below a folder that is no such one.
    assert skipped["hidden"] == 3 + len(LEFT_BEHIND)
    assert "hidden (--include-hidden takes them)" in skipped_in_words(skipped)


def test_a_library_of_photos_as_the_source(tmp_path: Path) -> None:
    library = tmp_path / "Photos Library.photoslibrary"
    write(library, "originals/A/1.jpg", "resources/derivatives/1.jpg", "scopes/x/1.jpg")
    assert set(listed(library)) == set(listed(f"{library}/**/*.jpg")) == {"originals/A/1.jpg"}
    assert counted(library) == {"hidden": 2}
    assert set(listed(library, include_hidden=True)) > {"resources/derivatives/1.jpg"}
    # Who names what is derived means it.
    assert set(listed(library / "resources")) == {"derivatives/1.jpg"}


def test_files_that_their_names_may_hide_are_counted(tmp_path: Path) -> None:
    longer = ["a.jpg?w=200", "b.JPG~", "c.jpg ", "d.jpg.", "e.jpg.1", "f.jpg_large", "g.jpg (1)"]
    longer += ["h.jpg.part", "i.jpg.crdownload", "j.JPG.icloud", "k.jpg.bak"]
    others = ["a.jpg.json", "a.jpg.xmp", "a.b_c", "notes.txt", "b.jpg.supplemental-metadata.json"]
    write(tmp_path, "a.jpg", *longer, *others, "sub.jpg_x/photo", "h.mov~")
    expected = {"names that go on after .jpg": len(longer), "names that go on after .mov": 1}
    assert counted(tmp_path) == {**expected, "names without an ending": 1}
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in (*longer, *others, "sub.jpg_x/photo", "h.mov~"):
            archive.writestr(name, b"x")
    assert counted(tmp_path / "a.zip") == {**expected, "names without an ending": 1}


SAVE = "save its images as files or their bytes in Parquet"


def test_what_may_hold_images_and_is_not_opened_is_counted(tmp_path: Path) -> None:
    names = ["inner.zip", "inner.tar", "train.parquet", "data-00000-of-00001.arrow"]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    write(tmp_path / "motion", "PXL_1.MP", "data-00000-of-00001.arrow", "train.tfrecord-00000-of-1")
    inside = {".zip": 1, ".tar": 1, ".parquet": 1, ".arrow": 1}
    assert counted(tmp_path / "a.zip") == inside
    assert skipped_in_words(counted(tmp_path / "a.zip")) == (
        f"1 .zip (unpack them), 1 .tar (unpack them), 1 .parquet (unpack them), 1 .arrow ({SAVE})"
    )
    goes_on = {"names that go on after .tfrecord": 1}
    assert counted(tmp_path / "motion") == {".mp": 1, ".arrow": 1, **goes_on}
    write(tmp_path / "packed", "a.h5", "b.cbz")
    words = skipped_in_words(counted(tmp_path / "packed"))
    assert sorted(words.split(", ")) == ["1 .cbz (unpack them)", f"1 .h5 ({SAVE})"]


def test_pictures_that_are_not_here_yet_are_told_from_hidden_ones(tmp_path: Path) -> None:
    write(tmp_path, "a.jpg", ".IMG_1.HEIC.icloud", ".IMG_2.jpg.icloud", ".hidden.jpg")
    assert counted(tmp_path) == {"hidden": 1, "placeholders of iCloud": 2}
    assert "2 placeholders of iCloud (download them)" in skipped_in_words(counted(tmp_path))


def test_what_is_left_behind_in_archives(tmp_path: Path) -> None:
    write(tmp_path / "in", "a.jpg", "._a.jpg", "__MACOSX/._a.jpg", "@eaDir/a.jpg/THUMB.jpg")
    with (
        zipfile.ZipFile(tmp_path / "a.zip", "w") as archive,
        tarfile.open(tmp_path / "a.tar", "w") as tar,
    ):
        for file in sorted((tmp_path / "in").rglob("*.jpg")):
            archive.write(file, file.relative_to(tmp_path / "in"))
        tar.add(tmp_path / "in", ".")
    for kind in ("zip", "tar"):
        assert listed(tmp_path / f"a.{kind}") == {"a.jpg": b"a.jpg"}
        assert counted(tmp_path / f"a.{kind}") == {"hidden": 3}


@pytest.mark.parametrize("name", ["Trip [2019]", "what?", "a*b", "a::b", "50% off", "{1..3}", "ü"])
def test_a_path_that_exists_is_taken_as_it_is(name: str, tmp_path: Path) -> None:
    write(tmp_path / name, f"{name}.jpg", "sub/b.jpg")
    assert set(listed(tmp_path / name)) == {f"{name}.jpg", "sub/b.jpg"}
    assert set(listed(tmp_path / name / f"{name}.jpg")) == {f"{name}.jpg"}
    with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
        archive.writestr(f"{name}.jpg", b"1")
    assert listed(tmp_path / f"{name}.zip") == {f"{name}.jpg": b"1"}


def test_an_archive_in_a_folder_whose_name_is_no_text(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    folder.mkdir()
    tar_of(folder / "a.tar", [("0.jpg", b"0")])
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.writestr("0.jpg", b"0")
    pq.write_table(pa.table({"path": ["0.jpg"], "bytes": [b"0"]}), tmp_path / "a.parquet")
    (tmp_path / "a.parquet").rename(folder / "a.parquet")
    for kind in ("tar", "zip", "parquet"):
        assert listed(folder / f"a.{kind}") == {"0.jpg": b"0"}


def tar_of(path: Path, members: list[tuple[str, bytes]]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def test_shards_of_a_webdataset(tmp_path: Path) -> None:
    expected = {}
    for shard in ("00000", "00001"):
        samples = [("0.jpg", shard.encode()), ("0.txt", b"a dog"), ("0.json", b"{}")]
        tar_of(tmp_path / f"{shard}.tar", samples)
        # As img2dataset leaves them beside.
        pq.write_table(pa.table({"url": ["http://x/1.jpg"]}), tmp_path / f"{shard}.parquet")
        (tmp_path / f"{shard}_stats.json").write_text("{}")
        expected[f"{shard}.tar/0.jpg"] = shard.encode()
    assert listed(tmp_path) == expected
    assert listed(tmp_path / "*.tar") == expected
    assert listed(f"{tmp_path}/{{00000..00001}}.tar") == expected
    assert listed(tmp_path / "00000.tar") == {"0.jpg": b"00000"}
    for folder in ("0", "1"):
        (tmp_path / folder).mkdir()
        tar_of(tmp_path / folder / "x.tar", [("0.jpg", folder.encode())])
    expected = {"0/x.tar/0.jpg": b"0", "1/x.tar/0.jpg": b"1"}
    assert listed(f"{tmp_path}/{{0..1}}/x.tar") == expected


def test_shards_of_hugging_face(tmp_path: Path) -> None:
    for shard in range(2):
        images = [{"bytes": b"%d%d" % (shard, n), "path": f"{n % 2}.png"} for n in range(3)]
        table = pa.table({"image": images, "text": ["a", "b", "c"]})
        pq.write_table(table, tmp_path / f"train-{shard}.parquet", row_group_size=2)
    expected = {
        f"train-{shard}.parquet/{name}": b"%d%d" % (shard, n)
        for shard in range(2)
        for n, name in enumerate(("0.png", "1.png", "0.png#2"))
    }
    assert listed(tmp_path) == expected
    assert listed(tmp_path / "train-*.parquet") == expected


def test_a_row_of_hugging_face_may_hold_a_path_instead_of_bytes(tmp_path: Path) -> None:
    write(tmp_path, "0.jpg")
    path = str(tmp_path / "0.jpg")
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    paths = (path, "0.jpg", None, "parquet://0/2::x")
    rows = [{"bytes": None, "path": path} if path else None for path in paths]
    masks = [{"bytes": b"mask", "path": None}] * 4  # a column before that of the images
    table = pa.table({"mask": pa.array(masks, kind), "image": pa.array(rows, kind)})
    pq.write_table(table, tmp_path / "a.parquet")
    first, beside, *others = list_images(str(tmp_path / "a.parquet"))
    assert read_image(first) == read_image(beside) == b"0.jpg"
    for image in others:
        with pytest.raises(ImageError, match="has no image in row") as caught:
            read_image(image)
        assert caught.value.reason == "missing"


def test_a_small_file_takes_little_memory_to_read(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x" * 100_000)
    (image,) = list_images(str(tmp_path))
    tracemalloc.start()
    try:
        assert len(read_image(image)) == 100_000
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", [pa.large_binary(), pa.binary_view(), pa.binary(1), "dictionary"])
def test_bytes_of_any_arrow_type(kind: object, tmp_path: Path) -> None:
    column = pa.array([b"0", b"1", b"0"], pa.binary() if kind == "dictionary" else kind)
    column = column.dictionary_encode() if kind == "dictionary" else column
    pq.write_table(pa.table({"image": column}), tmp_path / "a.parquet")
    expected = {f"a.parquet/{row}": content for row, content in enumerate((b"0", b"1", b"0"))}
    assert listed(tmp_path / "a.parquet") == expected


@pytest.mark.parametrize(
    ("ending", "head", "row"),
    [
        ("csv", "\ufeffid,file_name,url,caption", '{0},00{0},{1},"one, or\n""two"""'),
        ("csv", "file_name;URL", "00{0};{1}"),  # as spreadsheets write it in much of Europe
        ("tsv", "url\tfile_name\tid", "{1}\t00{0}\t{0}"),
        ("txt", "", "{1}"),
    ],
)
def test_lists_of_addresses_as_text(ending: str, head: str, row: str, tmp_path: Path) -> None:
    write(tmp_path, "a, b.jpg" if ending in ("tsv", "txt") else "a.jpg")
    (picture,) = tmp_path.glob("*.jpg")
    # An id that is no number comes long after those that are; a name keeps its zeros.
    rows = [row.format(number, picture) for number in (*range(50_000), "x")]
    (tmp_path / f"list.{ending}").write_text("\n".join([head, *rows]) + "\n")
    images = list(list_images(str(tmp_path / f"list.{ending}")))
    assert len(images) == 50_001
    assert images[7].path == (str(picture) if ending == "txt" else "007")
    assert read_image(images[-1]) == picture.name.encode()


@pytest.mark.parametrize("ending", ["csv", "tsv", "txt", "parquet"])
def test_no_row_of_a_list_ends_it(ending: str, tmp_path: Path) -> None:
    write(tmp_path, "a.jpg", "b.jpg")
    old = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    Path(os.fsdecode(old)).write_bytes(b"old")
    addresses = [b"%b/a.jpg" % os.fsencode(tmp_path), b"", old, b"http://h/\xe9.jpg"]
    addresses.append(b"%b/b.jpg" % os.fsencode(tmp_path))
    source = tmp_path / f"list.{ending}"
    if ending == "parquet":
        pq.write_table(pa.table({"url": addresses, "n": [1] * 5}), source)
    elif ending == "txt":
        source.write_bytes(b"\n".join(addresses))
    else:
        mark = b"," if ending == "csv" else b"\t"
        rows = [b"n%burl" % mark, *(b"1%b%b" % (mark, address) for address in addresses)]
        others = [mark.join([b"1", b"x", b"y"]), mark.join([b"1", b"caf\xe9", b"y"]), b"1"]
        source.write_bytes(b"\n".join([*rows, *others]))
    images = {image.path: image for image in list_images(str(source))}
    old_one = images.pop(f"{tmp_path}/caf\\xe9.jpg")
    assert (read_image(old_one), read_uri(old_one.uri)) == (b"old", b"old")
    assert images.keys() == {f"{tmp_path}/a.jpg", f"{tmp_path}/b.jpg", "http://h/\\xe9.jpg"}
    expected = Counter({"rows without an address": 1}) if ending != "txt" else Counter[str]()
    if ending in ("csv", "tsv"):
        expected["rows of another length than the header"] = 3
    assert counted(source) == expected


@pytest.mark.parametrize(
    "text",
    [
        "id, url\n1, {a}\n2, {b} \n",
        '"id", "url"\n"1", "{a}"\n"2", "{b}"\n',
        "sep=;\r\nid;url\r\n1;{a}\r\n2;{b}\r\n",
        '\ufeff"sep=,"\nid,url\n1,{a}\n2,{b}\n',
        "\n \nurl\n{a}\n{b}\n",
        "id|url\n1|{a}\n2|{b}",
        "id,url\r1,{a}\r2,{b}\r",
        "id, url, path\n1, {a}, \n2, {b}, {b}\n",
        "\turl\n0\t{a}\n1\t{b}\n",
        "1,{a},x\n2,{b},y\n",
        "{a}\n{b}\n",
        '"{a}";"x"\r\n"{b}";"y"\r\n',
    ],
    ids=[
        *("spaces", "quotes", "excel", "mark", "blank", "pipe", "returns", "unnamed", "index"),
        *("headless", "bare", "headless quotes"),
    ],
)
def test_lists_as_programs_write_them(text: str, tmp_path: Path) -> None:
    write(tmp_path, "a.jpg", "b.jpg")
    a, b = f"{tmp_path}/a.jpg", f"{tmp_path}/b.jpg"
    (tmp_path / "list.csv").write_text(text.format(a=a, b=b), newline="")
    assert listed(tmp_path / "list.csv") == {a: b"a.jpg", b: b"b.jpg"}
    assert counted(tmp_path / "list.csv") == {}


def test_a_list_of_paths_with_spaces_at_their_ends(tmp_path: Path) -> None:
    write(tmp_path, "a.jpg", "b.jpg")
    a, b = f"{tmp_path}/a.jpg", f"{tmp_path}/b.jpg"
    (tmp_path / "list.txt").write_text(f"{a} \n  {b}\n \n")
    assert listed(tmp_path / "list.txt") == {a: b"a.jpg", b: b"b.jpg"}
    assert counted(tmp_path / "list.txt") == {"rows without an address": 1}


@pytest.mark.parametrize("text", ["", "\n", "url\n", "id,url"])
@pytest.mark.parametrize("ending", ["csv", "txt"])
def test_an_empty_list_holds_no_image(text: str, ending: str, tmp_path: Path) -> None:
    (tmp_path / f"list.{ending}").write_text(text if ending == "csv" else text.strip("idurl,"))
    assert listed(tmp_path / f"list.{ending}") == {}


def test_rows_after_a_lone_quote_are_counted(tmp_path: Path) -> None:
    write(tmp_path, "a.jpg", "b.jpg")
    a, b = f"{tmp_path}/a.jpg", f"{tmp_path}/b.jpg"
    lines = ["url,caption", f'{a},"a dog', f"{b},a cat", f'{b},"a bird"', f'{b},"two\nlines"']
    (tmp_path / "list.csv").write_text("\n".join(lines))
    assert set(listed(tmp_path / "list.csv")) == {a, b}
    assert counted(tmp_path / "list.csv") == {"rows inside of a quoted cell": 2}
    (tmp_path / "list.csv").write_text("\n".join(lines[:3]))  # which stays open
    assert set(listed(tmp_path / "list.csv")) == {a}
    assert counted(tmp_path / "list.csv") == {"rows inside of a quoted cell": 1}


def test_a_list_of_very_many_columns(tmp_path: Path) -> None:
    write(tmp_path, "a.jpg")
    row = [f"{tmp_path}/a.jpg", *("1" for _ in range(1_500))]
    header = ["url", *(f"feature {number}" for number in range(1_500))]
    (tmp_path / "list.csv").write_text(f"{','.join(header)}\n{','.join(row)}\n")
    assert set(listed(tmp_path / "list.csv")) == {f"{tmp_path}/a.jpg"}


@pytest.mark.parametrize("column", ["path", "file_name", "Image Path", "filepath", "image"])
@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_a_list_of_paths_alone(column: str, ending: str, tmp_path: Path) -> None:
    write(tmp_path, "in/a.jpg", "b.jpg")
    table = pa.table({"n": [1, 2, 3], column: ["in/a.jpg", f"{tmp_path}/b.jpg", "b.jpg"]})
    source = tmp_path / f"list.{ending}"
    write_list(table, source)
    expected = {"in/a.jpg": b"in/a.jpg", f"{tmp_path}/b.jpg": b"b.jpg", "b.jpg": b"b.jpg"}
    assert listed(source) == expected


def test_paths_in_a_list_begin_at_its_folder_or_at_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "set/a.jpg", "other/b.jpg")
    (tmp_path / "set/list.txt").write_text("gone.jpg\na.jpg\n")
    (tmp_path / "set/find.txt").write_text("gone.jpg\nb.jpg\n")
    monkeypatch.chdir(tmp_path / "other")
    for name, folder in (("list", "set"), ("find", "other")):
        images = [image.uri for image in list_images(f"{tmp_path}/set/{name}.txt")]
        whole = f"{tmp_path}/{folder}"
        assert images == [f"{whole}/gone.jpg", f"{whole}/{'a' if name == 'list' else 'b'}.jpg"]


def test_a_list_of_paths_and_numbers_of_classes(tmp_path: Path) -> None:
    write(tmp_path, "in/a b.jpg", "in/7.PNG", "in/c.jpg 1.jpg")
    (tmp_path / "train.txt").write_text("in/a b.jpg 12\nin/7.PNG\t-1 0\nin/c.jpg 1.jpg 3\n")
    assert set(listed(tmp_path / "train.txt")) == {"in/a b.jpg", "in/7.PNG", "in/c.jpg 1.jpg"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
@pytest.mark.parametrize("name", ["list.jsonl", "list.ndjson", "list.jsonl.gz"])
def test_a_list_of_json_objects(name: str, encoding: str, tmp_path: Path) -> None:
    write(tmp_path, "in/a.jpg", "in/日 b.jpg", "7")
    lines = [
        '\ufeff{"caption": "one", "file_name": "in/a.jpg", "tags": ["x"]}',
        "",
        '{"file_name": "in/日 b.jpg"}',
        '{"file_name": 7}',
        '{"file_name": "in/cut',
        '["in/a.jpg"]',
        '{"file_name": null}',
        '{"file_name": ["in/a.jpg"]}',
    ]
    content = "\r\n".join(lines).encode(encoding)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert listed(tmp_path / name) == {
        path: path.encode() for path in ("in/a.jpg", "in/日 b.jpg", "7")
    }
    left_out = {"lines or entries that are no JSON object": 2, "rows without an address": 2}
    assert counted(tmp_path / name) == left_out
    (tmp_path / name.replace("list", "other")).write_bytes(
        gzip.compress(b'{"x": 1}') if name.endswith("gz") else b'{"x": 1}'
    )
    with pytest.raises(BadInputError, match="needs a column of addresses"):
        list(list_images(str(tmp_path / name.replace("list", "other"))))


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_list_with_the_folder_in_a_column_of_its_own(ending: str, tmp_path: Path) -> None:
    paths = ["in/b/a.jpg", "in/a.jpg", "a.jpg", "d.jpg", "e/a.jpg"]
    write(tmp_path, *paths)
    folders = ["in\\b", "in/", None, "", "e"]
    names = ["a.jpg", "a.jpg", "a.jpg", "d.jpg", "e/a.jpg"]
    table = pa.table({"Folder": folders, "n": [*range(5)], "File Name": names})
    write_list(table, tmp_path / f"l.{ending}")
    assert listed(tmp_path / f"l.{ending}") == {path: path.encode() for path in paths}
    moved = "folder,file\nD:\\Photos\\2020,a.jpg\n/home/me/old,d.jpg\n"
    (tmp_path / "moved.csv").write_text(moved)
    assert listed(tmp_path / "moved.csv") == {"a.jpg": b"a.jpg", "d.jpg": b"d.jpg"}


def test_a_json_document_that_is_a_list(tmp_path: Path) -> None:
    write(tmp_path, "in/a.jpg", "in/b.jpg")
    documents: list[list[object]] = [
        ["in/a.jpg", "in/b.jpg", 7],
        [{"image": "in/a.jpg", "caption": "x"}, {"image": "in/b.jpg"}, None],
        [*({"SourceFile": f"in/{name}.jpg", "FileName": f"{name}.jpg"} for name in "ab"), []],
    ]
    for entries in documents:
        (tmp_path / "l.json").write_text(json.dumps(entries))
        assert listed(tmp_path / "l.json") == {"in/a.jpg": b"in/a.jpg", "in/b.jpg": b"in/b.jpg"}
        assert counted(tmp_path / "l.json") == {"lines or entries that are no JSON object": 1}
    (tmp_path / "l.json").write_text('[{"x": 1}]')
    with pytest.raises(BadInputError, match=r"needs a column of addresses .* it has x"):
        list(list_images(str(tmp_path / "l.json")))


@pytest.mark.parametrize("kind", ["csv", "tsv", "txt"])
def test_a_compressed_list_is_read_as_far_as_it_goes(kind: str, tmp_path: Path) -> None:
    write(tmp_path, "a.jpg", "b.jpg")
    source = tmp_path / f"list.{kind}.gz"
    content = ["path"] * (kind != "txt") + ["a.jpg", "b.jpg"]
    whole = gzip.compress("\n".join(content).encode())
    source.write_bytes(whole)
    assert listed(source) == {"a.jpg": b"a.jpg", "b.jpg": b"b.jpg"}
    for damaged in (whole[:-6], whole[:14], b"no gzip"):
        source.write_bytes(damaged)
        with pytest.raises(BadInputError, match="is no whole gzip file"):
            list(list_images(str(source)))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("ending", ["csv", "txt"])
def test_lists_as_windows_writes_them(ending: str, encoding: str, tmp_path: Path) -> None:
    write(tmp_path, "a.jpg", "日.jpg")
    mark = "" if encoding in ("utf-16", "utf-32") else "\ufeff"
    rows = [*(["日.jpg"] * 50_000), "a.jpg"]
    text = "\r\n".join([mark + "path", *rows] if ending == "csv" else [mark + rows[0], *rows[1:]])
    (tmp_path / f"list.{ending}").write_text(text, encoding, newline="")
    images = list(list_images(str(tmp_path / f"list.{ending}")))
    assert [image.path for image in images] == rows
    assert (read_image(images[0]), read_image(images[-1])) == ("日.jpg".encode(), b"a.jpg")


@pytest.mark.parametrize("ending", ["csv", "txt", "parquet"])
def test_paths_as_windows_writes_them(ending: str, tmp_path: Path) -> None:
    write(tmp_path, "in/a.jpg", "in/b\\c.jpg")
    elsewhere = ["C:\\Users\\me\\a.jpg", r"\\nas\share\a.jpg", "file:///D:/a.jpg", "d:/a.jpg"]
    rows = [*elsewhere, "in\\a.jpg", "in\\gone.jpg"]
    source = tmp_path / f"list.{ending}"

    def write_list(rows: list[str]) -> list[str]:
        if ending == "parquet":
            pq.write_table(pa.table({"path": rows}), source)
        else:
            source.write_text("\n".join(["path", *rows][ending == "txt" :]))
        return [image.path for image in list_images(str(source))]

    assert write_list(rows) == ["in/a.jpg", "in/gone.jpg"]
    assert counted(source) == {"paths on a Windows machine": 4}
    assert "write them relative" in skipped_in_words(counted(source))
    assert write_list(["in/b\\c.jpg", "in/a.jpg"]) == ["in/b\\c.jpg", "in/a.jpg"]  # a name here
    assert set(listed(source)) == {"in/b\\c.jpg", "in/a.jpg"}


def test_a_coco_file_with_other_addresses(tmp_path: Path) -> None:
    write(tmp_path, "a.jpg")
    image = {"file_name": "1.jpg", "id": 1, "coco_url": None, "flickr_url": f"{tmp_path}/a.jpg"}
    (tmp_path / "a.json").write_text(json.dumps({"images": [image]}))
    assert listed(tmp_path / "a.json") == {"1.jpg": b"a.jpg"}
    del image["flickr_url"]  # as Roboflow writes it beside the images
    (tmp_path / "a.json").write_text(json.dumps({"images": [image | {"file_name": "a.jpg"}]}))
    assert listed(tmp_path / "a.json") == {"a.jpg": b"a.jpg"}
    for damaged in ('{"images": [{"id": 1, "coco_url": null}]}', "[" * 100_000):
        (tmp_path / "b.json").write_text(damaged)
        with pytest.raises(BadInputError, match="is no COCO file"):
            listed(tmp_path / "b.json")


def test_a_file_of_another_kind_says_so(tmp_path: Path) -> None:
    write(tmp_path, "a.7z", "list.yaml", "photo")
    for name in ("a.7z", "list.yaml", "photo"):
        with pytest.raises(BadInputError, match=r"neither an image nor one of \.zip"):
            listed(tmp_path / name)
    for name, remedy in (("a.rar", "unpack"), ("a.npz", SAVE), ("data_batch_1", r"into a \.txt")):
        write(tmp_path, name)
        with pytest.raises(BadInputError, match=f"by its ending: .*{remedy}"):
            listed(tmp_path / name)


def test_a_table_in_which_no_image_is_found_says_what_it_has(tmp_path: Path) -> None:
    pq.write_table(pa.table({"images": [[{"bytes": b"x"}]], "t": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(BadInputError, match=r"it has images \(list.*\), t \(string\)$"):
        listed(tmp_path / "a.parquet")
    # Among others it is none that failed, for which --prune would refuse to drop anything.
    assert counted(tmp_path) == {"tables without images": 1}
    (tmp_path / "a.tsv").write_text(f"0\t{'/9j/' * 1000}\n")
    with pytest.raises(BadInputError, match=r"it has 0, (/9j/){20}$"):
        listed(tmp_path / "a.tsv")


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_images_as_text_are_counted(ending: str, tmp_path: Path) -> None:
    write(tmp_path, "a.jpg")
    beginnings = [b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF....WEBP"]
    texts = [base64.b64encode(each + bytes(300)).decode() for each in beginnings]
    texts.append("data:image/png;base64,AAAA")
    table = pa.table({"image": [*texts, "a.jpg"]})
    write_list(table, tmp_path / f"l.{ending}")
    assert listed(tmp_path / f"l.{ending}") == {"a.jpg": b"a.jpg"}
    assert counted(tmp_path / f"l.{ending}") == {"images written as text (base64)": 5}


def test_a_table_of_paths_beside_the_folders_that_it_tells_of(tmp_path: Path) -> None:
    write(tmp_path, "images/part-1/a.png", "elsewhere.txt")
    pq.write_table(pa.table({"image_name": ["a.png"]}), tmp_path / "metadata.parquet")
    url = str(tmp_path / "elsewhere.txt")
    pq.write_table(pa.table({"url": [url]}), tmp_path / "more.parquet")
    assert set(listed(tmp_path)) == {"images/part-1/a.png", url}
    assert counted(tmp_path)["tables beside the images that they tell of"] == 1
    named = list(list_images(f"{tmp_path}/meta*.parquet"))  # who names it means it
    assert [image.path for image in named] == ["a.png"]


def test_shards_of_laion(tmp_path: Path) -> None:
    for shard in range(2):
        write(tmp_path / "files", f"{shard}.jpg")
        urls = [str(tmp_path / "files" / f"{shard}.jpg")]
        table = pa.table({"URL": urls, "TEXT": ["a dog"], "WIDTH": [1]})
        (tmp_path / "meta").mkdir(exist_ok=True)
        pq.write_table(table, tmp_path / "meta" / f"part-{shard}.snappy.parquet")
    assert sorted(listed(tmp_path / "meta").values()) == [b"0.jpg", b"1.jpg"]
    # Beside the images that it tells of, such a table lists nothing anew.
    pq.write_table(table, tmp_path / "files" / "metadata.parquet")
    assert set(listed(tmp_path / "files")) == {"0.jpg", "1.jpg"}
    assert counted(tmp_path / "files") == {"tables beside the images that they tell of": 1}


def test_zips_in_a_folder(tmp_path: Path) -> None:
    write(tmp_path, "a.jpg", "unpacked/b.jpg")
    for name in ("takeout-1", "unpacked"):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            archive.writestr("b.jpg", b"zipped")
    assert listed(tmp_path) == {
        "a.jpg": b"a.jpg",
        "unpacked/b.jpg": b"unpacked/b.jpg",
        "takeout-1.zip/b.jpg": b"zipped",
    }
    assert counted(tmp_path) == {"archives beside a folder of their name": 1}


def zip_with_raw_names(path: Path, *names: bytes) -> None:
    """A zip whose names are these bytes, and not said to be UTF-8."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number, name in enumerate(names):
            archive.writestr(f"{number}".ljust(len(name), "_"), name)
    content = file.getvalue()
    for number, name in enumerate(names):
        content = content.replace(f"{number}".ljust(len(name), "_").encode(), name)
    path.write_bytes(content)


def test_folders_in_a_zip_that_are_told_by_backslashes(tmp_path: Path) -> None:
    names = ["2019\\trip\\a.jpg", "2019\\", "__MACOSX\\._a.jpg", "@eaDir\\a.jpg\\THUMB.jpg"]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in names:
            archive.writestr(name, b"" if name.endswith("\\") else b"1")
    assert listed(tmp_path / "a.zip") == {"2019/trip/a.jpg": b"1"}
    assert counted(tmp_path / "a.zip") == {"hidden": 2}
    assert read_uri(f"zip://2019\\trip\\a.jpg::{tmp_path}/a.zip") == b"1"  # of an older database
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        for name in ("d/a\\b.jpg", "c.jpg"):
            archive.writestr(name, b"1")
    assert set(listed(tmp_path / "b.zip")) == {"d/a\\b.jpg", "c.jpg"}


@pytest.mark.parametrize(
    ("encoding", "names"),
    [
        ("utf-8", ["café_au_lait.jpg", "日本の写真.jpg"]),
        ("cp437", ["café_au_lait.jpg", "Ärger_im_Büro.jpg"]),
        ("cp850", ["São_João_ações.jpg", "ação_é.jpg"]),
        ("cp932", ["写真_東京タワー.jpg", "富士山の朝.jpg"]),
        ("cp866", ["фото_москва.jpg", "привет_мир.jpg"]),
        ("cp1251", ["Отпуск/море.jpg", "собака.jpg", "день рождения.jpg"]),
        ("koi8_r", ["Отпуск/море.jpg", "собака.jpg"]),
        ("cp1252", ["Français.jpg", "naïve œuvre.jpg", "Lac d’Annecy – été.jpg"]),
        ("mac_roman", ["été/café.jpg", "Müller.jpg", "Straße.jpg"]),
        ("cp1250", ["Zdjęcia/żółw.jpg", "Příroda/kůň.jpg", "Łódź.jpg"]),
        ("cp852", ["Zdjęcia/żółw.jpg", "Příroda/kůň.jpg", "Łódź.jpg"]),
        ("cp1253", ["Φωτογραφίες/γάτα.jpg", "Αθήνα.jpg"]),
        ("gbk", ["照片/北京.jpg", "我的狗.jpg", "《相册》—春节.jpg"]),
        ("big5", ["照片/台北.jpg", "家庭/生日快樂.jpg"]),
        ("euc_kr", ["사진/서울.jpg", "꽃밭.jpg", "강아지.jpg"]),
    ],
)
def test_names_in_a_zip_are_those_that_the_archiver_meant(
    encoding: str, names: list[str], tmp_path: Path
) -> None:
    zip_with_raw_names(tmp_path / "a.zip", *(name.encode(encoding) for name in names))
    assert listed(tmp_path / "a.zip") == {name: name.encode(encoding) for name in names}


@pytest.mark.parametrize(
    ("encoding", "names"),
    [
        ("cp932", "猫.jpg さくら.jpg ２０２４年.jpg"),
        ("gbk", "猫咪.jpg 我的狗.jpg 长城.jpg 日落.jpg 微信图片.jpg"),
        ("big5", "貓咪.jpg 阿里山.jpg 海邊.jpg"),
        ("euc_kr", "고양이.jpg 강아지.jpg 제주도.jpg"),
        ("cp1251", "собака.jpg Москва.jpg"),
        ("cp866", "собака.jpg Москва.jpg"),
        ("cp1252", "été.jpg Straße.jpg"),
        ("cp850", "coração.jpg"),
    ],
)
def test_one_name_alone_tells_its_code_page(encoding: str, names: str) -> None:
    for name in names.split():
        content = name.encode(encoding)
        assert content.decode(code_page([content])) == name


def test_many_names_are_read_in_a_page_that_reads_all() -> None:
    names = [f"{number}/café.jpg".encode("cp437") for number in range(5_000)]
    assert code_page([*names, b"\x81.jpg"]) == "cp437"  # which cp1252 and others cannot read
    assert code_page([]) == "cp437"


def test_a_member_never_says_what_is_opened(tmp_path: Path) -> None:
    write(tmp_path, "secret.jpg")
    names = ["a::b.jpg", f"x::{tmp_path}/secret.jpg", "100%.jpg", "a%3A%3Ab.jpg", "../up.jpg"]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in names:
            archive.writestr(name, b"inside")
    tar_of(tmp_path / "a.tar", [(name, b"inside") for name in names])
    for kind in ("zip", "tar"):
        assert listed(tmp_path / f"a.{kind}") == dict.fromkeys(names, b"inside")


def test_the_newest_of_equal_members_counts(tmp_path: Path) -> None:
    members = [("a.jpg", b"old"), ("b.jpg", b"b"), ("a.jpg", b"new")]
    tar_of(tmp_path / "a.tar", members)
    assert listed(tmp_path / "a.tar") == {"a.jpg": b"new", "b.jpg": b"b"}
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.jpg", b"old")
        archive.writestr("b.jpg", b"b")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.jpg", b"new")
    assert listed(tmp_path / "a.zip") == {"a.jpg": b"new", "b.jpg": b"b"}


def test_a_tar_that_was_appended_to_another_is_read(tmp_path: Path) -> None:
    for name in ("a", "b"):
        tar_of(tmp_path / f"{name}.tar", [(f"{name}.jpg", name.encode()), ("c.jpg", name.encode())])
    parts = [(tmp_path / f"{name}.tar").read_bytes() for name in ("a", "b")]
    (tmp_path / "both.tar").write_bytes(b"".join(parts))
    assert listed(tmp_path / "both.tar") == {"a.jpg": b"a", "b.jpg": b"b", "c.jpg": b"b"}
    (tmp_path / "both.tar").write_bytes(parts[0] + b"no tar".ljust(1024, b"x"))
    assert listed(tmp_path / "both.tar") == {"a.jpg": b"a", "c.jpg": b"a"}
    (what,) = unreadable_ones(counted(tmp_path / "both.tar"))
    assert "both.tar" in what
    with (tmp_path / "a.tar").open("r+b") as file:  # as a download that broke off has it
        file.truncate(1 << 40)
    assert listed(tmp_path / "a.tar") == {"a.jpg": b"a", "c.jpg": b"a"}
    assert "a damaged header at byte 2,048" in skipped_in_words(counted(tmp_path / "a.tar"))


def test_links_in_a_tar_are_what_they_lead_to(tmp_path: Path) -> None:
    write(tmp_path / "in", "d/a.jpg")
    os.link(tmp_path / "in/d/a.jpg", tmp_path / "in/z.jpg")
    (tmp_path / "in/d/soft.jpg").symlink_to("a.jpg")
    (tmp_path / "in/up.jpg").symlink_to("d/../d/a.jpg")
    (tmp_path / "in/gone.jpg").symlink_to("/etc/passwd")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(tmp_path / "in", ".")
    expected = dict.fromkeys(("d/a.jpg", "z.jpg", "d/soft.jpg", "up.jpg"), b"d/a.jpg")
    assert listed(tmp_path / "a.tar") == expected
    assert counted(tmp_path / "a.tar") == {"links and sparse files in archives": 1}


def test_an_archive_that_is_not_whole_is_refused_or_read_up_to_there(tmp_path: Path) -> None:
    tar_of(tmp_path / "a.tar", [(f"{n}.jpg", b"x") for n in range(9)])
    content = bytearray((tmp_path / "a.tar").read_bytes())
    content[4096:4608] = b"\xff" * 512  # the fifth header: tarfile would end there
    (tmp_path / "a.tar").write_bytes(content)
    assert listed(tmp_path / "a.tar") == {f"{n}.jpg": b"x" for n in range(4)}
    assert "a damaged header at byte 4,096" in skipped_in_words(counted(tmp_path / "a.tar"))
    for program in (lzma, bz2, gzip):
        (tmp_path / "b.tar").write_bytes(program.compress(bytes(10_240)))
        with pytest.raises(BadInputError, match=r"compressed by (xz|bzip2|gzip)"):
            listed(tmp_path / "b.tar")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.jpg", b"x")
    part = bytearray((tmp_path / "a.zip").read_bytes())
    place = part.index(b"PK\x01\x02") + 34
    part[place : place + 2] = struct.pack("<H", 1)  # the disk that the member begins on
    (tmp_path / "a.zip").write_bytes(part)
    with pytest.raises(BadInputError, match="the last of several parts"):
        listed(tmp_path / "a.zip")
    # In a folder each is named, and costs the others nothing, whatever error its reader raises.
    write(tmp_path, "0.jpg")
    part[place - 28] = 200  # the version of zip that is needed
    (tmp_path / "b.zip").write_bytes(part)
    with tarfile.open(tmp_path / "c.tar", "w") as archive:
        member = tarfile.TarInfo("a.jpg")
        member.pax_headers = {"mtime": "inf"}
        archive.addfile(member)
    whole = {f"a.tar/{number}.jpg": b"x" for number in range(4)}
    assert listed(tmp_path) == {"0.jpg": b"0.jpg", **whole}
    skipped = counted(tmp_path)
    archives = ("a.tar", "a.zip", "b.tar", "b.zip", "c.tar")
    for name, what in zip(archives, sorted(skipped), strict=True):
        assert what.startswith(f"unreadable {tmp_path}/{name}: ")
    assert skipped_in_words(skipped).endswith(", 2 more that are unreadable (--json names them)")


def test_tars_of_older_databases_are_still_read(tmp_path: Path) -> None:
    tar_of(tmp_path / "a.tar", [("d/a.jpg", b"1"), ("b.jpg", b"2")])
    assert read_uri(f"tar://d/a.jpg::{tmp_path}/a.tar") == b"1"
    with pytest.raises(ImageError, match=r"no member c\.jpg"):
        read_uri(f"tar://c.jpg::{tmp_path}/a.tar")


def test_a_tar_header_longer_than_any_name_is_not_read(tmp_path: Path) -> None:
    header = bytearray(tarfile.TarInfo("x").tobuf(tarfile.USTAR_FORMAT))
    header[124:136] = b"%011o\0" % 600_000_000
    header[156:157] = tarfile.XHDTYPE
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "a.tar").write_bytes(bytes(header) + bytes(10_000))
    with pytest.raises(BadInputError, match="a header of 600,000,000 bytes"):
        list(list_images(str(tmp_path / "a.tar")))


@pytest.mark.parametrize("damage", ["cut", "header"])
def test_of_a_damaged_tar_what_lies_whole_before_is_listed(tmp_path: Path, damage: str) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in ("0.jpg", "1.jpg", "2.jpg"):
            member = tarfile.TarInfo(name)
            member.size = 1000
            archive.addfile(member, io.BytesIO(name.encode() * 200))
    content = bytearray((tmp_path / "a.tar").read_bytes())
    at = content.index(b"2.jpg")
    if damage == "cut":
        del content[at + 1000 :]
    else:
        content[at + 100 : at + 300] = b"x" * 200
    (tmp_path / "a.tar").write_bytes(content)
    for source, prefix in ((tmp_path, "a.tar/"), (tmp_path / "a.tar", "")):
        images = list(list_images(str(source)))
        assert [image.path for image in images] == [f"{prefix}0.jpg", f"{prefix}1.jpg"]
        assert read_image(images[1]) == b"1.jpg" * 200
        (what,) = unreadable_ones(counted(source))
        assert "a.tar" in what
    (tmp_path / "a.tar").write_bytes(content[:at][:100])
    with pytest.raises(BadInputError, match=r"a\.tar is no whole tar archive"):
        list(list_images(str(tmp_path / "a.tar")))


def test_no_entry_of_a_folder_ends_the_listing(tmp_path: Path) -> None:
    write(tmp_path, "good.jpg", "sub/deep.jpg")
    (tmp_path / "dangling.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "itself.jpg").symlink_to("itself.jpg")
    (tmp_path / "drive").symlink_to("/nowhere")
    (tmp_path / "sub" / "back").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "broken.zip").write_bytes(b"PK no zip")
    (tmp_path / "cut.tar").write_bytes(tarfile.TarInfo("a.jpg").tobuf()[:100])
    (tmp_path / "empty.parquet").write_bytes(b"")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "socket.jpg"))
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg")).write_bytes(b"latin")
    images = {image.path: image for image in list_images(str(tmp_path))}
    assert set(images) == {"good.jpg", "sub/deep.jpg", "dangling.jpg", "itself.jpg", "caf\\xe9.jpg"}
    assert read_image(images["caf\\xe9.jpg"]) == b"latin"
    images["caf\\xe9.jpg"].uri.encode()
    for name in ("dangling.jpg", "itself.jpg"):
        with pytest.raises(ImageError):
            read_image(images[name])
    skipped = counted(tmp_path)
    assert skipped["pipes, sockets and devices"] == 2
    assert skipped["links to a folder above"] == 1
    assert skipped["links to nothing"] == 1
    assert len(unreadable_ones(skipped)) >= 2
    # A list may name a pipe, too: it is not waited for.
    with pytest.raises(ImageError, match="no regular file"):
        read_uri(str(tmp_path / "pipe.jpg"))


def test_a_glob_of_links_and_of_what_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "away/b.jpg", "in/closed/d.jpg", "in/open/e.jpg")
    (tmp_path / "in/folder").symlink_to("../away")
    (tmp_path / "in/c.jpg").symlink_to("../away/b.jpg")
    pattern = f"{tmp_path}/in/*"
    everything = {"c.jpg", "folder/b.jpg", "closed/d.jpg", "open/e.jpg"}
    assert set(listed(pattern)) == everything
    assert set(listed(f"{pattern}/*.jpg")) == everything - {"c.jpg"}
    # The version is that of the image, not of the link to it.
    before = {image.path: image.etag for image in list_images(pattern)}
    os.utime(tmp_path / "away/b.jpg", (1, 1))
    after = {image.path: image.etag for image in list_images(pattern)}
    assert {path for path in before if before[path] != after[path]} == {"c.jpg", "folder/b.jpg"}
    (tmp_path / "in/open/up").symlink_to("..")  # round and round
    assert set(listed(f"{tmp_path}/in/**/*.jpg")) == everything - {"folder/b.jpg"}

    def scandir(path: str, scan: Callable[[str], object] = os.scandir) -> object:
        if "closed" in path:  # as to anybody but root
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    for glob in (f"{pattern}/*.jpg", f"{tmp_path}/in/**/*.jpg"):
        assert "open/e.jpg" in listed(glob)
        assert unreadable_ones(counted(glob)) == [
            f"unreadable {tmp_path}/in/closed: Permission denied"
        ]


def test_pictures_of_other_kinds_are_listed_or_counted(tmp_path: Path) -> None:
    read = ["a.tga", "b.dds", "c.psd", "d.mpo", "e.j2k", "f.apng", "g.pnm", "h.icns", "i.JPG"]
    read += ["j.jfif", "k.pbm"] + ["l.heic"] * HEIF_IS_READ
    unread = {".cr2": 2, ".mov": 1, ".svg": 1, ".nef": 1, ".jxl": 1}
    write(tmp_path, *read, "1.CR2", "2.cr2", "3.mov", "4.svg", "5.NEF", "6.jxl", "notes.txt")
    assert set(listed(tmp_path)) == set(read)
    assert counted(tmp_path) == unread
    assert skipped_in_words(counted(tmp_path)).startswith("2 .cr2, ")


def test_an_archive_that_grows_is_opened_again(tmp_path: Path) -> None:
    """As by a service, which goes on while a collection grows."""
    for names in (["a.jpg"], ["0.jpg", "a.jpg"]):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            for name in names:
                archive.writestr(name, name)
        table = pa.table({"path": names, "bytes": [name.encode() for name in names]})
        pq.write_table(table, tmp_path / "a.parquet")
        for kind in ("zip", "parquet"):
            assert listed(tmp_path / f"a.{kind}") == {name: name.encode() for name in names}


def test_a_large_file_is_a_failure_that_nobody_reads(tmp_path: Path) -> None:
    with (tmp_path / "sparse.tif").open("wb") as file:
        file.truncate(500_000_000)
    (image,) = list_images(str(tmp_path))
    for listing in (image, image._replace(bytes=-1)):
        with pytest.raises(ImageError, match="at most 256,000,000 are read") as caught:
            read_image(listing)
        assert caught.value.reason == "too_large"


def test_rows_of_a_table_are_read_in_any_order(tmp_path: Path) -> None:
    contents = [bytes([n]) * 100_000 for n in range(60)]
    pq.write_table(pa.table({"bytes": contents}), tmp_path / "a.parquet", row_group_size=50)
    images = list(list_images(str(tmp_path / "a.parquet")))
    for row in (0, 59, 7, 3, 49, 50, 8):
        assert read_image(images[row]) == contents[row]


def test_schemes_and_chains_in_a_list(tmp_path: Path) -> None:
    write(tmp_path, "a b.jpg")
    uris = {
        f"file://{tmp_path}/a%20b.jpg": "",
        f"file://{tmp_path}/a b.jpg": "",
        f"FILE://{tmp_path}/a b.jpg": "",
        f"file://localhost{tmp_path}/a%20b.jpg": "",
        f"simplecache::file://{tmp_path}/a b.jpg": "unreadable",
        f"reference://x::{tmp_path}/a b.jpg": "unreadable",
        f"local://{tmp_path}/a b.jpg": "unreadable",
        "ssh://host/a.jpg": "unreadable",
        "github://a:b@main/a.jpg": "unreadable",
        "http://[bad/a.jpg": "unreadable",
    }
    (tmp_path / "list.json").write_text(
        json.dumps(
            {
                "images": [
                    {"file_name": f"{n}.jpg", "coco_url": u, "id": n} for n, u in enumerate(uris)
                ]
            }
        )
    )
    for image in list_images(str(tmp_path / "list.json")):
        if reason := uris[image.uri]:
            with pytest.raises(ImageError) as caught:
                read_image(image)
            assert caught.value.reason == reason, image.uri
        else:
            assert read_image(image) == b"a b.jpg"
    with pytest.raises(BadInputError, match="and not from reference://"):
        list(list_images("reference://x"))
    with pytest.raises(MissingError):
        list(list_images(f"simplecache::{tmp_path}"))


def test_a_name_of_half_a_letter_in_a_json_file_is_still_a_row(tmp_path: Path) -> None:
    images = [{"file_name": "a\ud800.jpg", "coco_url": "x\ud800.jpg", "id": 1}]
    (tmp_path / "a.json").write_text(json.dumps({"images": images}))
    (image,) = list_images(str(tmp_path / "a.json"))
    assert image.path == "a?.jpg"
    image.uri.encode()


@pytest.mark.parametrize(("offset", "value", "says"), [(6, 1, "password"), (8, 9, "method 9")])
def test_a_member_that_is_not_unpacked_says_why(
    offset: int, value: int, says: str, tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.jpg", b"x")
    content = bytearray((tmp_path / "a.zip").read_bytes())
    # Flags and method stand in the member's header and, two bytes later, in the directory.
    for place in (content.index(b"PK\x03\x04"), content.index(b"PK\x01\x02") + 2):
        content[place + offset : place + offset + 2] = struct.pack("<H", value)
    (tmp_path / "a.zip").write_bytes(content)
    (image,) = list_images(str(tmp_path / "a.zip"))
    with pytest.raises(ImageError, match=says):
        read_image(image)


def test_a_member_without_a_name_and_a_table_that_is_no_text(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "odd.zip", "w") as archive:
        archive.writestr("z0", b"x")
        archive.writestr("a.jpg", b"x")
    # A name ends where a zero stands.
    content = (tmp_path / "odd.zip").read_bytes().replace(b"z0", b"\0b")
    (tmp_path / "odd.zip").write_bytes(content)
    assert set(listed(tmp_path / "odd.zip")) == {"a.jpg"}
    (tmp_path / "odd.csv").write_bytes(b"\xeaa\nb.jpg\n")
    with pytest.raises(BadInputError, match=r"odd\.csv needs a column .*it has \ufffda$"):
        listed(tmp_path / "odd.csv")


def test_an_image_without_an_address_says_so() -> None:
    """As of imported descriptors; the working directory was said to be no file."""
    with pytest.raises(ImageError, match="has no address") as caught:
        read_image(ListedImage("1", "", -1, "", "1"))
    assert caught.value.reason == "missing"
