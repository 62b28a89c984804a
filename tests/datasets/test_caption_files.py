"""Caption files in the shapes in which people have them; each value is what a person would read."""

import gzip
import io
import json
import shutil
import struct
import tarfile
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from lib.datasets.captions import Captions, load_captions, write_captions
from lib.errors import BadInputError, ImageSearchError, MissingError
from lib.images.listing import list_images

pytestmark = pytest.mark.reports

Pairs = list[tuple[str, str]]


def load(path: Path, content: bytes | str) -> Captions:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load_captions(str(path))


def pairs(captions: Captions) -> Pairs:
    return list(zip(captions.image_ids, captions.texts, strict=True))


def frame(*rows: tuple[Any, Any], columns: tuple[str, str] = ("image", "caption")) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(columns))


TWO: Pairs = [("a.jpg", "a dog, running"), ("b.jpg", "a cat")]
SENTENCES = [{"raw": "a dog", "tokens": ["a", "dog"]}, {"raw": "a pup", "tokens": ["a", "pup"]}]


@pytest.mark.parametrize(
    "content",
    [
        'image,caption\na.jpg,"a dog, running"\nb.jpg,a cat\n',
        "\ufeffFile Name;Caption\r\na.jpg;a dog, running\r\nb.jpg;a cat\r\n",
        "sep=;\nfilepath;TEXT\na.jpg;a dog, running\nb.jpg;a cat\n",
        "image_path\tsentence\na.jpg\ta dog, running\nb.jpg\ta cat\n",
        "image_name| comment_number| comment\na.jpg| 0| a dog, running\nb.jpg| 0| a cat\n",
        'caption,image\n"a dog, running",a.jpg\na cat,b.jpg\n',
        ',image,caption\n0,a.jpg,"a dog, running"\n1,b.jpg,a cat\n',
        '"image","caption"\n"1","a.jpg","a dog, running"\n"2","b.jpg","a cat"\n',  # R's row names
        "a.jpg\ta dog, running\nb.jpg\ta cat\n",  # no header
        'a.jpg, "a dog, running"\nb.jpg, a cat\n',
        "a.jpg#0\ta dog, running\nb.jpg#0\ta cat\n",
        'image,caption\na.jpg#0,"a dog, running"\nb.jpg#3,a cat\n',
        '{\n  "image": "a.jpg",\n  "text": "a dog, running"\n}\n'
        '{\n  "image": "b.jpg",\n  "text": "a cat"\n}\n',
        '{"a.jpg": [["a dog, running", 0.9]], "b.jpg": ["a cat"]}',
        '{"file_name": "a.jpg", "text": "a dog, running"}\n'
        '{"file_name": "b.jpg", "text": "a cat"}\n',
        '[{"image": "a.jpg", "caption": "a dog, running"}, '
        '{"image": "b.jpg", "captions": ["a cat"]}]',
        '{"a.jpg": ["a dog, running"], "b.jpg": "a cat"}',
        '{"image": {"0": "a.jpg", "1": "b.jpg"}, "caption": {"0": "a dog, running", "1": "a cat"}}',
        '{"data": [{"img": "a.jpg", "text": "a dog, running"}, {"img": "b.jpg", "text": "a cat"}]}',
        '{"train": [{"img": "a.jpg", "text": "a dog, running"}], "val2017": {"b.jpg": "a cat"}}',
        '{"caption": {"a.jpg": "a dog, running", "b.jpg": "a cat"}}',
        '{"7": {"image": "a.jpg", "caption": "a dog, running"}, '
        '"9": {"image": "b.jpg", "caption": "a cat"}}',
    ],
)
def test_shapes_of_one_content(tmp_path: Path, content: str) -> None:
    assert pairs(load(tmp_path / "captions", content)) == TWO
    assert pairs(load(tmp_path / "c.gz", gzip.compress(content.encode()))) == TWO
    assert pairs(load(tmp_path / "c.csv", content.encode("utf-16"))) == TWO
    assert pairs(load(tmp_path / "c.tsv", content.encode("utf-32"))) == TWO
    assert pairs(load(tmp_path / "c.txt", content.encode("utf-8-sig"))) == TWO


def test_karpathys_flickr_and_coco(tmp_path: Path) -> None:
    entry = {"filename": "1.jpg", "imgid": 0, "split": "test", "sentences": SENTENCES}
    flickr = {"images": [entry], "dataset": "flickr8k"}
    read = load(tmp_path / "dataset_flickr8k.json", json.dumps(flickr))
    assert pairs(read) == [("1.jpg", "a dog"), ("1.jpg", "a pup")]
    coco = {"images": [entry | {"filepath": "val2014", "cocoid": 139}], "dataset": "coco"}
    read = load(tmp_path / "dataset_coco.json", json.dumps(coco))
    assert pairs(read) == [("139", "a dog"), ("139", "a pup")]
    assert read.images["139"].file_name == "val2014/1.jpg"


@pytest.mark.parametrize(
    ("page", "name", "text", "said"),
    [
        ("cp1252", "a.jpg", "a café", "Windows-1252"),
        ("cp1252", "a.jpg", "don’t spend £5 – or 1½", "Windows-1252"),
        ("cp1252", "a.jpg", "maðurinn með hárið við vatnið", "Windows-1252"),
        ("cp1250", "a.jpg", "żółty kot śpi na łóżku", "Windows-1250"),
        ("cp1251", "собака.jpg", "a dog", "Windows-1251"),
        ("cp1251", "a.jpg", "Женщина в красном платье", "Windows-1251"),
        ("cp1253", "γάτα.jpg", "ένας σκύλος τρέχει στο γρασίδι", "Windows-1253"),
        ("cp1254", "a.jpg", "kırmızı elbiseli kadın", "Windows-1254"),
        ("cp1254", "a.jpg", "çimde koşan köpek", "Windows-1254"),
        ("cp1255", "כלב.jpg", "שני ילדים משחקים בחוף הים", "Windows-1255"),
        ("cp1256", "قطة.jpg", "كلب يجري على العشب", "Windows-1256"),
        ("cp932", "犬の写真.jpg", "a dog", "Windows-932"),
        ("gbk", "我的狗.jpg", "a dog", "gbk"),
        ("euc_kr", "강아지.jpg", "a dog", "euc_kr"),
    ],
)
def test_a_code_page_of_windows_is_read_and_said(
    tmp_path: Path, page: str, name: str, text: str, said: str
) -> None:
    read = load(tmp_path / "c.csv", f"image,caption\n{name},{text}\n".encode(page))
    assert pairs(read) == [(name, text)]
    assert said in read.notes[0]


def test_one_odd_byte_does_not_spoil_the_other_names(tmp_path: Path) -> None:
    table = "image,caption\ncafé.jpg,a dog\nb.jpg,two piñatas\n".encode() + b"c.jpg,a caf\xe9\n"
    read = load(tmp_path / "c.csv", table)
    assert pairs(read) == [
        ("café.jpg", "a dog"),
        ("b.jpg", "two piñatas"),
        ("c.jpg", "a caf\ufffd"),
    ]
    assert "1 characters that are not UTF-8 (line 4)" in read.notes[0]


COCO: dict[str, Any] = {
    "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg", "coco_url": "u"}],
    "annotations": [{"image_id": 2, "caption": "x"}, {"image_id": 1.0, "caption": None}],
}


def test_an_id_of_two_images_is_refused_with_both_names(tmp_path: Path) -> None:
    images: list[Any] = [*COCO["images"], {"id": 1, "file_name": "c.jpg"}]
    with pytest.raises(BadInputError, match=r"id 1 is that of two images, a\.jpg and c\.jpg"):
        load(tmp_path / "c.json", json.dumps(COCO | {"images": images}))
    rows = [("1", "a.jpg", "x"), ("1", "c.jpg", "y")]
    table = pd.DataFrame(rows, columns=["image_id", "file_name", "caption"])
    with pytest.raises(BadInputError, match=r"id 1 is that of two images"):
        load(tmp_path / "c.csv", table.to_csv(index=False))


def test_other_names_of_cocos_file_name(tmp_path: Path) -> None:
    images = [{"id": n, key: f"{n}.jpg"} for n, key in enumerate(["filename", "path", "image"])]
    texts = [{"image_id": n, "caption": "x"} for n in range(3)]
    read = load(tmp_path / "c.json", json.dumps({"images": images, "annotations": texts}))
    assert [image.file_name for image in read.images.values()] == ["0.jpg", "1.jpg", "2.jpg"]


