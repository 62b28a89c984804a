"""Contact sheets and pages of images."""

import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lib.errors import BadArgumentError
from lib.images.contact_sheet import (
    Section,
    Tile,
    contact_sheet,
    html_page,
    thumbnail,
    write_sections,
)
from lib.images.listing import list_images

RED = (200, 30, 30)


@pytest.fixture
def red_image(tmp_path: Path) -> str:
    path = tmp_path / "red.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    Image.new("RGB", (400, 300), RED).save(path, exif=exif, quality=95)
    return str(path)


def close(color: object, expected: tuple[int, int, int]) -> bool:
    assert isinstance(color, tuple)
    return all(abs(a - b) < 12 for a, b in zip(color, expected, strict=True))


def test_a_thumbnail_is_upright_and_of_its_size(red_image: str) -> None:
    small = thumbnail(red_image)
    assert small is not None
    assert small.size == (180, 240)
    assert close(small.getpixel((75, 100)), RED)


def test_images_in_archives_and_tables_are_shown(red_image: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(red_image, "deep/red.jpg")
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        tar.add(red_image, "deep/red.jpg")
    content = Path(red_image).read_bytes()
    pq.write_table(pa.table({"path": ["red.jpg"], "bytes": [content]}), tmp_path / "all.parquet")
    for kind in ("zip", "tar", "parquet"):
        (listed,) = list_images(f"{tmp_path}/all.{kind}")
        assert "://" in listed.uri
        small = thumbnail(listed.uri)
        assert small is not None, kind
        assert close(small.getpixel((75, 100)), RED)
    (member,) = list_images(f"{tmp_path}/all.zip")
    assert html_page("t", [Section("", [Tile(member.uri, "1")])]).count("data:image/jpeg") == 1
    assert thumbnail(member.uri.replace("red.jpg", "absent.jpg")) is None


def test_an_unreadable_image_has_no_thumbnail(tmp_path: Path) -> None:
    (tmp_path / "page.jpg").write_text("<html>")
    assert thumbnail(str(tmp_path / "page.jpg")) is None
    assert thumbnail(str(tmp_path / "absent.jpg")) is None


def test_a_contact_sheet_holds_the_images_in_rows(red_image: str) -> None:
    one = contact_sheet([Section("red", [Tile(red_image, "1")])])
    many = contact_sheet([Section("red", [Tile(red_image, str(n)) for n in range(12)])], columns=5)
    assert many.width > 4 * one.width
    assert many.height > 2 * one.height
    reds = sum(close(many.getpixel((x, 180)), RED) for x in range(many.width))
    assert reds == pytest.approx(5 * 180, abs=20)  # five upright images, 180 pixels wide each


def test_a_contact_sheet_says_why_a_query_has_no_images() -> None:
    bare, noted = (contact_sheet([Section("umberella", [], note)]) for note in ("", "did you mean"))
    assert noted.height > bare.height
    below = noted.crop((0, bare.height, *noted.size))
    assert min(below.convert("L").tobytes()) < 128


@pytest.mark.reports
@pytest.mark.parametrize("text", ["a\nb", "a\r\nb", "\n", "", "x" * 100_000, "\ud800\0\u202eb"])
def test_a_contact_sheet_of_names_and_captions_as_they_come(red_image: str, text: str) -> None:
    sheet = contact_sheet([Section(text, [Tile(red_image, text, [text])], text)])
    assert close(sheet.getpixel((sheet.width // 2, 200)), RED)


def test_a_page_escapes_what_people_wrote(red_image: str, tmp_path: Path) -> None:
    absent = str(tmp_path / "absent.jpg")
    tiles = [Tile(red_image, "<1>", ["a <b>bold</b> dog"]), Tile(absent, "2")]
    page = html_page("<title>", [Section("x & y", tiles, note="'note'")])
    assert "<b>" not in page
    assert "x &amp; y" in page
    assert "a &lt;b&gt;bold" in page
    assert page.count("data:image/jpeg;base64,") == 1
    assert page.count("image not readable") == 1


def test_the_ending_chooses_the_format(red_image: str, tmp_path: Path) -> None:
    sections = [Section("red", [Tile(red_image, "1")])]
    write_sections(str(tmp_path / "page.html"), "t", sections)
    write_sections(str(tmp_path / "sheet.png"), "t", sections)
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG"
    with pytest.raises(BadArgumentError, match=r"sheet\.gif"):
        write_sections(str(tmp_path / "sheet.gif"), "t", sections)
