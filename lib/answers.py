"""Text queries answered offline: the top k images of each, as values, a table, JSON or pictures."""

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from lib.captions import Captions
from lib.database import Database
from lib.display import Section, Tile, write_sections
from lib.errors import BadArgumentError, BadInputError, QueryError
from lib.queries import embed_queries
from lib.semantic_space import SemanticSpace
from lib.storage import (
    read_bytes,
    read_table,
    write_json_atomic,
    write_table_atomic,
)


@dataclass(frozen=True)
class Hit:
    """One image found."""

    rank: int  # from 1
    image_id: str
    score: float  # cosine
    uri: str


@dataclass(frozen=True)
class Answer:
    """What a query found; `error` says why it found nothing."""

    query: str
    unknown_words: list[str]
    hits: list[Hit]
    error: str = ""


def answer(
    queries: Sequence[str], space: SemanticSpace, database: Database, k: int
) -> list[Answer]:
    """The top k images of each query, best first.

    A query that cannot be embedded becomes an Answer with its `error`, so that it costs the others
    nothing. Raises BadArgumentError for k < 1.
    """
    if k < 1:
        raise BadArgumentError(f"k must be at least 1, not {k}")
    embeddings, problems = embed_queries(space.text, queries)
    rows, scores = database.search(embeddings, k)
    return [
        _answer(query, problem, space, database, rows[number], scores[number])
        for number, (query, problem) in enumerate(zip(queries, problems, strict=True))
    ]


def _answer(
    query: str,
    problem: QueryError | None,
    space: SemanticSpace,
    database: Database,
    rows: np.ndarray,
    scores: np.ndarray,
) -> Answer:
    unknown_words = space.text.unknown_words(query)
    if problem is not None:
        return Answer(query, unknown_words, [], str(problem))
    hits = [
        Hit(rank, database.image_ids[row], float(score), database.uris[row])
        for rank, (row, score) in enumerate(zip(rows, scores, strict=True), 1)
    ]
    return Answer(query, unknown_words, hits)


def read_queries(source: str) -> list[str]:
    """Queries of a file: .txt (one a line), .csv or .parquet (column `query`, else the only one).

    Blank lines are left out. Raises BadInputError where nothing is left.
    """
    if source.endswith((".csv", ".parquet")):
        table = _read_query_table(source)
        column = "query" if "query" in table.column_names else table.column_names[0]
        if column != "query" and table.num_columns > 1:
            raise BadInputError(f"{source} needs a column named query; has {table.column_names}")
        lines = [str(value) for value in table[column].to_pylist() if value is not None]
    else:
        lines = read_bytes(source).decode("utf-8", "replace").splitlines()
    queries = [line.strip() for line in lines if line.strip()]
    if not queries:
        raise BadInputError(f"{source} holds no queries")
    return queries


def _read_query_table(source: str) -> pa.Table:
    if source.endswith(".parquet"):
        return read_table(source)
    try:
        return pa_csv.read_csv(io.BytesIO(read_bytes(source)))
    except pa.ArrowInvalid as error:
        raise BadInputError(f"{source} cannot be read as CSV: {error}") from error


def write_answers(path: str, answers: Sequence[Answer], captions: Captions | None = None) -> None:
    """Write answers as .parquet (a row a hit), .json, .html or .png, by the ending of `path`."""
    if path.endswith(".parquet"):
        write_table_atomic(answers_table(answers), path)
    elif path.endswith(".json"):
        write_json_atomic(path, {"results": [asdict(item) for item in answers]})
    elif path.endswith((".html", ".png")):
        write_sections(path, "Semantic image search", answer_sections(answers, captions))
    else:
        raise BadArgumentError(f"--output {path}: ends in none of .parquet .json .html .png")


def answers_table(answers: Sequence[Answer]) -> pa.Table:
    """One row a hit: query, rank, image_id, score, uri."""
    schema = pa.schema(
        [
            ("query", pa.string()),
            ("rank", pa.int32()),
            ("image_id", pa.string()),
            ("score", pa.float32()),
            ("uri", pa.string()),
        ]
    )
    rows = [{"query": item.query, **asdict(hit)} for item in answers for hit in item.hits]
    return pa.Table.from_pylist(rows, schema)


def answer_sections(answers: Sequence[Answer], captions: Captions | None = None) -> list[Section]:
    """Answers as pictures under their queries, with captions where known."""
    known = captions.by_image() if captions else {}
    sections = []
    for item in answers:
        tiles = [
            Tile(
                hit.uri,
                f"{hit.rank}. {hit.image_id}  {hit.score:.3f}",
                known.get(hit.image_id, [])[:1],
            )
            for hit in item.hits
        ]
        unknown = f"unknown words: {', '.join(item.unknown_words)}" if item.unknown_words else ""
        sections.append(Section(item.query, tiles, item.error or unknown))
    return sections


def format_answer(item: Answer) -> str:
    """An answer as lines for a terminal: rank, image id, score, file."""
    lines = [item.query]
    if item.error:
        lines.append(f"  error: {item.error}")
    elif item.unknown_words:
        lines.append(f"  unknown words, left out: {', '.join(item.unknown_words)}")
    width = max((len(hit.image_id) for hit in item.hits), default=0)
    lines += [
        f"  {hit.rank:>3}  {hit.image_id:<{width}}  {hit.score:6.3f}  {hit.uri}"
        for hit in item.hits
    ]
    return "\n".join(lines)