@pytest.mark.parametrize("repeated", [False, True], ids=["an id a caption", "an entry a caption"])
def test_an_entry_a_caption_is_understood_by_file_name(tmp_path: Path, repeated: bool) -> None:
    images = [
        {"id": n // 2 if repeated else n, "file_name": f"{'./' * (n % 2)}{n // 2}.jpg"}
        for n in range(4)
    ]
    texts = [{"image_id": image["id"], "caption": f"c{n}"} for n, image in enumerate(images)]
    read = load(tmp_path / "c.json", json.dumps({"images": images, "annotations": texts}))
    names = [read.images[image_id].file_name for image_id in read.image_ids]
    assert names == ["0.jpg", "0.jpg", "1.jpg", "1.jpg"]
    assert read.texts == ["c0", "c1", "c2", "c3"]
    assert len(read.images) == 2


@pytest.mark.parametrize(
    "captions",
    [
        ["x", "y"],
        np.array(["x", "y"]),
        [{"raw": "x", "tokens": ["q"]}, {"raw": "y", "tokens": ["q"]}],
        {"text": ["x", "y"]},
        [["x"], ["y"]],
    ],
    ids=lambda value: type(value).__name__,
)
def test_lists_and_structs_in_parquet_are_spread(tmp_path: Path, captions: Any) -> None:
    image = {"bytes": b"jpeg", "path": "a.jpg"}
    frame((image, captions), columns=("image", "sentences")).to_parquet(tmp_path / "c.parquet")
    assert pairs(load_captions(str(tmp_path / "c.parquet"))) == [("a.jpg", "x"), ("a.jpg", "y")]
    record = {"image": "a.jpg", "captions": np.asarray(captions).tolist()}
    assert load(tmp_path / "c.jsonl", json.dumps(record)).texts == ["x", "y"]


def test_lists_in_csv_cells_are_spread(tmp_path: Path) -> None:
    """What pandas and numpy write of lists; `['a' 'b']` is Python for one text, not for two."""
    cells = [
        *(["it's", 'a "pup"'], np.array(["x", "y"]), json.dumps(["é\n", "w"]), ("t", "u"), {"s"}),
        *(["n", None, np.nan], []),
    ]
    table = pd.DataFrame(
        {"image": [f"{n}.jpg" for n in range(7)], "raw": pd.Series(cells, dtype=object)}
    )
    texts = ["it's", 'a "pup"', "x", "y", "é", "w", "t", "u", "s", "n"]
    read = load(tmp_path / "c.csv", table.to_csv(index=False))
    assert (read.texts, read.image_ids[-1]) == (texts, "5.jpg")
    assert "blank: 1, first line" in read.notes[-1]
    pd.read_csv(tmp_path / "c.csv").to_parquet(tmp_path / "c.parquet")  # as texts
    assert load_captions(str(tmp_path / "c.parquet")).texts == texts


def test_grouped_and_categorical_columns(tmp_path: Path) -> None:
    table = frame(("a.jpg", "x"), ("b.jpg", "z"), ("a.jpg", "y"))
    grouped = table.groupby("image")["caption"].apply(list).reset_index()
    grouped.to_parquet(tmp_path / "g.parquet")
    table.astype("category").to_parquet(tmp_path / "c.parquet")
    table.to_feather(tmp_path / "f.feather", compression="uncompressed")
    for name in ("g.parquet", "c.parquet", "f.feather"):
        read = load_captions(str(tmp_path / name)).by_image()
        assert read == {"a.jpg": ["x", "y"], "b.jpg": ["z"]}


def test_numbers_and_several_caption_columns(tmp_path: Path) -> None:
    frame((139.0, "x"), (7, None), (None, "y"), columns=("image_id", "caption")).to_parquet(
        tmp_path / "c.parquet"
    )
    read = load_captions(str(tmp_path / "c.parquet"))
    assert pairs(read) == [("139", "x")]
    assert [note.partition(": ")[2] for note in read.notes] == [
        "captions left out, since they name no image: 1, first row 2",
        "captions left out, since they are blank: 1, first row 1",
    ]
    read = load(tmp_path / "c.csv", "filename,caption_1,caption_2,split\na.jpg,x,y,train\n")
    assert pairs(read) == [("a.jpg", "x"), ("a.jpg", "y")]
    for second in ("caption_2", "caption.1", "caption", "Caption "):
        read = load(tmp_path / "c.csv", f"filename,caption,{second},n\na.jpg,x,y,1\nb.jpg,z,,2\n")
        assert pairs(read) == [("a.jpg", "x"), ("a.jpg", "y"), ("b.jpg", "z")]


def test_doubled_quotes_in_a_name_are_its_own(tmp_path: Path) -> None:
    read = load(tmp_path / "c.csv", 'image,caption\n"a ""b"".jpg",x\n')
    assert (pairs(read), read.notes) == ([('a "b".jpg', "x")], ())


def test_what_exiftool_writes(tmp_path: Path) -> None:
    read = load(tmp_path / "c.csv", "SourceFile,Caption-Abstract\n./a.jpg,x\n")
    assert pairs(read) == [("./a.jpg", "x")]
    read = load(
        tmp_path / "c.json",
        '[{"SourceFile": "a.jpg", "ImageDescription": "x"}, '
        '{"SourceFile": "b.jpg", "Description": "y"}]',
    )
    assert pairs(read) == [("a.jpg", "x"), ("b.jpg", "y")]


@pytest.mark.parametrize(
    "table",
    [
        "folder,filename,caption\nin,1.jpg,x\nout,1.jpg,y\n",
        "Directory;File Name;Description\n./in;1.jpg;x\n./out;1.jpg;y\n",
        "path,name,caption\nin,1.jpg,x\nout,1.jpg,y\n",
        "name,image_path,caption\nthe first,in/1.jpg,x\nthe second,out/1.jpg,y\n",
        "SourceFile,FileName,Directory,Description\nin/1.jpg,1.jpg,in,x\nout/1.jpg,1.jpg,out,y\n",
        "SourceFile,Directory,Description\nin/1.jpg,in,x\nout/1.jpg,out,y\n",
    ],
)
def test_a_folder_in_a_column_of_its_own(tmp_path: Path, table: str) -> None:
    """Without it, the captions of all files of one name would be those of one image."""
    paths = [("in/1.jpg", "in/1.jpg"), ("out/1.jpg", "out/1.jpg")]
    read = load(tmp_path / "c.csv", table).texts_in(paths)
    assert read == {"in/1.jpg": ["x"], "out/1.jpg": ["y"]}


def test_a_path_of_another_file_is_not_the_name(tmp_path: Path) -> None:
    read = load(tmp_path / "c.csv", "filename,path,caption\na.jpg,up/0f3c.jpg,x\n,in,y\n")
    assert pairs(read) == [("a.jpg", "x")]
    assert "name no image: 1, first line 3" in read.notes[0]


def test_what_a_row_says_in_another_column_of_descriptions(tmp_path: Path) -> None:
    table = (
        "SourceFile,IPTC:Caption-Abstract,XMP:Description,ImageDescription,Comment,Keywords\n"
        'a.jpg,x,,,,dog\nb.jpg,,y,y,LEAD,\nc.jpg,,,z,,\nd.jpg,,,,LEAD,"dog, beach"\n'
    )
    read = load(tmp_path / "c.csv", table)
    assert pairs(read) == [("a.jpg", "x"), ("b.jpg", "y"), ("c.jpg", "z"), ("d.jpg", "dog, beach")]
    frame(("a.jpg", None), ("b.jpg", "y")).assign(
        description=["x", "v"], alt_text=[1, 2]
    ).to_parquet(tmp_path / "c.parquet")
    read = load_captions(str(tmp_path / "c.parquet"))
    assert pairs(read) == [("a.jpg", "x"), ("b.jpg", "y")]


def test_titles_and_keywords_are_captions_where_there_are_no_others(tmp_path: Path) -> None:
    read = load(tmp_path / "c.csv", "file,keywords,title\na.jpg,dog;beach,A walk\n")
    assert pairs(read) == [("a.jpg", "A walk")]
    read = load(tmp_path / "c.csv", "file,keywords,caption\na.jpg,dog;beach,A walk\n")
    assert pairs(read) == [("a.jpg", "A walk")]
    keywords = [{"SourceFile": "a.jpg", "IPTC:Keywords": ["dog", 2012, "beach"]}]
    read = load(tmp_path / "c.json", json.dumps(keywords))
    assert pairs(read) == [("a.jpg", "dog, beach")]
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "a.jpg.json").write_text(json.dumps(keywords))
    (tmp_path / "beside" / "b.jpg.json").write_text('{"title": "b.jpg", "geoData": {}}')
    assert pairs(load_captions(str(tmp_path / "beside"))) == [("a.jpg", "dog, beach")]
    region = {"region_id": 1, "image_id": 139, "phrase": "a dog", "x": 0, "y": 0}
    genome = [{"id": 139, "regions": [region, region | {"phrase": "a cat"}]}]
    read = load(tmp_path / "c.json", json.dumps(genome))
    assert pairs(read) == [("139", "a dog"), ("139", "a cat")]


