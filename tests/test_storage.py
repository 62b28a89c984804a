"""Whole writes, listings and tables, on the local disk and on a filesystem in memory."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lib.errors import BadInputError, MismatchError, MissingError
from lib.schemas import (
    Provenance,
    column_to_vectors,
    descriptor_schema,
    require_same,
    vectors_to_column,
)
from lib.storage import (
    join,
    list_files,
    read_bytes,
    read_json,
    read_schema,
    read_table,
    write_bytes_atomic,
    write_json_atomic,
    write_table_atomic,
)

PROVENANCE = Provenance("resnet18", "ab12", "resize 256, crop 224", "float32", 4)


@pytest.fixture(params=["local", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "db") if request.param == "local" else f"memory://{tmp_path.name}/db"


def test_bytes_and_json_come_back(root: str) -> None:
    write_bytes_atomic(join(root, "a", "b.bin"), b"one")
    write_bytes_atomic(join(root, "a", "b.bin"), b"two")
    assert read_bytes(join(root, "a", "b.bin")) == b"two"
    write_json_atomic(join(root, "a", "c.json"), {"x": [1]})
    assert read_json(join(root, "a", "c.json")) == {"x": [1]}
    assert [name.rsplit("/", 1)[-1] for name in list_files(join(root, "a"), ".json")] == ["c.json"]
    assert list_files(join(root, "absent"), ".json") == []


def test_a_table_comes_back_with_its_provenance(root: str) -> None:
    vectors = np.arange(8, dtype=np.float32).reshape(2, 4)
    schema = descriptor_schema(PROVENANCE)
    columns: dict[str, object] = {
        field.name: pa.nulls(2, field.type) for field in schema if field.name != "descriptor"
    }
    table = pa.table({**columns, "descriptor": vectors_to_column(vectors)}, schema=schema)
    write_table_atomic(table, join(root, "t.parquet"))
    read = read_table(join(root, "t.parquet"), ["descriptor"])
    np.testing.assert_array_equal(column_to_vectors(read["descriptor"]), vectors)
    found = Provenance.from_schema(read_schema(join(root, "t.parquet")), "t.parquet")
    assert found == PROVENANCE


def test_a_write_that_fails_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "kept.bin"
    write_bytes_atomic(str(target), b"old")
    with pytest.raises(TypeError):
        write_bytes_atomic(str(target), "not bytes")  # type: ignore[arg-type]
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["kept.bin"]


def test_files_being_written_are_not_listed(tmp_path: Path) -> None:
    (tmp_path / ".tmp-1.parquet").write_bytes(b"half")
    assert list_files(str(tmp_path), ".parquet") == []


def test_absent_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="absent"):
        read_json(str(tmp_path / "absent.json"))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(BadInputError, match="broken"):
        read_table(str(tmp_path / "broken.parquet"))
    with pytest.raises(BadInputError, match="broken"):
        read_schema(str(tmp_path / "broken.parquet"))


def test_a_table_without_provenance_says_what_to_run() -> None:
    with pytest.raises(BadInputError, match=r"jobs\.extract_descriptors"):
        Provenance.from_schema(pa.schema([]), "x.parquet")


def test_a_mismatch_names_both_sides() -> None:
    require_same("backbones", "resnet18", "resnet18", "")
    with pytest.raises(MismatchError, match=r"'resnet18' and 'resnet50'.*jobs\.train_embedder"):
        require_same("backbones", "resnet18", "resnet50", "Run jobs.train_embedder")
