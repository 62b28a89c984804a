"""What goes over HTTP: requests and answers, their limits, and the shape of an error."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from lib.database.interface import Filter, Orientation

MAX_QUERY_CHARACTERS = 2_000
MAX_QUERIES = 100
MAX_K = 200
MAX_EXPLAINED_HITS = 20
MAX_JSON_BYTES = 1_000_000
MAX_UPLOAD_BYTES = 20_000_000
MAX_FILTER_IDS = 10_000

ImageId = Annotated[str, Field(min_length=1, max_length=4_096)]
QueryText = Annotated[str, Field(max_length=MAX_QUERY_CHARACTERS)]
Count = Annotated[int, Field(ge=1, le=MAX_K)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class FilterBody(_Strict):
    """Which images may be found; all conditions that are given must hold."""

    image_ids: Annotated[tuple[ImageId, ...], Field(max_length=MAX_FILTER_IDS)] | None = None
    path_prefix: Annotated[str, Field(max_length=4_096)] | None = None
    min_width: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    min_height: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    orientation: Orientation | None = None
    distinct: bool = Field(default=False, description="of copies of a file the first alone")

    def to_filter(self) -> Filter:
        """The filter that these conditions make."""
        return Filter(**self.model_dump())


class SearchBody(_Strict):
    """A batch of text queries."""

    queries: Annotated[list[QueryText], Field(min_length=1, max_length=MAX_QUERIES)]
    k: Count = 10
    explain: bool = False
    filter: FilterBody | None = None

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"queries": ["orange juice", "dog -person"], "k": 5}]}
    )


class ErrorDetail(BaseModel):
    """What is wrong: `code` for programs, `message` for people."""

    code: str
    message: str
    position: int | None = Field(default=None, description="character of the query, counted from 0")
    suggestion: str | None = Field(default=None, description="the query as it was probably meant")


class ErrorAnswer(BaseModel):
    """Body of every answer that is not a success."""

    error: ErrorDetail


class WordShare(BaseModel):
    """What a word of the query adds to the score; negative where it takes away."""

    word: str
    weight: float = Field(description="in the query; negative for -word")
    share: float


class Box(BaseModel):
    """A part of the image, in fractions of its width and height."""

    left: float
    top: float
    right: float
    bottom: float


class HeatMapAnswer(BaseModel):
    """How the score splits over the image.

    `cells` (rows from the top) and `rounding` add up to the hit's score. `rounding` is the little
    that stored descriptors lost to half precision. `box` is the part of the image that the
    backbone saw, which the cells cover.
    """

    cells: list[list[float]]
    rounding: float
    box: Box


class Explanation(BaseModel):
    """Why a hit has its score: the words' shares add up to it, and so does the heat map."""

    words: list[WordShare]
    heat_map: HeatMapAnswer | None = None
    heat_map_problem: str | None = Field(default=None, description="why there is no heat map")


class Hit(BaseModel):
    """An image found. `uri` opens it: an address of this service, or the image's own on the web."""

    image_id: str
    uri: str
    score: float = Field(description="cosine, -1 to 1")
    thumbnail: str
    width: int
    height: int
    captions: list[str] = []
    explanation: Explanation | None = None


class QueryResult(BaseModel):
    """Answer to one query; `error` says what is wrong with one that cannot be answered."""

    query: str
    unknown_words: list[str] = Field(description="have no vector and are left out")
    unseen_words: list[str] = Field(
        default=[], description="in no caption that the words were learnt from, if most are so"
    )
    suggestion: str | None = Field(default=None, description="the query as it was probably meant")
    hits: list[Hit]
    error: ErrorDetail | None = None


class SearchAnswer(BaseModel):
    """Answers in the order of the queries, and what gave them."""

    results: list[QueryResult]
    model: str
    database_version: int


class ExplainAnswer(BaseModel):
    """Why one image has its score for one query, word by word also over the image."""

    image_id: str
    query: str
    score: float
    explanation: Explanation
    word_cells: list[list[list[float]]] | None = Field(
        default=None, description="heat map of each word, in the order of explanation.words"
    )
    model: str
    database_version: int


class Info(BaseModel):
    """What this service serves."""

    images: int
    dimension: int
    database_version: int
    model: str
    backbone: str
    embedder_digest: str
    vocabulary_size: int
    word_vectors: str
    captions: int = Field(description="images whose captions are known")
    limits: dict[str, int]
    reload_problem: str | None = Field(
        default=None, description="why a newer database version was refused; the one served goes on"
    )


class Health(BaseModel):
    """Given with status 200 only when searches are answered.

    Who has not shown the token that this service asks for learns no more than the status.
    """

    status: str
    model: str | None = None
    database_version: int | None = None


class Session(_Strict):
    """The token, from a page that is to keep it in a cookie which its scripts cannot read."""

    token: Annotated[str, Field(min_length=1, max_length=4_096)]


LIMITS = {
    "query_characters": MAX_QUERY_CHARACTERS,
    "queries": MAX_QUERIES,
    "k": MAX_K,
    "explained_hits": MAX_EXPLAINED_HITS,
    "json_bytes": MAX_JSON_BYTES,
    "upload_bytes": MAX_UPLOAD_BYTES,
}


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's description of the errors that a path can answer with."""
    return {status: {"model": ErrorAnswer} for status in statuses}