def test_counted_comments_are_no_captions(tmp_path: Path) -> None:
    """As in exports of Reddit and Pushshift."""
    table = "id,title,score,url,comments\n1,My cat,12,https://h/a.jpg,55\n"
    assert load(tmp_path / "c.csv", table).texts == ["My cat"]


def test_what_cameras_describe_every_photograph_as_is_no_caption(tmp_path: Path) -> None:
    table = (
        "SourceFile,ImageDescription,Keywords\n"
        'a.jpg,OLYMPUS DIGITAL CAMERA         ,"dog, beach"\nb.jpg,SONY DSC,\n'
        "c.jpg,A cat,\nd.jpg,DCIM\\100GOPRO\\GOPR0001.JPG,\n"
    )
    read = load(tmp_path / "c.csv", table)
    assert pairs(read) == [("a.jpg", "dog, beach"), ("c.jpg", "A cat")]
    assert "left out, since they are blank: 2, first line 3" in read.notes[0]
    label = load(tmp_path / "c.csv", "image,caption\na.jpg,digital camera\n")
    assert label.texts == ["digital camera"]


def test_what_most_images_share_is_said(tmp_path: Path) -> None:
    rows = [(f"{n}.jpg", "posted with the app" if n < 6 else f"dog {n}") for n in range(10)]
    read = load(tmp_path / "c.csv", frame(*rows).to_csv(index=False))
    assert "says the same of 6 of 10 images: 'posted with the app'" in read.notes[0]


def test_several_lists_of_one_document_are_all_read(tmp_path: Path) -> None:
    """As Instagram's archive, whose keys would be taken for images otherwise."""
    document = {
        "photos": [{"caption": "x", "taken_at": "2018", "path": "photos/a.jpg"}],
        "stories": [{"caption": "y", "path": "stories/b.jpg"}],
        "direct": [{"to": "z"}],
    }
    read = load(tmp_path / "media.json", json.dumps(document))
    assert pairs(read) == [("photos/a.jpg", "x"), ("stories/b.jpg", "y")]
    said = {"139": [{"caption": "x", "name": "Ann"}], "285": [{"caption": "y", "name": "Bob"}]}
    assert pairs(load(tmp_path / "c.json", json.dumps(said))) == [("139", "x"), ("285", "y")]


def test_the_name_in_an_object_of_the_image(tmp_path: Path) -> None:
    for key in ("file_name", "filename", "path", "image_url", "name"):
        read = load(
            tmp_path / "c.json", json.dumps([{"image": {"w": 1, key: "a.jpg"}, "text": "x"}])
        )
        assert pairs(read) == [("a.jpg", "x")]


def turns(who: str, what: str, *texts: Any) -> list[dict[str, Any]]:
    """A conversation that a person begins; `who` names the keys of speakers, `what` of texts."""
    speakers = {"from": ("human", "gpt"), "role": ("user", "assistant")}[who]
    return [{who: speakers[n % 2], what: text} for n, text in enumerate(texts)]


def answered(message: dict[str, Any]) -> dict[str, Any]:
    """What OpenAI's batches give for one request."""
    return {
        "status_code": 200,
        "body": {"model": "m", "choices": [{"index": 0, "message": message}]},
    }


def typed(*values: dict[str, Any], cancelled: bool = False) -> dict[str, Any]:
    """What one person did with a picture in Label Studio."""
    kinds = ["textarea" if "text" in value else "rectanglelabels" for value in values]
    result = [{"type": kind, "value": value} for kind, value in zip(kinds, values, strict=True)]
    return {"id": 7, "was_cancelled": cancelled, "result": result}


BOX = {"x": 1.5, "y": 2, "rectanglelabels": ["dog"]}


