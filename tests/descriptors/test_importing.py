"""Ready-made descriptors come in whole, harmful pickles do not come in at all."""

import json
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.import_descriptors import build_parser
from jobs.import_descriptors import import_descriptors as run_job
from lib.datasets.captions import load_captions
from lib.descriptors.import_formats import read_descriptor_file
from lib.descriptors.importing import ImportReport, import_descriptors
from lib.descriptors.safe_pickle import load_arrays
from lib.descriptors.store import index_descriptors, read_descriptors
from lib.errors import BadArgumentError, BadInputError, MismatchError, MissingError
from lib.parquet import read_table

IDS = [139, 7, 25, 300]
MATRIX = np.random.default_rng(0).normal(size=(4, 512)).astype(np.float32)


def features(shape: tuple[int, ...] = (1, 512)) -> dict[Any, np.ndarray]:
    return {i: row.reshape(shape) for i, row in zip(IDS, MATRIX, strict=True)}


def stored(db: Path) -> dict[str, np.ndarray]:
    index = index_descriptors(str(db))
    rows = read_descriptors(index.files, np.arange(len(index)))
    return dict(zip(index.image_ids.to_pylist(), rows, strict=True))


def assert_stored(db: Path) -> None:
    loaded = stored(db)
    assert sorted(loaded) == sorted(map(str, IDS))
    for image_id, row in zip(IDS, MATRIX, strict=True):
        np.testing.assert_array_equal(loaded[str(image_id)], row)


def write(path: Path) -> str:
    name = path.name
    if name == "tuples.pkl":
        path.write_bytes(pickle.dumps(features((512,)), protocol=2))
    elif name.endswith(".pkl"):
        path.write_bytes(pickle.dumps(features(), protocol=int(name[0])))
    elif name == "ids.npz":
        by_id: dict[str, Any] = {str(i): row for i, row in features().items()}
        np.savez(path, **by_id)
    elif name.endswith(".npz"):
        np.savez(path, ids=np.array(IDS), descriptors=MATRIX)
    elif name.endswith(".npy"):
        np.save(path, MATRIX)
        (path.parent / "a.ids.txt").write_text("\n".join(map(str, IDS)))
    elif name == "fixed.parquet":
        column = pa.FixedSizeListArray.from_arrays(MATRIX.reshape(-1), 512)
        pq.write_table(pa.table({"note": [1.0] * 4, "image_id": IDS, "x": column}), path)
    else:
        pq.write_table(pa.table({"id": list(map(str, IDS)), "vector": MATRIX.tolist()}), path)
    return str(path)


KINDS = ["0.pkl", "2.pkl", "4.pkl", "5.pkl", "tuples.pkl", "a.npz", "ids.npz", "a.npy"]


