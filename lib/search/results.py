"""Answers to text queries as values: for a terminal, a table, JSON, or pictures on a page."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath

import pyarrow as pa
from PIL import Image

from lib.database.interface import UnknownImageError
from lib.database.local import LocalCollection
from lib.errors import BadArgumentError, ImageSearchError
from lib.images.contact_sheet import Section, Tile, contact_sheet, write_sections
from lib.images.file_names import printable
from lib.parquet import write_table_atomic
from lib.search.engine import Request, Searcher, SearchResult
from lib.storage import write_json_atomic
from lib.text.query import unknown_words

KnownCaptions = Mapping[str, Sequence[str]]  # by image id
ENDINGS = (".parquet", ".json", ".html", ".png")
_WIDEST = 60  # column of names on a terminal


@dataclass(frozen=True)
class Hit:
    """One image of an answer."""

    rank: int  # from 1
    image_id: str
    score: float  # cosine
    uri: str


@dataclass(frozen=True)
class Answer:
    """The images for a query; `error` says why there are none."""

    query: str
    unknown_words: list[str]
    hits: list[Hit]
    error: str = ""
    unseen_words: list[str] = field(default_factory=list)  # see QueryEmbedding
    suggestion: str | None = None  # the query as it was probably meant

    @property
    def notes(self) -> list[str]:
        """What a person should know of the answer, a line each."""
        notes = [self.error] if self.error else []
        if not self.error and not self.hits:
            notes.append("no image meets the conditions")
        if self.unknown_words and not self.error:
            notes.append(f"unknown words, left out: {', '.join(self.unknown_words)}")
        if self.unseen_words:
            notes.append(f"these words were never seen in captions: {', '.join(self.unseen_words)}")
        if self.suggestion:
            notes.append(f"did you mean: {self.suggestion}")
        return notes


def show_images(
    database: LocalCollection, image_ids: Sequence[str], captions: KnownCaptions | None = None
) -> Image.Image:
    """A contact sheet of images by their ids, for a notebook's last line or `.save()`."""
    return contact_sheet([Section("", tiles_of(database, image_ids, captions or {}))])


def tiles_of(
    database: LocalCollection, image_ids: Sequence[str], captions: KnownCaptions
) -> list[Tile]:
    """Images of a database by their ids, those that it lacks left out.

    Raises UnknownImageError where it has none of them.
    """
    rows = {image_id: database.row_of(image_id) for image_id in image_ids}
    tiles = [
        Tile(database.uris[row], image_id, captions.get(image_id, []))
        for image_id, row in rows.items()
        if row is not None
    ]
    if not tiles:
        raise UnknownImageError(
            f"no image of the database has the id {', '.join(image_ids)}; "
            f"ids look like {database.image_ids[0]!r}"
        )
    return tiles


def answer(requests: Sequence[Request], searcher: Searcher) -> list[Answer]:
    """The top k images of each request, best first.

    A query that cannot be embedded becomes an Answer with its `error`, so that it costs the others
    nothing. Raises BadArgumentError for k < 1.
    """
    for request in requests:
        if request.k < 1:
            raise BadArgumentError(f"k must be at least 1, not {request.k}")
    results = searcher.answer(requests)
    return [
        _answer(request, result, searcher)
        for request, result in zip(requests, results, strict=True)
    ]


def _answer(
    request: Request, result: SearchResult | ImageSearchError, searcher: Searcher
) -> Answer:
    query = request.text
    if not query and (request.like or request.image is not None):
        query = f"like {request.like or 'the image'}"
    suggestion = searcher.suggest(request.text)
    if isinstance(result, ImageSearchError):
        unknown = unknown_words(searcher.space.text, request.text)
        return Answer(query, unknown, [], str(result), suggestion=suggestion)
    hits = [
        Hit(rank, image.image_id, score, image.uri)
        for rank, (image, score) in enumerate(zip(result.images, result.scores, strict=True), 1)
    ]
    return Answer(query, result.unknown_words, hits, "", result.unseen_words, suggestion)


def require_known_ending(path: str, option: str = "--output") -> None:
    """Raise BadArgumentError unless `write_answers` can write a file of this name."""
    if PurePosixPath(path).suffix not in ENDINGS:
        raise BadArgumentError(f"{option} {path}: ends in none of {' '.join(ENDINGS)}")


def write_answers(
    path: str, answers: Sequence[Answer], captions: KnownCaptions | None = None
) -> None:
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
    columns = {"query": pa.string(), "rank": pa.int32(), "image_id": pa.string()}
    columns |= {"score": pa.float32(), "uri": pa.string()}
    rows = [{"query": item.query, **asdict(hit)} for item in answers for hit in item.hits]
    return pa.Table.from_pylist(rows, pa.schema(columns))


def answer_sections(
    answers: Sequence[Answer], captions: KnownCaptions | None = None
) -> list[Section]:
    """Answers as pictures under their queries, with captions where known."""
    known = captions or {}
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
        sections.append(Section(item.query, tiles, "; ".join(item.notes)))
    return sections


def format_answer(item: Answer) -> str:
    """An answer as lines for a terminal: rank, image id, score, file."""
    lines = [item.query, *(f"  {note}" for note in item.notes)]
    ids = [printable(hit.image_id) for hit in item.hits]
    width = min(_WIDEST, max(map(len, ids), default=0))
    lines += [
        f"  {hit.rank:>3}  {image_id:<{width}}  {hit.score:6.3f}  {printable(hit.uri)}"
        for image_id, hit in zip(ids, item.hits, strict=True)
    ]
    return "\n".join(lines)
