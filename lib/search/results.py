"""Answers to text queries as values: for a terminal, a table, JSON, or pictures on a page."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath

import pyarrow as pa

from lib.database.interface import Filter
from lib.datasets.captions import Captions
from lib.errors import BadArgumentError, ImageSearchError
from lib.images.contact_sheet import Section, Tile, write_sections
from lib.search.engine import Request, Searcher, SearchResult
from lib.storage import write_json_atomic, write_table_atomic

ENDINGS = (".parquet", ".json", ".html", ".png")


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
    queries: Sequence[str], searcher: Searcher, k: int, wanted: Filter | None = None
) -> list[Answer]:
    """The top k images of each query, best first, among those that a filter lets through.

    A query that cannot be embedded becomes an Answer with its `error`, so that it costs the others
    nothing. Raises BadArgumentError for k < 1.
    """
    if k < 1:
        raise BadArgumentError(f"k must be at least 1, not {k}")
    found = searcher.answer([Request(query, k, filter=wanted) for query in queries])
    return [_answer(query, item, searcher) for query, item in zip(queries, found, strict=True)]


def _answer(query: str, found: SearchResult | ImageSearchError, searcher: Searcher) -> Answer:
    if isinstance(found, ImageSearchError):
        return Answer(query, searcher.space.text.unknown_words(query), [], str(found))
    hits = [
        Hit(rank, image.image_id, score, image.uri)
        for rank, (image, score) in enumerate(zip(found.images, found.scores, strict=True), 1)
    ]
    return Answer(query, found.unknown_words, hits)


def require_known_ending(path: str) -> None:
    """Raise BadArgumentError unless `write_answers` can write a file of this name."""
    if PurePosixPath(path).suffix not in ENDINGS:
        raise BadArgumentError(f"--output {path}: ends in none of {' '.join(ENDINGS)}")


def write_answers(path: str, answers: Sequence[Answer], captions: Captions | None = None) -> None:
    """Write answers as .parquet (a row a hit), .json, .html or .png, by the ending of `path`."""
    require_known_ending(path)
    if path.endswith(".parquet"):
        write_table_atomic(answers_table(answers), path)
    elif path.endswith(".json"):
        write_json_atomic(path, {"results": [asdict(item) for item in answers]})
    else:
        write_sections(path, "Semantic image search", answer_sections(answers, captions))


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
