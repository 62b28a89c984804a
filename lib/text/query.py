"""The query language: words, `-word`, `word^2`, "quoted phrases", and what they embed to."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from lib.errors import QueryError
from lib.text.encoder import TextEncoder, tokenize

MAX_WEIGHT = 100.0
# How much the words with a minus count beside the others. Measured by benchmarks/negation.py.
NEGATIVE_SHARE = 0.6

# What phones and word processors type of themselves, by what is meant. NFKC does the rest.
_SIGNS = str.maketrans(
    dict.fromkeys("“”„‟«»‹›″〝〞〟", '"')
    | dict.fromkeys("‘’‛´`′ʼ", "'")
    | dict.fromkeys("ˆ‸⌃", "^")
    | dict.fromkeys("−⁻➖˗⁃", "-")
)
_SUPERSCRIPT = re.compile(r"(?<=[^\W\d_])[²³](?=\s|$)")  # beach² is beach^2
_OPENING = ",;(["  # after which a term may start without a space
_OPERATOR = re.compile(r'["^\\]|(?:^|[\s,;(\[])-\S')
_PHRASE = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
# Up to white space, a ^, or a minus after an opening sign, none of them behind a backslash.
_WORD = re.compile(rf'(?:[^\s^"\\-]|(?<![{re.escape(_OPENING)}])-|\\.)*', re.DOTALL)
# What may follow a phrase or a weight: a space, or punctuation, of which a digit makes a number.
_END = re.compile(r"\s|[,;:.!?)\]](?!\d)|$")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_WEIGHT = re.compile(r"\d+(?:[.,]\d+)?|[.,]\d+")


class QuerySyntaxError(QueryError):
    """A query does not parse; `position` counts its characters from 0."""

    def __init__(self, text: str, position: int, problem: str) -> None:
        self.position, self.problem = position, problem
        start, end = max(0, position - 15), position + 15
        near = ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")
        super().__init__(f"{problem} (at character {position + 1}, near: {near})")


@dataclass(frozen=True)
class Term:
    """A word or phrase of a query, and how strongly and in which direction it counts."""

    text: str
    weight: float = 1.0

    @property
    def words(self) -> list[str]:
        """Its words as the word vectors list them."""
        return tokenize(self.text)


@dataclass(frozen=True)
class QueryEmbedding:
    """A query in semantic space, and the part of it that each word brought.

    `embedding` is (d,) float32 of unit length; `parts` is (W, d) float32 with one row for each of
    `words` (known words, each once, with their `weights` in the query); the rows add up to the
    embedding. So the words' shares of a cosine with a unit vector x, `parts @ x`, add up to it.
    `length` is what the sum had before it was normalised: 1 where all words count plainly.
    """

    embedding: np.ndarray
    words: list[str]
    weights: list[float]
    parts: np.ndarray
    length: float = 1.0
    unknown_words: list[str] = field(default_factory=list)  # they have no vector and are left out
    # Words that no caption of the corpus holds, where that is most of the query's words.
    unseen_words: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class QueryBatch:
    """Many queries in semantic space; one that cannot be used has a zero embedding."""

    embeddings: np.ndarray  # (N, d) float32, unit
    problems: list[QueryError | None]  # what is wrong with each
    unknown_words: list[list[str]]
    unseen_words: list[list[str]]


def plain_signs(text: str) -> str:
    """A query with the plain sign for each that phones and word processors write instead.

    Dashes and minus signs of all kinds, curly and angular quotation marks, fullwidth letters,
    digits and signs, other spaces, and `²` after a word; invisible characters go.
    """
    return text if text.isascii() else "".join(sign for sign, _ in _signs(text))


def _signs(text: str) -> list[tuple[str, int]]:
    """Each plain character, and where in the text it was written."""
    marked = [match.start() for match in _SUPERSCRIPT.finditer(text)]
    signs: list[tuple[str, int]] = []
    for position, character in enumerate(text):
        if position in marked:
            signs.append(("^", position))
        meant = unicodedata.normalize("NFKC", character.translate(_SIGNS)).translate(_SIGNS)
        for sign in meant:
            category = unicodedata.category(sign)
            if category != "Cf":  # zero width: joiners, marks of direction, soft hyphens
                signs.append(("-" if category == "Pd" else sign, position))
    return signs


def is_plain(text: str) -> bool:
    """Whether a query uses none of the language's operators: it is words only."""
    return _OPERATOR.search(plain_signs(text)) is None