def test_ids_in_a_text_file_are_lines(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", MATRIX[:3])
    (tmp_path / "a.ids.txt").write_bytes("\ufeffTrip 1/a.jpg\r\nb c.jpg\r\n\r\nd.jpg\r\n".encode())
    ((ids, vectors),) = read_descriptor_file(str(tmp_path / "a.npy"))
    assert ids == ["Trip 1/a.jpg", "b c.jpg", "d.jpg"]
    assert np.array_equal(vectors, MATRIX[:3])


@pytest.mark.parametrize("name", [*KINDS, "fixed.parquet", "list.parquet"])
def test_every_kind_of_file_is_imported_exactly(tmp_path: Path, name: str) -> None:
    file = write(tmp_path / name)
    report = import_descriptors(read_descriptor_file(file), str(tmp_path / "db"))
    assert (report.imported, report.failed, report.descriptor_size) == (4, 0, 512)
    assert_stored(tmp_path / "db")
    again = import_descriptors(read_descriptor_file(file), str(tmp_path / "db"))
    assert (again.imported, again.already_described) == (0, 4)
    assert_stored(tmp_path / "db")


def test_a_fortran_ordered_big_endian_float64_array_keeps_its_values(tmp_path: Path) -> None:
    awkward = {1: np.asfortranarray(MATRIX[:1].astype(">f8")), np.int64(2): MATRIX[1]}
    for protocol in range(6):
        loaded = load_arrays(pickle.dumps(awkward, protocol=protocol), "a.pkl")
        np.testing.assert_array_equal(loaded[1], MATRIX[:1])
        np.testing.assert_array_equal(loaded[2], MATRIX[1])


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    "value",
    [
        Calls(os.system, "touch pwned"),
        Calls(eval, "open('pwned', 'w')"),
        Calls(Path, "pwned"),
        Calls(np.load, "pwned"),
        Calls(np.ndarray, (1 << 40,)),
        Calls(getattr, "x", "upper"),
        np.array([Calls(os.system, "touch pwned")], dtype=object),
        np.zeros(3, dtype=[("a", "f4")]),
        np.datetime64("2020-01-01"),
        OrderedDict(a=1),
        {1: Calls(os.system, "touch pwned")},
        len,
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_pickle_of_anything_but_arrays_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: Any, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    content = pickle.dumps({1: MATRIX[0], 2: value}, protocol=protocol)
    with pytest.raises(BadInputError, match=r"a\.pkl is (refused|no readable pickle)"):
        load_arrays(content, "a.pkl")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x80\x04", b"cos\nsystem\n(S'id'\ntR."])
def test_a_damaged_pickle_is_refused(content: bytes) -> None:
    with pytest.raises(BadInputError, match=r"a\.pkl"):
        load_arrays(content, "a.pkl")


@pytest.mark.reports
@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02Nr\xff\xff\xff\x7f.",
        b"\x80\x02Np2000000000\n.",
        b"\x80\x02]q\x00h\x00a.",
        pickle.dumps(np.zeros(9), 2).replace(b"q\x05", b"r\x00\x00\x00\x70"),
        # A text of 64 bytes, encoded again and again.
        b"\x80\x02X\x40\x00\x00\x00" + b"x" * 64 + b"q\x00X\x06\x00\x00\x00latin1q\x01]"
        b"c_codecs\nencode\nq\x02" + b"h\x02h\x00h\x01\x86R0" * 99 + b".",
    ],
    ids=["number", "number in text", "itself", "number in an array", "encodings"],
)
def test_a_small_pickle_takes_little(content: bytes) -> None:
    with pytest.raises(BadInputError, match=r"a\.pkl is refused"):
        load_arrays(content, "a.pkl")


def test_what_stands_in_a_pickle_many_times_is_looked_at_once() -> None:
    value: list[Any] = [MATRIX[0]]
    for _ in range(200):
        value = [value, value]
    loaded = load_arrays(pickle.dumps(value), "a.pkl")
    for _ in range(200):
        assert loaded[0] is loaded[1]
        loaded = loaded[0]
    np.testing.assert_array_equal(loaded[0], MATRIX[0])


def test_every_cut_of_a_pickle_is_refused() -> None:
    whole = pickle.dumps({1: MATRIX[0][:4]})
    for length in range(len(whole)):
        with pytest.raises(BadInputError):
            load_arrays(whole[:length], "a.pkl")


def test_results_link_to_the_urls_of_the_captions(tmp_path: Path) -> None:
    url = "http://images.cocodataset.org/val2017/000000000139.jpg"
    captions = {
        "images": [{"id": 139, "file_name": "000000000139.jpg", "coco_url": url}],
        "annotations": [{"image_id": 139, "caption": "a room"}],
    }
    (tmp_path / "captions.json").write_text(json.dumps(captions))
    file = write(tmp_path / "4.pkl")
    report = import_descriptors(
        read_descriptor_file(file),
        str(tmp_path / "db"),
        load_captions(str(tmp_path / "captions.json")),
    )
    assert report.without_caption == 3
    (stored_file,) = (tmp_path / "db" / "descriptors").glob("*.parquet")
    rows = {row["image_id"]: row for row in read_table(str(stored_file)).to_pylist()}
    assert (rows["139"]["uri"], rows["139"]["path"]) == (url, "000000000139.jpg")
    assert (rows["7"]["uri"], rows["7"]["path"]) == ("", "7")


def test_a_descriptor_that_cannot_be_used_is_a_recorded_failure(tmp_path: Path) -> None:
    bad = features() | {25: np.zeros(511, np.float32), 300: np.full(512, np.nan)}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(bad))
    for _ in range(2):
        report = import_descriptors(
            read_descriptor_file(str(tmp_path / "a.pkl")), str(tmp_path / "db")
        )
        assert report.failed == 2
    (file,) = (tmp_path / "db" / "failures").glob("*.parquet")
    rows = read_table(str(file)).to_pylist()
    assert [(row["image_id"], row["reason"]) for row in rows] == [
        ("25", "wrong_length"),
        ("300", "not_finite"),
    ]
    assert sorted(stored(tmp_path / "db")) == ["139", "7"]