@pytest.mark.parametrize(
    "records",
    [
        [
            {"id": "1", "image": "a.jpg", "conversations": turns("from", "value", "?", "a dog")},
            {"id": "2", "image": "b.jpg", "conversations": turns("from", "value", "?", "a cat")},
        ],
        [
            {
                "images": ["a.jpg"],
                "messages": turns("role", "content", "?", "a dog", "Which?", "A pug."),
            },
            {
                "images": ["b.jpg"],
                "messages": turns("role", "content", "?", [{"type": "text", "text": "a cat"}]),
            },
        ],
        [
            {"custom_id": "a.jpg", "response": answered({"role": "assistant", "content": "a dog"})},
            {"custom_id": "b.jpg", "response": answered({"role": "assistant", "content": "a cat"})},
        ],
        [
            {"custom_id": name, "result": {"type": "succeeded", "message": said}}
            for name, said in (
                ("a.jpg", {"role": "assistant", "content": [{"type": "text", "text": "a dog"}]}),
                ("b.jpg", {"role": "assistant", "content": '```json\n{"caption": "a cat"}\n```'}),
            )
        ],
        [
            {"key": name, "response": {"candidates": [{"content": said, "index": 0}], "usage": {}}}
            for name, said in (
                ("a.jpg", {"parts": [{"text": "a dog"}], "role": "model"}),
                ("b.jpg", {"parts": [{"text": "a cat"}], "role": "model"}),
            )
        ],
        [
            {"file": "a.jpg", "prompt": "Describe it", "response": "a dog"},
            {"file": "b.jpg", "prompt": "Describe it", "completion": "a cat"},
        ],
        [
            {
                "id": 1,
                "data": {"captioning": "a.jpg", "caption": "a draft"},
                "annotations": [typed(BOX, {"text": ["a dog"]}), typed(cancelled=True)],
            },
            {
                "id": 2,
                "data": {"captioning": "b.jpg"},
                "annotations": [
                    typed({"text": ["a dog"]}, cancelled=True),
                    typed({"text": "a cat"}),
                ],
            },
        ],
        [
            {"originalFileName": "a.jpg", "exifInfo": {"description": "a dog"}},
            {"originalFileName": "b.jpg", "exifInfo": {"description": "a cat"}},
        ],
        [
            {"media": [{"uri": "a.jpg", "title": "a dog"}], "creation_timestamp": 1},
            {"media": [{"uri": "b.jpg", "title": "a cat"}], "creation_timestamp": 2},
        ],
    ],
    ids=[
        "LLaVA",
        "messages",
        "OpenAI",
        "Anthropic",
        "Gemini",
        "prompts",
        "Label Studio",
        "Immich",
        "posts",
    ],
)
def test_captions_inside_of_objects(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    expected = [("a.jpg", "a dog"), ("b.jpg", "a cat")]
    assert pairs(load(tmp_path / "c.json", json.dumps(records))) == expected
    assert pairs(load(tmp_path / "c.jsonl", "\n".join(map(json.dumps, records)))) == expected


def test_captions_may_say_where_they_are_from(tmp_path: Path) -> None:
    said = [{"image": "a.jpg", "captions": [{"caption": "a dog", "from": "flickr"}]}]
    assert pairs(load(tmp_path / "c.json", json.dumps(said))) == [("a.jpg", "a dog")]


@pytest.mark.parametrize(
    "content",
    [
        {"a.jpg": {"caption": "x", "rejected": True}, "b.jpg": {"caption": "a cat"}},
        {
            "images": [
                {"id": 1, "file_name": "a.jpg", "caption": "x", "is_rejected": 1},
                {"id": "b.jpg", "file_name": "b.jpg", "caption": "a cat"},
            ],
            "annotations": [],
        },
    ],
    ids=["by name", "beside images"],
)
def test_rejected_captions_of_an_image_are_left_out(tmp_path: Path, content: Any) -> None:
    read = load(tmp_path / "c.json", json.dumps(content))
    assert pairs(read) == [("b.jpg", "a cat")]
    assert "the file says that they are not to be used: 1, first" in read.notes[0]


def test_one_caption_that_names_a_file_leaves_the_others(tmp_path: Path) -> None:
    said = json.dumps({"1": "a dog", "IMG_2": "x.jpg", "3": "a cat"})
    assert pairs(load(tmp_path / "c.json", said)) == [("1", "a dog"), ("3", "a cat")]


def test_conversations_in_parquet(tmp_path: Path) -> None:
    image = {"bytes": b"jpeg", "path": "a.jpg"}
    said = turns("from", "value", "Describe it", "a dog")
    both = [{"user": "?", "assistant": "a dog"}, {"user": "Which?", "assistant": "A pug."}]
    for name, value in (("conversations", said), ("texts", both)):
        table = pa.table({"id": ["1"], "image": [image], name: [value]})
        pq.write_table(table, tmp_path / "c.parquet")
        assert pairs(load_captions(str(tmp_path / "c.parquet"))) == [("a.jpg", "a dog")]


def test_what_a_service_could_not_do_is_no_caption(tmp_path: Path) -> None:
    failed = {"status_code": 400, "body": {"error": {"message": "too large", "code": "x"}}}
    message = {"role": "assistant", "content": "a dog"}
    lines = [
        {"custom_id": "a.jpg", "response": answered(message), "error": None},
        {"custom_id": "b.jpg", "response": failed, "error": None},
        {"custom_id": "c.jpg", "response": None, "error": {"message": "expired"}},
    ]
    read = load(tmp_path / "c.jsonl", "\n".join(map(json.dumps, lines)))
    assert pairs(read) == [("a.jpg", "a dog")]
    assert "since they are blank: 2, first line 2" in read.notes[0]


@pytest.mark.parametrize(
    "flags",
    [
        {"is_rejected": True},
        {"is_precanned": 1},
        {"answer": "reject"},
        {"approved": "no"},
        {"AssignmentStatus": "Rejected"},
    ],
    ids=lambda flags: next(iter(flags)),
)
def test_what_the_file_itself_rejects_is_left_out_and_counted(
    tmp_path: Path, flags: dict[str, Any]
) -> None:
    """VizWiz marks a third of its captions so, Mechanical Turk what was not paid."""
    good = {"is_rejected": False, "is_precanned": 0, "answer": "accept", "approved": "yes"}
    captions = [{"caption": f"c{n}", **good, **(flags if n % 2 else {})} for n in range(4)]
    images = [{"id": n, "file_name": f"{n}.jpg"} for n in range(4)]
    texts = [{"image_id": n, **caption} for n, caption in enumerate(captions)]
    coco = json.dumps({"images": images, "annotations": texts})
    table = pd.DataFrame([{"image": f"{n}.jpg", **caption} for n, caption in enumerate(captions)])
    table.to_parquet(tmp_path / "t.parquet")
    for read in (
        load(tmp_path / "c.json", coco),
        load(tmp_path / "c.csv", table.to_csv(index=False)),
        load(tmp_path / "c.jsonl", table.to_json(orient="records", lines=True)),
        load_captions(str(tmp_path / "t.parquet")),
    ):
        assert read.texts == ["c0", "c2"]
        assert "the file says that they are not to be used: 2, first" in read.notes[0]


def test_a_title_is_the_caption_of_an_image_that_has_no_other(tmp_path: Path) -> None:
    """Flickr's exports often have a title alone; of many files it is what the camera counted."""
    table = (
        "file,title,description\na.jpg,T,a dog\nb.jpg,A walk,\nc.jpg,IMG_0123,\nd.jpg,d.jpg,\n"
        "e.jpg,sunset,\nf.jpg,2匹の犬,\ng.jpg,微信图片_20230101,\n"
    )
    read = load(tmp_path / "c.csv", table)
    assert pairs(read) == [
        *(("a.jpg", "a dog"), ("b.jpg", "A walk"), ("e.jpg", "sunset"), ("f.jpg", "2匹の犬"))
    ]
    assert "since they are blank: 3, first line 4" in read.notes[0]
    named = {
        "53012345678": ("A walk", ""),
        "53012345679": ("IMG_0124", ""),
        "53012345670": ("T", "x"),
    }
    for number, (name, description) in named.items():
        said = json.dumps({"id": number, "name": name, "description": description, "tags": []})
        (tmp_path / "flickr" / "info").mkdir(parents=True, exist_ok=True)
        (tmp_path / "flickr" / "info" / f"photo_{number}.json").write_text(said)
        (tmp_path / "flickr" / f"p-1_{number}_o.jpg").touch()
    read = load_captions(str(tmp_path / "flickr"))
    assert read.by_image() == {
        "p-1_53012345678_o.jpg": ["A walk"],
        "p-1_53012345670_o.jpg": ["x"],
    }


def test_what_a_row_says_in_another_column_where_none_is_a_caption(tmp_path: Path) -> None:
    """As Windows Explorer's columns, and Doccano's, whose captions are labels."""
    table = "Name,Title,Tags,Comments\na.jpg,,x; y,a dog\nb.jpg,T,z,\nc.jpg,,z,\nd.jpg,,,12\n"
    read = load(tmp_path / "c.csv", table)
    assert pairs(read) == [("a.jpg", "a dog"), ("b.jpg", "T"), ("c.jpg", "z")]
    doccano = '{"id": 1, "filename": "a.jpg", "label": ["x", "y"], "Comments": []}'
    assert pairs(load(tmp_path / "c.jsonl", doccano)) == [("a.jpg", "x"), ("a.jpg", "y")]


def test_conversations_beside_images(tmp_path: Path) -> None:
    """As in WebDataset's shards of such data sets."""
    said = turns("from", "value", "?", "a dog")
    contents = {"a": said, "b": {"conversations": said}, "c": {"caption": "x", "is_rejected": True}}
    for name, content in contents.items():
        (tmp_path / f"{name}.jpg").touch()
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    assert load_captions(str(tmp_path)).by_image() == {"a.jpg": ["a dog"], "b.jpg": ["a dog"]}


def test_names_of_files_are_no_captions(tmp_path: Path) -> None:
    """As beside images in Multi30k's lists of a split, and in Crisscrossed Captions."""
    read = load(tmp_path / "c.csv", "image,caption\na.jpg,b.jpg\nc.jpg,d.jpg:623\ne.jpg,an e.jpg\n")
    assert pairs(read) == [("e.jpg", "an e.jpg")]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("x\n")
    (tmp_path / "in" / "train_images.txt").write_text("a.jpg\nb.jpg\n")
    assert load_captions(str(tmp_path / "in")).texts == ["x"]


@pytest.mark.parametrize(
    "record",
    [
        {"file_name": "a.jpg", "additional_feature": "a first value"},
        {"image/key": "a", "de": {"caption": ["ein Hund"]}, "en": {"caption": ["a dog"]}},
        {"imageGcsUri": "gs://b/a.jpg", "classificationAnnotation": {"displayName": "dog"}},
    ],
    ids=lambda record: next(iter(record)),
)
def test_one_record_is_not_taken_for_captions_by_name(
    tmp_path: Path, record: dict[str, Any]
) -> None:
    """A file of one line in JSON Lines is a document, too."""
    for count in (1, 2):
        with pytest.raises(BadInputError, match=f"needs the columns .*it has {next(iter(record))}"):
            load(tmp_path / "c.jsonl", "\n".join([json.dumps(record)] * count))


def test_names_that_datasets_gave_to_captions(tmp_path: Path) -> None:
    """Wikipedia's WIT, of which each row has some; DiffusionDB; ImageInWords; AI Challenger."""
    wit = (
        "page_title\timage_url\tcaption_reference_description\tcaption_attribution_description\t"
        "context_page_description\nP\th/a.jpg\tx\tq\tc\nP\th/b.jpg\t\ty\tc\nP\th/c.jpg\t\t\tc\n"
    )
    assert load(tmp_path / "c.tsv", wit).texts == ["x", "y"]
    read = load(tmp_path / "c.json", '{"a.png": {"p": "x", "se": 3, "sa": "k_lms"}}')
    assert pairs(read) == [("a.png", "x")]
    read = load(tmp_path / "c.jsonl", '{"image/key": "a", "IIW": "x", "IIW-P5B": "q"}')
    assert pairs(read) == [("a", "x")]
    read = load(tmp_path / "c.json", '[{"url": "h/1", "image_id": "a.jpg", "caption": ["x", "y"]}]')
    assert read.texts_in([("a.jpg", "a.jpg")]) == {"a.jpg": ["x", "y"]}
    unsplash = "photo_id\tphoto_url\tphoto_description\tai_description\na\tu\tx\tq\nb\tu\t\ty\n"
    assert pairs(load(tmp_path / "c.tsv", unsplash)) == [("a", "x"), ("b", "y")]
    for column in ("Paragraph", "desc", "cap"):
        assert load(tmp_path / "c.csv", f"Image_name,{column},train\n7,x,True\n").texts == ["x"]
    text = "[/EN#1/people Two boys] hold [/EN#2/other/scene a red ball] ."
    read = load(tmp_path / "c.token", f"a.jpg#0\t{text}\n")
    assert read.texts == ["Two boys hold a red ball ."]


def test_it_is_said_which_of_several_captions_is_read(tmp_path: Path) -> None:
    """As where a model wrote one beside that of the web page."""
    table = frame(("a.jpg", "x")).assign(raw_caption="y", text_length=1, all_captions="z")
    table.to_parquet(tmp_path / "c.parquet")
    for read in (
        load_captions(str(tmp_path / "c.parquet")),
        load(tmp_path / "c.csv", table.to_csv(index=False)),
        load(tmp_path / "c.json", table.to_json(orient="records")),
    ):
        assert read.texts == ["x"]
        assert "captions are those of caption, not of raw_caption, all_captions" in read.notes[0]
    said = {"image": "a.jpg", "messages": turns("role", "content", "?", "a dog")}
    read = load(tmp_path / "c.json", json.dumps([said]))
    assert "of each conversation the first answer is the caption" in read.notes[0]


def test_columns_in_groups(tmp_path: Path) -> None:
    """As Mechanical Turk, Toloka and pandas' json_normalize name them."""
    for image, caption in (
        ("Input.image_url", "Answer.caption"),
        ("INPUT:image", "OUTPUT:caption"),
        ("image.file_name", "sentence.raw"),
    ):
        read = load(tmp_path / "c.csv", f"HITId,{image},{caption}\n1,a.jpg,a dog\n")
        assert read.texts == ["a dog"]


def test_what_the_vgg_image_annotator_writes(tmp_path: Path) -> None:
    entries = {
        "a.jpg12": {"filename": "a.jpg", "regions": [], "file_attributes": {"caption": "a dog"}},
        "b.jpg9": {"filename": "b.jpg", "regions": [], "file_attributes": {}},
    }
    project = {"_via_settings": {}, "_via_img_metadata": entries, "_via_attributes": {"file": {}}}
    for document in (entries, project):
        assert pairs(load(tmp_path / "c.json", json.dumps(document))) == [("a.jpg", "a dog")]
    table = 'filename,file_size,file_attributes\na.jpg,12,"{""caption"":""a dog""}"\nb.jpg,9,"{}"\n'
    read = load(tmp_path / "c.csv", table)
    assert pairs(read) == [("a.jpg", "a dog")]
    assert "left out, since they are blank: 1" in read.notes[0]


def test_captions_without_a_letter_are_said(tmp_path: Path) -> None:
    for name, text in {"a": "0 0.5 0.5 0.1 0.1\n1 0.2 0.2 0.3 0.3\n", "b": "犬"}.items():
        (tmp_path / f"{name}.jpg").touch()
        (tmp_path / f"{name}.txt").write_text(text)
    (note,) = load_captions(str(tmp_path)).notes
    assert note == f"{tmp_path}: captions without a letter: 2, first a.jpg"


@pytest.mark.parametrize("folder", [".ipynb_checkpoints", "$RECYCLE.BIN", "__MACOSX"])
def test_captions_in_folders_that_systems_leave_behind_are_not_read(
    tmp_path: Path, folder: str
) -> None:
    load(tmp_path / folder / "captions.csv", "image,caption\na.jpg,old\n")
    load(tmp_path / "in" / "captions.csv", "image,caption\na.jpg,new\n")
    assert load_captions(str(tmp_path)).by_image() == {"in/a.jpg": ["new"]}


def table_of(count: int) -> list[str]:
    return ["image,caption", *(f'{n}.jpg,"photo {n}, ""big"""' for n in range(count))]


@pytest.mark.parametrize("bad", ['"a dog', '"a dog" there', '"', 'the "dog', 'dog"'])
def test_a_stray_quote_swallows_nothing(tmp_path: Path, bad: str) -> None:
    lines = [*table_of(200), f"bad.jpg,{bad}", *table_of(150)[1:]]
    read = load(tmp_path / "c.csv", "\n".join(lines))
    assert len(read) == 351
    assert read.texts[200] == bad
    assert max(map(len, read.texts)) < 20
    if bad.startswith('"'):
        assert "first line 202" in read.notes[0]


def test_captions_of_several_lines_and_long_ones_are_named(tmp_path: Path) -> None:
    lines = ["image,caption", 'a.jpg,"one\n\ntwo, three"', f"b.jpg,{'x' * 3000}", "c.jpg,d"]
    read = load(tmp_path / "c.csv", "\n".join(lines))
    assert read.texts == ["one\n\ntwo, three", "x" * 3000, "d"]
    assert "several lines, first line 2" in read.notes[0]
    assert read.notes[1].endswith("more than 2,000 characters: 1, first line 5")


def test_a_stray_quote_swallows_no_rows_of_numbers(tmp_path: Path) -> None:
    lines = ['139,"a dog', "140,a cat", '"141,a pig', '142",a "cow"', '143,a"']
    read = load(tmp_path / "c.csv", "\n".join(["image_id,caption", *lines]))
    assert read.image_ids == ["139", "140", "141", "142", "143"]
    assert read.texts == ['"a dog', "a cat", "a pig", 'a "cow"', 'a"']
    assert "3 lines hold a lone quote" in read.notes[0]


def test_a_text_in_a_column_without_name_is_no_record(tmp_path: Path) -> None:
    table = "image,caption,,\na.jpg,a dog,,\nb.jpg,a cat,grey,\n"
    read = load(tmp_path / "c.csv", table)
    assert (read.texts, "line 3 has 3 fields where 2" in read.notes[0]) == (["a dog"], True)
    assert load(tmp_path / "c.csv", table.replace(",grey,", ",,")).texts == ["a dog", "a cat"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("a.jpg,a dog,running", "has 3 fields where 2 are expected: put quotes"),
        ('a.jpg,a dog, "running"', "has 3 fields where 2 are expected: put quotes"),
        ("9.jpg   A dog", "has 1 fields where 2 are expected"),  # as in Flickr30k's results.csv
    ],
)
def test_a_line_that_is_no_record_is_left_out_and_named(
    tmp_path: Path, line: str, says: str
) -> None:
    for count in (1, 2):
        read = load(tmp_path / "c.csv", "\n".join([*table_of(20), *[line] * count]))
        assert len(read) == 20
        assert f"line 22 {says}" in read.notes[0]
        assert f"records left out: {count}" in read.notes[0]
    with pytest.raises(BadInputError, match=f"line 22 {says}.*3 such records"):
        load(tmp_path / "c.csv", "\n".join([*table_of(20), *[line] * 3]))