def parse_query(text: str) -> list[Term]:
    """Terms of a query, in order.

    query  := term*, parted by white space
    term   := ['-'] (word | '"' phrase '"') ['^' weight]
    weight := decimal number above 0, at most 100

    A minus counts only where a term starts, so `t-shirt` is a word; alone it is punctuation. One
    after a comma, a semicolon or a bracket starts a term, too: `dog,-beach`, `dog (-beach)`, and
    so does a quotation mark. Punctuation may follow a phrase or a weight: `dog^2, "hot dog".`
    In a phrase only `"` and `\\` are special. A backslash makes the next character an ordinary one.
    Other signs for the same mean the same (`plain_signs`).
    Raises QuerySyntaxError, which says where, for an open or stray quotation mark, a `^` without
    word or number, a doubled minus, and a backslash at the end.
    """
    if text.isascii():
        return _parse_terms(text)
    signs = _signs(text)
    try:
        return _parse_terms("".join(sign for sign, _ in signs))
    except QuerySyntaxError as error:
        written = [position for _, position in signs]
        place = written[error.position] if error.position < len(written) else len(text)
        raise QuerySyntaxError(text, place, error.problem) from None


def _parse_terms(text: str) -> list[Term]:
    terms = []
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        term, position = _parse_term(text, position)
        if term is not None:
            terms.append(term)
    return terms


def _parse_term(text: str, start: int) -> tuple[Term | None, int]:
    position = start
    negative = text[position] == "-"
    if negative:
        position += 1
        if position == len(text) or text[position].isspace():
            return None, position
        if text[position] == "-":
            raise QuerySyntaxError(
                text, position, "two minus signs before a word; write one, or \\- for the sign"
            )
    if text[position] == '"':
        content, position = _parse_phrase(text, position)
    else:
        content, position = _parse_word(text, position)
    weight, position = _parse_weight(text, position)
    if not _END.match(text, position) and text[position - 1] not in _OPENING:
        raise QuerySyntaxError(text, position, "expected a space here")
    return Term(content, -weight if negative else weight), position


def _parse_phrase(text: str, start: int) -> tuple[str, int]:
    phrase = _PHRASE.match(text, start)
    if phrase is None:
        raise QuerySyntaxError(
            text, start, 'a quotation mark opens here and is never closed; close it, or write \\"'
        )
    return _ESCAPED.sub(r"\1", phrase[1]), phrase.end()


def _parse_word(text: str, start: int) -> tuple[str, int]:
    word = _WORD.match(text, start)
    assert word is not None  # it may be empty
    position = word.end()
    match text[position : position + 1]:
        case '"' if text[position - 1] not in _OPENING:
            problem = 'a quotation mark inside a word; put a space before it or write \\"'
            raise QuerySyntaxError(text, position, problem)
        case "\\":
            problem = "a backslash with nothing after it; write \\\\"
            raise QuerySyntaxError(text, position, problem)
    if not word[0]:
        raise QuerySyntaxError(text, position, "a ^ with no word before it; write \\^ for the sign")
    return _ESCAPED.sub(r"\1", word[0]), position


def _parse_weight(text: str, position: int) -> tuple[float, int]:
    if position == len(text) or text[position] != "^":
        return 1.0, position
    number = _WEIGHT.match(text, position + 1)
    if number is None:
        raise QuerySyntaxError(
            text, position, "a ^ with no number after it; write word^2, or \\^ for the sign"
        )
    weight = float(number.group().replace(",", "."))
    if not 0 < weight <= MAX_WEIGHT:
        raise QuerySyntaxError(
            text, position + 1, f"a weight must be above 0 and at most {MAX_WEIGHT:g}"
        )
    return weight, number.end()