def test_a_first_descriptor_that_is_wrong_fails_alone(tmp_path: Path) -> None:
    vectors = pa.array([None, [1.0], *MATRIX.tolist()], pa.list_(pa.float32()))
    pq.write_table(pa.table({"id": [1, 2, *IDS], "x": vectors}), tmp_path / "a.parquet")
    report = import_descriptors(
        read_descriptor_file(str(tmp_path / "a.parquet")), str(tmp_path / "db")
    )
    assert (report.imported, report.failed, report.descriptor_size) == (4, 2, 512)
    assert_stored(tmp_path / "db")


@pytest.mark.reports
@pytest.mark.parametrize("none", ["null", "nan"])
def test_an_id_that_is_missing_or_comes_twice_costs_no_other(tmp_path: Path, none: str) -> None:
    ids = pa.array([139.0, 7.0, 25.0, 300.0, float("nan") if none == "nan" else None, 139.0])
    ids = ids if none == "nan" else ids.cast(pa.int64())
    vectors = [*MATRIX.tolist(), MATRIX[0].tolist(), MATRIX[0].tolist()]
    for twice, expected in ((0, (4, 1, 1)), (1, (4, 0, 2))):
        vectors[-1] = MATRIX[twice].tolist()
        table = pa.table({"image_id": ids, "x": pa.array(vectors, pa.list_(pa.float32()))})
        # Enough others that these are a few.
        more = pa.table({"image_id": range(1_000, 1_020), "x": [[1.0] * 512] * 20}).cast(
            table.schema
        )
        pq.write_table(pa.concat_tables([table, more]), tmp_path / "a.parquet")
        db = tmp_path / f"db{twice}"
        report = import_descriptors(read_descriptor_file(str(tmp_path / "a.parquet")), str(db))
        (note,) = report.notes
        assert "descriptor 5 has no image id" in note
        count = int(note.rpartition(" ")[2])
        assert (report.imported - 20, report.repeated, count) == expected
        loaded = stored(db)
        for image_id, row in zip(IDS, MATRIX, strict=True):
            np.testing.assert_array_equal(loaded[str(image_id)], row)


