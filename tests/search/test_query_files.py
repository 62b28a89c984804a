from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lib.errors import BadInputError, MissingError
from lib.search.query_files import iterate_queries


def test_queries_come_from_text_csv_and_parquet(tmp_path: Path) -> None:
    queries = ["orange juice", "two dogs, running"]
    (tmp_path / "q.txt").write_text("orange juice\n\n  two dogs, running \n")
    pd.DataFrame({"n": [1, 2], "query": queries}).to_csv(tmp_path / "q.csv", index=False)
    pd.DataFrame({"text": queries}).to_parquet(tmp_path / "q.parquet")
    for name in ("q.txt", "q.csv", "q.parquet"):
        assert list(iterate_queries(str(tmp_path / name))) == queries


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize(
    "table",
    [
        'n,query\n1,007\n2,"""black cat"" -dog, big"\n3,\n4,null\n',
        'Query;n\r\n007;1\r\n"""black cat"" -dog, big";2\r\n\r\nnull;3\r\n',
        'query\tquery\n007\t1\n"""black cat"" -dog, big"\t2\nnull\t3\n',
        ' text \n007\n"""black cat"" -dog, big"\nnull\n',
    ],
)
def test_cells_are_queries_as_they_are_written(tmp_path: Path, table: str, encoding: str) -> None:
    (tmp_path / "q.CSV").write_bytes(table.encode(encoding))
    queries = ["007", '"black cat" -dog, big', "null"]
    assert list(iterate_queries(str(tmp_path / "q.CSV"))) == queries


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"dog\ncat\n", "a column named query; it has dog"),  # no header: its first query
        (b"id;word\n1;dog\n", "a column named query; it has id, word"),
        (b"query\ncat\ndog, big\na, b\n", r"line 3 has 2 fields where 1 .*\(2 such records\)"),
        (b'query\n"black cat" -dog\n', "line 2 is no CSV"),
        (b'query\ncat\n"black cat\ndog\nbird\n', r"line 3 is no CSV.*\(3 such records\)"),
        (b"query\ncaf\xe9\n", "UTF-8"),
        ([["dog", "cat"]], "holds list<.*, no text"),
        ([b"dog"], "holds binary, no text"),
        ([1.5], "holds double, no text"),
    ],
)
def test_what_would_be_another_query_is_refused(
    tmp_path: Path, content: bytes | list[object], says: str
) -> None:
    path = tmp_path / ("q.csv" if isinstance(content, bytes) else "q.parquet")
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        pd.DataFrame({"query": content}).to_parquet(path)
    with pytest.raises(BadInputError, match=says):
        list(iterate_queries(str(path)))


@pytest.mark.reports
@pytest.mark.parametrize(
    ("name", "broken", "says"),
    [
        ("q.txt", b"caf\xe9", "line 8 is no UTF-8"),
        ("q.csv", b"caf\xe9", "line 8 is no UTF-8"),
        ("q.csv", b"dog, big", "line 8 has 2 fields where 1 are expected; put quotes"),
        ("q.csv", b'"black cat" -dog', "line 8 is no CSV"),
        ("q.csv", b'a\n"black cat', None),  # took what follows
        ("q.parquet", b"caf\xe9", "row 8 is no UTF-8"),
    ],
)
def test_one_broken_line_costs_no_other(
    tmp_path: Path, name: str, broken: bytes, says: str | None
) -> None:
    head = [b"query"] if name == "q.csv" else []
    lines = [*head, *(b"dog %d" % n for n in range(30))]
    lines.insert(7, broken)
    path = tmp_path / name
    if name == "q.parquet":
        texts = pa.array(lines, pa.binary()).view(pa.string())
        pq.write_table(pa.table({"query": texts.dictionary_encode()}), path)
    else:
        path.write_bytes(b"\n".join(lines))
    if says is None:
        with pytest.raises(BadInputError, match=r"line 9 is no CSV: .*\(25 such records\)"):
            list(iterate_queries(str(path)))
        return
    notes: list[str] = []
    assert list(iterate_queries(str(path), notes)) == [f"dog {n}" for n in range(30)]
    (note,) = notes
    assert note.startswith(f"{path}, {says}")
    assert note.endswith("; records left out: 1")


def test_a_file_without_queries_is_refused(tmp_path: Path) -> None:
    (tmp_path / "q.txt").write_text("\n \n")
    with pytest.raises(BadInputError, match="holds no queries"):
        list(iterate_queries(str(tmp_path / "q.txt")))
    (tmp_path / "q.csv").write_text("a,b\n1,2\n")
    with pytest.raises(BadInputError, match="column named query"):
        list(iterate_queries(str(tmp_path / "q.csv")))
    (tmp_path / "q.parquet").write_text("no Parquet")
    with pytest.raises(BadInputError, match="cannot be read as Parquet"):
        list(iterate_queries(str(tmp_path / "q.parquet")))
    pd.DataFrame({"query": ["dog"]}).to_parquet(tmp_path / "q.parquet")
    whole = bytearray((tmp_path / "q.parquet").read_bytes())
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    whole[footer : footer + 20] = b"\xff" * 20
    (tmp_path / "q.parquet").write_bytes(whole)
    with pytest.raises(BadInputError, match=r"q\.parquet cannot be read as Parquet"):
        list(iterate_queries(str(tmp_path / "q.parquet")))
    (tmp_path / "q.json").write_text('["orange juice"]')
    with pytest.raises(BadInputError, match="ends in none of"):
        list(iterate_queries(str(tmp_path / "q.json")))
    (tmp_path / "q.txt").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(BadInputError, match="UTF-8"):
        list(iterate_queries(str(tmp_path / "q.txt")))
    with pytest.raises(MissingError, match="is not there"):
        list(iterate_queries(str(tmp_path / "q2.txt")))