def embed_query(encoder: TextEncoder, text: str) -> QueryEmbedding:
    """Embed a query of the language: one vector, linear in the words.

    The words with a minus and the others are two sides. A side is the sum of its words' weights ·
    IDF · vectors, divided by the length that it has with all weights 1: `^` scales words and sides
    alike. The query is positive side - NEGATIVE_SHARE · negative side, normalised, so that a rare
    word with a minus does not drown the others. A plain query gives exactly `se_text`. Raises
    QuerySyntaxError where it does not parse, and QueryError where it has no word, no known word, or
    its words cancel out.
    """
    plain, weights = is_plain(text), _word_weights(text)
    known = {word: weight for word, weight in weights.items() if encoder.knows(word)}
    if not known:
        encoder.se_text(" ".join(weights))  # raises: says what is missing
    vectors = encoder.word_embeddings([*known])
    factors = np.asarray(list(known.values()), np.float32)
    for side, share in ((factors > 0, 1.0), (factors < 0, NEGATIVE_SHARE)):
        if side.any():
            factors[side] *= share / _length(vectors[side])
    parts = vectors * factors[:, None]
    norm = _length(parts)
    embedding = encoder.se_text(plain_signs(text)) if plain else parts.sum(axis=0) / norm
    unknown, unseen = _odd_words(encoder, weights)
    return QueryEmbedding(
        embedding, list(known), list(known.values()), parts / norm, norm, unknown, unseen
    )


def query_words(text: str) -> list[str]:
    """The words of a query, each once. Raises QuerySyntaxError."""
    return list(_word_weights(text))


def unknown_words(encoder: TextEncoder, text: str) -> list[str]:
    """The words of a query that have no vector, each once; none where it does not parse."""
    try:
        return _odd_words(encoder, _word_weights(text))[0]
    except QueryError:
        return []


def _word_weights(text: str) -> dict[str, float]:
    """Weight of each word of a query, those said twice added up. Raises QuerySyntaxError."""
    weights: dict[str, float] = {}
    terms = [Term(plain_signs(text))] if is_plain(text) else parse_query(text)
    for term in terms:
        for word in term.words:
            weights[word] = weights.get(word, 0.0) + term.weight
    if weights and not any(weights.values()):
        raise QueryError(_CANCELLED)
    return {word: weight for word, weight in weights.items() if weight}


_CANCELLED = "the words of the query cancel each other out; leave one of them out"


def _length(vectors: np.ndarray) -> float:
    """Length of the sum of (W, d) vectors. Raises QueryError where they cancel out."""
    length = float(np.linalg.norm(vectors.sum(axis=0)))
    # Relative: rounding may leave a trace of words that cancel.
    if length <= 1e-6 * float(np.linalg.norm(vectors, axis=1).sum()):
        raise QueryError(_CANCELLED)
    return length


def _odd_words(encoder: TextEncoder, words: Iterable[str]) -> tuple[list[str], list[str]]:
    """The unknown words, and the unseen ones where they are most; see QueryEmbedding."""
    distinct = list(dict.fromkeys(words))
    unknown = [word for word in distinct if not encoder.knows(word)]
    unseen = [word for word in distinct if word not in encoder.idf.weights]
    most = 2 * len(unseen) > len(distinct)
    return unknown, [word for word in unseen if encoder.knows(word)] if most else []


def embed_queries(encoder: TextEncoder, texts: Sequence[str]) -> QueryBatch:
    """Embed many queries at once; an unusable one does not stop the others."""
    embeddings = np.zeros((len(texts), encoder.dimension), np.float32)
    problems: list[QueryError | None] = [None] * len(texts)
    unknown: list[list[str]] = [[] for _ in texts]
    unseen: list[list[str]] = [[] for _ in texts]
    plain = [row for row, text in enumerate(texts) if is_plain(text)]
    if plain:
        embeddings[plain] = encoder.embed([plain_signs(texts[row]) for row in plain])
    for row, text in enumerate(texts):
        try:
            unknown[row], unseen[row] = _odd_words(encoder, _word_weights(text))
            if not embeddings[row].any():
                embeddings[row] = embed_query(encoder, text).embedding
        except QueryError as error:
            problems[row] = error
    return QueryBatch(embeddings, problems, unknown, unseen)
