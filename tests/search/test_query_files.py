from pathlib import Path

import pandas as pd
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
    (tmp_path / "q.json").write_text('["orange juice"]')
    with pytest.raises(BadInputError, match="ends in none of"):
        list(iterate_queries(str(tmp_path / "q.json")))
    (tmp_path / "q.txt").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(BadInputError, match="UTF-8"):
        list(iterate_queries(str(tmp_path / "q.txt")))
    with pytest.raises(MissingError, match="is not there"):
        list(iterate_queries(str(tmp_path / "q2.txt")))