@pytest.mark.parametrize("head", ["image,caption\n", ""])
def test_commas_of_prose_need_no_quotes(tmp_path: Path, head: str) -> None:
    read = load(tmp_path / "c.csv", f"{head}a.jpg,a dog, big, running\nb.jpg,a cat\n")
    assert pairs(read) == [("a.jpg", "a dog, big, running"), ("b.jpg", "a cat")]
    says = "1 captions hold a ',' without quotes, and were taken whole, first line"
    assert read.notes == (f"{tmp_path / 'c.csv'}: {says} {2 if head else 1}",)
    read = load(tmp_path / "c.csv", "file,caption,split\na, 1.jpg,a dog, running,train\n")
    assert pairs(read) == [("a, 1.jpg", "a dog, running")]


@pytest.mark.parametrize(
    "table",
    [
        "# by me\n\nimage,caption\na.jpg,x\n",
        "My photos;;\nNo.;File name;Caption\n1;a.jpg;x\n",
        "a.jpg,x\nb.jpg,caption\n",
    ],
)
def test_a_title_before_the_header(tmp_path: Path, table: str) -> None:
    assert pairs(load(tmp_path / "c.csv", table))[0] == ("a.jpg", "x")


GOOD = '{"image": "a.jpg", "caption": "x"}'


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (GOOD + '\n{"image": "b.', "line 2 is not valid JSON"),
        (GOOD + '\n{"image": "b.jpg", "caption": 5}', "line 2, caption: the caption is no text"),
        (GOOD + '\n"b.jpg"', "line 2 holds str ('b.jpg')"),
        (f'[{GOOD}, {{"image": ["b", "c"], "caption": "y"}}]', "entry 2, image names no image"),
        ('{"a.jpg": "x", "b.jpg": 5}', "entry b.jpg: the caption is no text"),
    ],
)
def test_one_broken_record_costs_no_other(tmp_path: Path, content: str, says: str) -> None:
    read = load(tmp_path / "c", content)
    assert read.texts == ["x"]
    assert says in read.notes[0]
    assert "records left out: 1" in read.notes[0]


@pytest.mark.parametrize(
    ("part", "record", "says"),
    [
        ("images", {"file_name": "c.jpg"}, "images[2] has no id"),
        ("annotations", {"image_id": 2, "id": 9}, "annotations[2] has no image_id and caption"),
        ("annotations", {"image_id": 9, "caption": "y"}, "its 'images' list lacks: 9"),
    ],
)
def test_one_broken_record_of_cocos_costs_no_other(
    tmp_path: Path, part: str, record: dict[str, Any], says: str
) -> None:
    read = load(tmp_path / "c.json", json.dumps({**COCO, part: [*COCO[part], record]}))
    assert pairs(read) == [("2", "x")]
    assert says in read.notes[0]