def test_descriptors_of_another_origin_do_not_mix(tmp_path: Path) -> None:
    file = write(tmp_path / "4.pkl")
    import_descriptors(read_descriptor_file(file), str(tmp_path / "db"), backbone="resnet18")
    other = tmp_path / "other.npz"
    np.savez(other, ids=np.array([1]), descriptors=MATRIX[:1])
    with pytest.raises(MismatchError, match="resnet18"):
        import_descriptors(read_descriptor_file(str(other)), str(tmp_path / "db"))
    assert_stored(tmp_path / "db")


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("a.pkl", lambda p: p.write_bytes(pickle.dumps([1])), "not a dict"),
        ("a.pkl", lambda p: p.write_bytes(pickle.dumps({1: [1.0]})), "not an array"),
        (
            "a.pkl",
            lambda p: p.write_bytes(pickle.dumps({1.5: MATRIX[0]})),
            "descriptor 1 has no image id",
        ),
        ("a.npz", lambda p: p.write_bytes(b"PK"), "cannot be read"),
        ("a.npz", lambda p: np.savez(p, descriptors=MATRIX), "needs the arrays"),
        ("a.npz", lambda p: np.savez(p, *MATRIX), r"needs the arrays.*; has arr_0 \(512,\)"),
        (
            "a.npz",
            lambda p: np.savez(p, **dict[str, Any]({f"x{n}": MATRIX for n in range(40)})),
            r"x7 \(4, 512\), and 32 more$",
        ),
        ("a.npz", lambda p: np.savez(p, ids=np.array(IDS[:3]), x=MATRIX), "4 descriptors and 3"),
        (
            "a.npz",
            lambda p: np.savez(p, ids=np.array([1, 1, 1, 3]), x=MATRIX),
            "1 comes again.*2 such",
        ),
        ("a.parquet", lambda p: p.write_bytes(b"PAR1"), "not a readable Parquet"),
        ("a.parquet", lambda p: pq.write_table(pa.table({"id": [1]}), p), "needs a column"),
        ("a.csv", lambda p: p.write_text("id,x"), "no known kind"),
        ("a.npz", lambda p: np.savez(p, ids=np.array(1), x=MATRIX), "4 descriptors and 1 ids"),
        ("a.npz", lambda p: np.savez(p, ids=np.array(IDS), x=MATRIX[:, :0]), "holds no values"),
        ("a.npz", lambda p: np.savez(p, ids=np.array([], int), x=MATRIX[:0]), "file holds none"),
        ("a.pkl", lambda p: p.write_bytes(pickle.dumps({"ids": MATRIX[0], "x": MATRIX})), "'ids'"),
        (
            "a.pkl",
            lambda p: p.write_bytes(pickle.dumps({"a\udce9": MATRIX[0]})),
            "descriptor 1 has no image id",
        ),
    ],
)
def test_what_is_no_file_of_descriptors_is_refused(
    tmp_path: Path, name: str, make: Any, message: str
) -> None:
    make(tmp_path / name)
    with pytest.raises(BadInputError, match=message):
        import_descriptors(read_descriptor_file(str(tmp_path / name)), str(tmp_path / "db"))


def test_ids_must_be_named_for_npy_only(tmp_path: Path) -> None:
    np.save(tmp_path / "b.npy", MATRIX)
    with pytest.raises(BadArgumentError, match="--ids"):
        list(read_descriptor_file(str(tmp_path / "b.npy")))
    np.save(tmp_path / "names.npy", np.array([f"photo {i}.jpg" for i in IDS]))
    (batch,) = read_descriptor_file(str(tmp_path / "b.npy"), str(tmp_path / "names.npy"))
    assert batch[0][0] == "photo 139.jpg"
    np.save(tmp_path / "objects.npy", np.array([str(i) for i in IDS], object))
    (tmp_path / "headed.csv").write_text("\n".join(["id", *map(str, IDS)]))
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    np.savez(tmp_path / "zip.npz", ids=np.array(IDS))
    (tmp_path / "zip.npz").rename(tmp_path / "zip.npy")
    for name, message in (
        ("zip.npy", r"zip\.npy cannot be read as \.npy"),
        ("objects.npy", r"objects\.npy cannot be read as \.npy: .*astype\(str\)"),
        ("headed.csv", "4 descriptors and 5 ids; .* without a heading"),
        ("latin.txt", r"latin\.txt is not text in UTF-8"),
    ):
        with pytest.raises(BadInputError, match=message):
            list(read_descriptor_file(str(tmp_path / "b.npy"), str(tmp_path / name)))
    with pytest.raises(BadArgumentError, match="--ids goes with"):
        read_descriptor_file(write(tmp_path / "4.pkl"), "x.txt")
    with pytest.raises(MissingError):
        read_descriptor_file(str(tmp_path / "none.pkl"))


def test_the_job_reports_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = build_parser().parse_args([write(tmp_path / "4.pkl"), "--db", str(tmp_path / "db")])
    assert run_job(options) == ImportReport(imported=4, descriptor_size=512)
    assert "4 descriptors of 512 values imported" in capsys.readouterr().out