def test_a_broken_or_blank_text_beside_an_image_is_named(tmp_path: Path) -> None:
    contents = {"1.txt": b"one", "2.txt": b"a\1\2", "3.txt": b"", "4.json": b'{"description": ""}'}
    with tarfile.open(tmp_path / "s.tar", "w") as archive:
        (tmp_path / "side").mkdir()
        for name, content in (contents | {"album.json": b'{"date": 1}'}).items():
            (tmp_path / "side" / name).write_bytes(content)
            archive.add(tmp_path / "side" / name, name)
    for source in ("side", "s.tar"):
        read = load_captions(str(tmp_path / source))
        assert (read.texts, len(read.images)) == (["one"], 3)
        assert "2.txt holds no captions: it is no text" in read.notes[0]
        assert "since they are blank: 2, first 3" in read.notes[1]


def test_null_is_no_caption(tmp_path: Path) -> None:
    read = load(tmp_path / "c.csv", "image,caption\na.jpg,null\nb.jpg,NaN\nc.jpg,x\nd.jpg,\n")
    assert pairs(read) == [("c.jpg", "x")]
    read = load(tmp_path / "c.json", '{"a": null, "b": ["x", null], "c": NaN}')
    assert pairs(read) == [("b", "x")]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"not json", "needs the columns image and caption .*; it has not json"),
        (b"file,size\na.jpg,9\n", "needs the columns .* it has file, size"),
        (b'{"a":', "not valid JSON"),
        (b"[" * 100_000, "RecursionError"),
        (b"[[1]]", r"holds list \(\[1\]\) where an object"),
        (b"{}", "COCO's caption format"),
        (b'{"images": [], "info": {"description": "x"}}', "COCO's caption format"),
        (b'{"images": [], "annotations": []}', "holds no captions"),
        (b'{"images": [], "annotations": [{"image_id": 1, "caption": "x"}]}', "lacks: 1"),
        (b'{"images": [{"id": null}], "annotations": []}', r"images\[0\].id names no image"),
        (b'[{"image": "a", "caption": 3.5}]', r"entry 1, caption: .* no text but float \(3.5\)"),
        (b'[{"image": "a", "caption": {"en": "x", "de": "y"}}]', "an object of en, de"),
        (b'[{"image": ["a", "b"], "caption": "x"}]', "names no image: it is list"),
        (b'[{"data": {"image": "a"}, "annotations": [{"result": []}]}]', "holds no captions"),
        (b'{"image": "a", "caption": "x"}\n{"image\n{"image', "line 2 is not valid JSON"),
        (b'<?xml version="1.0"?>\n<annotations><image name="1.jpg"/></annotations>', "it is XML"),
        (
            b"<annotation><filename>1.jpg</filename></annotation>",
            "table or JSON, or as text beside",
        ),
        (
            b'{"images": [{"id": 1}], "annotations": [{"image_id": 1, "category_id": 3}]}',
            "tells of an object, not of the image: name the file of captions",
        ),
        (b"PAR1 and no more", "cannot be read as captions"),
        (b"PK\x03\x04", "cannot be read as captions: BadZipFile"),
        (b"\x80\x04\x95", "a pickle"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "older Excel"),
        (b"SQLite format 3\0", "export the table as CSV"),
        (b"\x28\xb5\x2f\xfd", "zstd: unpack it"),
        (rb"{\rtf1 image,caption}", "plain text"),
        (b"\x1f\x8b broken", "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
        (bytes(range(256)), "no text"),
        (bytes(100), "no text"),
        (gzip.compress(bytes(70_000_000), mtime=0), "more than 200 times"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(BadInputError, match=says) as raised:
        load(tmp_path / "file", content)
    assert str(tmp_path / "file") in str(raised.value)


def test_a_column_without_text_is_named(tmp_path: Path) -> None:
    of_languages = pa.array([[("en", "x")]], pa.map_(pa.string(), pa.string()))
    for values in ([1.5], [True], [[1, 2]], [pd.Timestamp(0)], of_languages):
        table = pa.table({"image": ["a"], "caption": values})
        pq.write_table(table, tmp_path / "c.parquet")
        with pytest.raises(BadInputError, match=r"the column caption holds .*, no text"):
            load_captions(str(tmp_path / "c.parquet"))


def test_lone_surrogates_can_be_written_again(tmp_path: Path) -> None:
    text = json.dumps([{"image": "a\udce9.jpg", "caption": "x \ud83d\ude00 \ud800 y"}])
    read = load(tmp_path / "c.json", text)
    assert pairs(read) == [("a\ufffd.jpg", "x 😀 \ufffd y")]
    write_captions(str(tmp_path / "w.parquet"), read)


def test_texts_beside_images(tmp_path: Path) -> None:
    contents = {
        **{"side/a.jpg": "1", "side/a.txt": "one\ntwo\n", "side/b/c.png": "1", "side/d.jpg": "1"},
        **{"side/b/c.json": '{"caption": "three"}', "hub/a.txt": "no"},
        "hub/metadata.jsonl": '{"file_name": "a.jpg", "text": "x"}',
        "hub/train/metadata.csv": "file_name,text\na.jpg,y\n",
    }
    for name, content in contents.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    read = load_captions(str(tmp_path / "side"))
    assert read.by_image() == {"a.jpg": ["one", "two"], "b/c.png": ["three"]}
    assert load_captions(str(tmp_path / "hub")).by_image() == {"a.jpg": ["x"], "train/a.jpg": ["y"]}
    takeout = {"1.jpg.supplemental-metadata": "x", "1.jpg.suppl(2)": "y", "1.jpg(3)": "z"}
    for name, text in takeout.items():
        said = json.dumps({"title": "1.jpg", "description": text, "url": "https://h"})
        (tmp_path / "takeout").mkdir(exist_ok=True)
        (tmp_path / "takeout" / f"{name}.json").write_text(said)
    (tmp_path / "takeout" / "4.JPG.TXT").write_text("w")
    beside = load_captions(str(tmp_path / "takeout")).by_image()
    assert beside == {"1.jpg": ["x"], "1(2).jpg": ["y"], "1(3).jpg": ["z"], "4.JPG": ["w"]}
    long = (
        "original_0a1b2c3d-aaaa-bbbb-cccc-1234567890ab_"  # Takeout cuts names here, and after one
    )
    for name in (f"{long}P.jpg", f"{long}P(1).jpg", f"{long[:-1]}.jpg"):
        (tmp_path / "cut").mkdir(exist_ok=True)
        (tmp_path / "cut" / name).touch()
    for name in (long, f"{long}(1)", "orig"):  # the last may be of any of them
        (tmp_path / "cut" / f"{name}.json").write_text(json.dumps({"description": name[-3:]}))
    beside = load_captions(str(tmp_path / "cut")).by_image()
    assert beside == {f"{long}P.jpg": ["ab_"], f"{long}P(1).jpg": ["(1)"], "orig": ["rig"]}
    coco = json.dumps(COCO | {"annotations": [{"image_id": 1, "caption": "x"}]})
    load(tmp_path / "coco" / "annotations" / "captions_val2017.json", coco)
    (tmp_path / "coco" / "annotations" / "instances_val2017.json").write_text("{}")
    assert load_captions(str(tmp_path / "coco")).by_image() == {"1": ["x"]}
    (tmp_path / "coco" / "annotations" / "captions_val2017.json").unlink()
    (tmp_path / "coco" / "1.json").write_text("{")
    with pytest.raises(BadInputError, match=r"holds no captions; .*coco/1\.json is not valid JSON"):
        load_captions(str(tmp_path / "coco"))
    (tmp_path / "none").mkdir()
    with pytest.raises(BadInputError, match="a folder without captions"):
        load_captions(str(tmp_path / "none"))


def test_what_a_prompt_does_not_want_is_no_caption(tmp_path: Path) -> None:
    """The text that AUTOMATIC1111's web interface writes beside each picture."""
    (tmp_path / "a.png").touch()
    settings = "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512"
    for text in (f"a dog\nNegative prompt: cat, blurry\n{settings}", f"a dog\n{settings}\n"):
        (tmp_path / "a.txt").write_text(text)
        assert load_captions(str(tmp_path)).by_image() == {"a.png": ["a dog"]}
    (tmp_path / "a.txt").write_text(f"Negative prompt: cat\n{settings}")
    (tmp_path / "b.txt").write_text("a pup")
    assert load_captions(str(tmp_path)).texts == ["a pup"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train.csv", "image,caption\n1.jpg,a dog\n"),
        ("data.jsonl", '{"image": "1.jpg", "text": "a dog"}'),
        ("annotations.json", '[{"file_name": "1.jpg", "caption": "a dog"}]'),
    ],
)
def test_the_only_table_of_a_folder_whatever_its_name(
    name: str, content: str, tmp_path: Path
) -> None:
    for other, text in (("README.txt", "A set of images."), ("images/1.jpg", ""), (name, content)):
        (tmp_path / other).parent.mkdir(exist_ok=True)
        (tmp_path / other).write_text(text)
    assert load_captions(str(tmp_path)).by_image() == {"1.jpg": ["a dog"]}
    (tmp_path / "another.csv").write_text("image,caption\n1.jpg,a cat\n")
    assert load_captions(str(tmp_path)).by_image()["README"] == ["A set of images."]
    (tmp_path / name).unlink()
    (tmp_path / "another.csv").write_text("license,holder\n")
    assert load_captions(str(tmp_path)).by_image() == {"README": ["A set of images."]}
    (tmp_path / "README.txt").unlink()
    with pytest.raises(BadInputError, match=r"another\.csv needs the columns image and caption"):
        load_captions(str(tmp_path))


@pytest.mark.parametrize(
    "contents",
    [
        {"Images/1.jpg": "", "captions.txt": "image,caption\n1.jpg,x\n"},
        {"in/Images/1.jpg": "", "in/Images/1.jpg.json": '{"title": "1.jpg", "description": "x"}'},
        {"annotations/captions_val2017.json": '{"1": ["x"]}', "annotations/instances.json": "{"},
        {"in/1.jpg": "", "in/1.txt": "x", "__MACOSX/in/._1.txt": "\0"},
    ],
    ids=lambda contents: [*contents][-1],
)
def test_a_zip_is_read_as_the_folder_in_it(tmp_path: Path, contents: dict[str, str]) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    collection = [("in/Images/1.jpg", "in/Images/1.jpg")]
    assert load_captions(str(tmp_path / "a.zip")).texts_in(collection) == {"in/Images/1.jpg": ["x"]}


def test_a_zip_of_zeros_is_not_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("captions.csv", bytes(70_000_000))
    with pytest.raises(BadInputError, match="more than 200 times"):
        load_captions(str(tmp_path / "a.zip"))


def test_a_spreadsheet_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "c.xlsx", "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
    with pytest.raises(BadInputError, match=r"it is a spreadsheet .* save the table as CSV"):
        load_captions(str(tmp_path / "c.xlsx"))


def _element(name: str, *items: str) -> str:
    """A property of an XMP packet."""
    listed = "".join(f"<rdf:li xml:lang='x-default'>{item}</rdf:li>" for item in items)
    return f"<dc:{name}><rdf:Alt>{listed}</rdf:Alt></dc:{name}>"


def _xmp(properties: str) -> str:
    return (
        "<?xpacket begin='\ufeff'?><x:xmpmeta xmlns:x='adobe:ns:meta/'>"
        "<rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'><rdf:Description "
        f"xmlns:dc='http://purl.org/dc/elements/1.1/'>{properties}</rdf:Description></rdf:RDF>"
        "</x:xmpmeta><?xpacket end='w'?>"
    )


def _iptc(*data_sets: tuple[int, bytes]) -> bytes:
    """The APP13 segment of a JPEG with these data sets of record 2 (IPTC-IIM 4.2)."""
    data = b"".join(struct.pack(">BBBH", 28, 2, n, len(text)) + text for n, text in data_sets)
    resource = b"8BIM" + struct.pack(">HxxI", 0x0404, len(data)) + data + b"\0" * (len(data) % 2)
    body = b"Photoshop 3.0\0" + resource
    return b"\xff\xed" + struct.pack(">H", len(body) + 2) + body


def _save(path: Path, description: bytes = b"", iptc: bytes = b"", **options: Any) -> None:
    """A picture whose file says something of it."""
    path.parent.mkdir(exist_ok=True)
    exif = Image.Exif()
    if description:
        exif[0x010E] = description
    picture = io.BytesIO()
    formats = {".jpg": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".png": "PNG"}
    Image.effect_noise((700, 700), 50).save(picture, formats[path.suffix], exif=exif, **options)
    content = picture.getvalue()
    path.write_bytes(content[:2] + iptc + content[2:])


def test_what_images_say_themselves(tmp_path: Path) -> None:
    """As Lightroom, Picasa, phones and Windows write it into the files of photographs."""
    photos = tmp_path / "photos"
    both = _xmp(_element("description", "a dog") + _element("subject", "beach")).encode()
    keywords = _xmp(_element("subject", "beach", "dog")).encode()
    _save(photos / "xmp.jpg", b"an Exif text", xmp=both)
    _save(photos / "keywords.jpg", b"SONY DSC", xmp=keywords)
    _save(photos / "sub.webp", xmp=keywords)
    _save(photos / "whole.tif", "ein Fluß".encode())
    _save(photos / "exif.jpg", "ein Café in Lyon".encode("cp1252"))
    _save(photos / "words.jpg", "雪の中の犬".encode())
    _save(photos / "phone.jpg", b"hdrpl")
    _save(photos / "name.jpg", b"IMG 0001.JPG")
    cat = _iptc((120, b"a cat on a sofa"))
    _save(photos / "damaged.jpg", xmp=b"<rdf:Alt>", iptc=cat)
    _save(photos / "encoding.jpg", xmp=b"<?xml version='1.0' encoding='gbk'?><a/>", iptc=cat)
    _save(photos / "filled.jpg", xmp=both + b"\0\0")
    _save(photos / "cut.jpg", b"\xff\xfea\0 ", iptc=cat)  # UTF-16 that breaks off
    _save(photos / "iptc.jpg", iptc=_iptc((25, b"cat"), (25, "für".encode())))
    text = PngInfo()
    text.add_itxt("XML:com.adobe.xmp", both.decode())
    _save(photos / "a.png", pnginfo=text)
    _save(photos / "beside.jpg", xmp=both)
    (photos / "beside.txt").write_text("what is beside it counts")
    (photos / "none.jpg").write_bytes(b"no picture")
    expected = {
        "xmp.jpg": ["a dog"],
        "keywords.jpg": ["beach, dog"],
        "sub.webp": ["beach, dog"],
        "whole.tif": ["ein Fluß"],
        "exif.jpg": ["ein Café in Lyon"],
        "words.jpg": ["雪の中の犬"],
        "damaged.jpg": ["a cat on a sofa"],
        "encoding.jpg": ["a cat on a sofa"],
        "filled.jpg": ["a dog"],
        "cut.jpg": ["a cat on a sofa"],
        "iptc.jpg": ["cat, für"],
        "a.png": ["a dog"],
        "beside.jpg": ["what is beside it counts"],
    }
    read = load_captions(str(photos))
    assert read.by_image() == expected
    assert not read.notes
    shutil.make_archive(str(photos), "zip", photos)
    assert load_captions(f"{photos}.zip").by_image() == expected


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", None),
        ("a.txt", "a dog".encode("utf-16")[:-1]),
        ("a.json", b"[" * 200_000),
        ("a.xmp", b"<?xml version='1.0' encoding='gbk'?><a/>"),
    ],
    ids=["link to nothing", "broken off", "nested", "encoding"],
)
def test_what_is_beside_an_image_and_cannot_be_read_ends_nothing(
    tmp_path: Path, name: str, content: bytes | None
) -> None:
    for image in "ab":
        (tmp_path / f"{image}.jpg").touch()
    if content is None:
        (tmp_path / name).symlink_to("gone.txt")
    else:
        (tmp_path / name).write_bytes(content)
    (tmp_path / "b.txt").write_text("a cat")
    read = load_captions(str(tmp_path))
    assert read.by_image() == {"b.jpg": ["a cat"]}
    assert name in read.notes[0]


def test_images_that_lead_nowhere_say_nothing(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.jpg").symlink_to(f".git/annex/objects/{name}")
    (tmp_path / "b.txt").write_text("a cat")
    read = load_captions(str(tmp_path))
    assert (read.by_image(), read.notes) == ({"b.jpg": ["a cat"]}, ())


def test_xmp_beside_images(tmp_path: Path) -> None:
    """As Lightroom names them, without the image's ending, and as darktable does, with it."""
    contents = {
        "a.xmp": _element("description", "a dog") + _element("subject", "beach"),
        "b.CR2.xmp": _element("title", "B")
        + _element("description", "SONY DSC")
        + _element("subject", "beach", "dog &amp; cat"),
        "c.jpg.xmp": _element("title", "C"),
        "e.jpg.xmp": "<dc:description>a pup</dc:description><dc:subject>beach</dc:subject>",
        "d.jpg.xmp": "<rdf:Alt>",
    }
    for name, inner in contents.items():
        (tmp_path / name).write_text(_xmp(inner))
        (tmp_path / f"{name[0]}.jpg").touch()
    read = load_captions(str(tmp_path))
    paths = [(f"{name}.jpg", f"{name}.jpg") for name in "abcde"]
    expected = {"a.jpg": ["a dog"], "b.jpg": ["beach, dog & cat"], "e.jpg": ["a pup"]}
    assert read.texts_in(paths) == expected
    assert "d.jpg.xmp is not valid XMP" in read.notes[0]
    for name in "abde":
        next(tmp_path.glob(f"{name}.*xmp")).unlink()
    with pytest.raises(BadInputError, match=r"Exif\); what is beside c\.jpg says nothing of it"):
        load_captions(str(tmp_path))


@pytest.mark.parametrize(
    "columns",
    [
        {"path": ["1.jpg", "1.jpg", "1.jpg"]},  # base names of a folder for each class
        {"path": ["1.jpg", "1.jpg", "1.jpg"], "image_id": [7, 8, 9]},
        {"path": [None, None, None], "image_id": [0, 1, 2]},
        {"path": [None, "0.jpg", None], "url": ["http://h/a", "http://h/b", "http://h/c"]},
        {"path": [None, None, None], "image_name": ["x", "y", "z"]},
        {"path": [None, None, None], "file_path": ["x", "y", "x"], "folder": ["a", "b", "c"]},
    ],
    ids=str,
)
def test_captions_beside_images_in_a_table_are_those_of_their_rows(
    tmp_path: Path, columns: dict[str, list[Any]]
) -> None:
    images = [{"bytes": b"jpeg", "path": path} for path in columns.pop("path")]
    table = pa.table({"image": images, **columns, "caption": ["row 0", "row 1", "row 2"]})
    pq.write_table(table, tmp_path / "a.parquet")
    listed = [(image.image_id, image.path) for image in list_images(str(tmp_path / "a.parquet"))]
    captions = load_captions(str(tmp_path / "a.parquet"))
    assert captions.rows_among(listed).tolist() == [0, 1, 2]


def test_names_of_images_begin_anew_in_each_shard(tmp_path: Path) -> None:
    for shard in range(2):
        images = [{"bytes": b"jpeg", "path": f"{row}.jpg"} for row in range(2)]
        table = pa.table({"image": images, "text": [f"{shard} {row}" for row in range(2)]})
        (tmp_path / "data").mkdir(exist_ok=True)
        pq.write_table(table, tmp_path / "data" / f"train-{shard}.parquet")
    for source in (str(tmp_path), str(tmp_path / "data"), str(tmp_path / "data" / "*.parquet")):
        listed = sorted((image.path, image.path) for image in list_images(source))
        texts = load_captions(source).texts_in(listed)
        assert [texts[path][0] for path, _ in listed] == ["0 0", "0 1", "1 0", "1 1"]


def test_an_image_of_one_id_has_all_captions_of_its_rows(tmp_path: Path) -> None:
    image = {"bytes": b"jpeg", "path": "1.jpg"}
    table = pa.table({"image": [image] * 2, "image_id": [7, 7], "caption": ["x", "y"]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert load_captions(str(tmp_path / "a.parquet")).by_image() == {"7": ["x", "y"]}


@pytest.mark.parametrize("name", ["image", "images"])
def test_of_images_in_a_table_their_bytes_are_not_read(tmp_path: Path, name: str) -> None:
    image = {"bytes": b"jpeg", "path": "a.jpg"}
    table = pa.table({name: [[image] if name == "images" else image], "caption": ["a dog"]})
    pq.write_table(table, tmp_path / "a.parquet", compression="none", use_dictionary=False)
    content = bytearray((tmp_path / "a.parquet").read_bytes())
    column = pq.read_metadata(tmp_path / "a.parquet").row_group(0).column(0)
    assert column.path_in_schema.endswith("bytes")
    end = column.data_page_offset + column.total_compressed_size
    content[column.data_page_offset : end] = b"\xff" * column.total_compressed_size
    assert pairs(load(tmp_path / "a.parquet", bytes(content))) == [("a.jpg", "a dog")]


def test_what_hugging_face_saves_to_disk(tmp_path: Path) -> None:
    table = pa.table({"image": [{"bytes": b"jpeg", "path": "a.jpg"}], "caption": [["x", "y"]]})
    with pa.ipc.new_stream(tmp_path / "data-00000-of-00001.arrow", table.schema) as stream:
        stream.write_table(table)
    for name in ("dataset_info.json", "dataset_infos.json", "state.json"):
        (tmp_path / name).write_text("{}")
    assert load_captions(str(tmp_path)).by_image() == {"a.jpg": ["x", "y"]}


def test_tars_one_after_another_are_read_whole(tmp_path: Path) -> None:
    """As `cat` puts them together, and as `lib.images.archives` reads them."""
    shards = []
    for name in "ab":
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as archive:
            member = tarfile.TarInfo(f"{name}.txt")
            member.size = 5
            archive.addfile(member, io.BytesIO(b"a dog"))
        shards.append(content.getvalue())
    read = load(tmp_path / "s.tar", b"".join(shards))
    both = [("s.tar/a", "a dog"), ("s.tar/b", "a dog")]
    assert pairs(read) == both
    assert pairs(load(tmp_path / "z" / "s.tar", gzip.compress(b"".join(shards)))) == both
    read = load(tmp_path / "s.tar", b"".join([*shards, b"damage".ljust(512)]))
    assert pairs(read) == both
    assert "read in part: a damaged header at byte 20,480" in read.notes[0]


def test_webdataset_says_once_what_txt_and_json_both_say(tmp_path: Path) -> None:
    """As img2dataset writes its shards."""
    for shard in range(2):
        with tarfile.open(tmp_path / f"{shard:05}.tar", "w") as archive:
            record = json.dumps({"caption": "a dog", "url": "http://h/q", "key": "0", "sha256": ""})
            members = {"0.jpg": "", "0.txt": "a dog", "0.json": record, "1.cls": "7"}
            for name, content in members.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content.encode()))
    for source in ("*.tar", "{00000..00001}.tar"):
        read = load_captions(str(tmp_path / source))
        assert pairs(read) == [("00000.tar/0.jpg", "a dog"), ("00001.tar/0.jpg", "a dog")]
        assert read.images["00000.tar/0.jpg"].url == "http://h/q"
    with pytest.raises(MissingError, match=r"00002\.tar is not there"):
        load_captions(str(tmp_path / "{00000..00002}.tar"))


@pytest.mark.parametrize("pattern", ["*/c.csv", "{1..2}/c.csv", "{1..2}/*.csv"])
def test_files_of_several_folders_tell_of_the_images_there(tmp_path: Path, pattern: str) -> None:
    for folder in "12":
        load(tmp_path / folder / "c.csv", f"image,caption\na.jpg,in {folder}\n")
    read = load_captions(str(tmp_path / pattern))
    assert pairs(read) == [("1/a.jpg", "in 1"), ("2/a.jpg", "in 2")]


def test_names_with_dots_in_webdataset(tmp_path: Path) -> None:
    members = {"a.b.jpg": "", "a.b.txt": "x", "c/1.0.TXT": "y", "c/1.JPG": "", "c/1.1.txt": "z"}
    members |= {"._a.b.txt": "\0\5", "a.c.json": '["v", "w"]', "a.c.png": ""}
    with tarfile.open(tmp_path / "s.tar", "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content.encode()))
    read = load_captions(str(tmp_path / "s.tar")).by_image()
    expected = {"a.b.jpg": ["x"], "c/1.JPG": ["y", "z"], "a.c.png": ["v", "w"]}
    assert read == {f"s.tar/{name}": texts for name, texts in expected.items()}


def test_doubled_and_equal_captions_are_said(tmp_path: Path) -> None:
    table = frame(*[(f"{n}.jpg", f"photo {n}") for n in (0, 1, 0, 1)])
    read = load(tmp_path / "c.csv", table.to_csv(index=False))
    assert pairs(read) == [("0.jpg", "photo 0"), ("1.jpg", "photo 1")]
    assert "every caption twice" in read.notes[0]
    read = load(tmp_path / "c.csv", "image,caption\na.jpg,photo\nb.jpg,photo\n")
    assert "says the same of all images: 'photo'" in read.notes[0]


def test_written_captions_are_read_as_they_were(tmp_path: Path) -> None:
    captions = load(tmp_path / "c.json", json.dumps(COCO))
    write_captions(str(tmp_path / "w.parquet"), captions)
    again = load_captions(str(tmp_path / "w.parquet"))
    assert pairs(again) == pairs(captions) == [("2", "x")]
    assert again.images["2"] == captions.images["2"]


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=200) | st.text(st.sampled_from('",;\t\n{}[]:ab.jpg#0 '), max_size=60))
def test_no_content_ends_in_an_untyped_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes | str
) -> None:
    for start in (b"", b"image,caption\n", b'{"images":', b"PAR1", b"\x1f\x8b"):
        data = content.encode() if isinstance(content, str) else content
        with suppress(ImageSearchError):
            load(tmp_path_factory.getbasetemp() / "fuzzed", start + data)
