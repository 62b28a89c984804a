"""The query language: words, `-word`, `word^2`, "quoted phrases", and what they embed to."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from lib.errors import QueryError
from lib.text.encoder import TextEncoder, tokenize

MAX_WEIGHT = 100.0

# Phones type curly quotation marks by themselves; they mean the same.
_QUOTES = '"“”„'
_OPERATOR = re.compile(rf"[{_QUOTES}^\\]|(?:^|\s)-\S")
_WEIGHT = re.compile(r"\d+(?:\.\d+)?|\.\d+")


class QuerySyntaxError(QueryError):
    """A query does not parse; `position` counts its characters from 0."""

    def __init__(self, text: str, position: int, problem: str) -> None:
        self.position = position
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
    """

    embedding: np.ndarray
    words: list[str]
    weights: list[float]
    parts: np.ndarray
    unknown_words: list[str] = field(default_factory=list)


def is_plain(text: str) -> bool:
    """Whether a query uses none of the language's operators: it is words only."""
    return _OPERATOR.search(text) is None


def parse_query(text: str) -> list[Term]:
    """Terms of a query, in order.

    query  := term*, parted by white space
    term   := ['-'] (word | '"' phrase '"') ['^' weight]
    weight := decimal number above 0, at most 100

    A minus counts only where a term starts, so `t-shirt` is a word; alone it is punctuation. In a
    phrase only `"` and `\\` are special. A backslash makes the next character an ordinary one.
    Raises QuerySyntaxError, which says where, for an open or stray quotation mark, a `^` without
    word or number, a doubled minus, and a backslash at the end.
    """
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
    if text[position] in _QUOTES:
        content, position = _parse_phrase(text, position)
    else:
        content, position = _parse_word(text, position)
    weight, position = _parse_weight(text, position)
    if position < len(text) and not text[position].isspace():
        raise QuerySyntaxError(text, position, "expected a space here")
    return Term(content, -weight if negative else weight), position


def _parse_phrase(text: str, start: int) -> tuple[str, int]:
    content: list[str] = []
    position = start + 1
    while position < len(text):
        character = text[position]
        if character in _QUOTES:
            return "".join(content), position + 1
        if character == "\\":
            position += 1
            if position == len(text):
                break
            character = text[position]
        content.append(character)
        position += 1
    raise QuerySyntaxError(
        text, start, 'a quotation mark opens here and is never closed; close it, or write \\"'
    )


def _parse_word(text: str, start: int) -> tuple[str, int]:
    content = []
    position = start
    while position < len(text):
        character = text[position]
        if character.isspace() or character == "^":
            break
        if character in _QUOTES:
            raise QuerySyntaxError(
                text, position, 'a quotation mark inside a word; put a space before it or write \\"'
            )
        if character == "\\":
            position += 1
            if position == len(text):
                raise QuerySyntaxError(
                    text, position - 1, "a backslash with nothing after it; write \\\\"
                )
            character = text[position]
        content.append(character)
        position += 1
    if position == start:
        raise QuerySyntaxError(text, position, "a ^ with no word before it; write \\^ for the sign")
    return "".join(content), position


def _parse_weight(text: str, position: int) -> tuple[float, int]:
    if position == len(text) or text[position] != "^":
        return 1.0, position
    found = _WEIGHT.match(text, position + 1)
    if found is None:
        raise QuerySyntaxError(
            text, position, "a ^ with no number after it; write word^2, or \\^ for the sign"
        )
    weight = float(found.group())
    if not 0 < weight <= MAX_WEIGHT:
        raise QuerySyntaxError(
            text, position + 1, f"a weight must be above 0 and at most {MAX_WEIGHT:g}"
        )
    return weight, found.end()


def embed_query(encoder: TextEncoder, text: str) -> QueryEmbedding:
    """Embed a query of the language.

    Each word counts with its term's weight times its IDF; their sum is normalised. A plain query
    gives exactly `encoder.se_text(text)`. Raises QuerySyntaxError where it does not parse, and
    QueryError where it has no word, no known word, or its words cancel out.
    """
    terms = [Term(text)] if is_plain(text) else parse_query(text)
    weights: dict[str, float] = {}
    for term in terms:
        for word in term.words:
            weights[word] = weights.get(word, 0.0) + term.weight
    unknown = [word for word in weights if not encoder.knows(word)]
    known = {word: weight for word, weight in weights.items() if encoder.knows(word)}
    if not known:
        encoder.se_text(" ".join(weights))  # raises: says what is missing
    rows = [weight * encoder.word_embedding(word) for word, weight in known.items()]
    parts = np.asarray(rows, np.float32)
    total = parts.sum(axis=0)
    norm = float(np.linalg.norm(total))
    # Relative: rounding may leave a trace of words that cancel.
    if norm <= 1e-6 * float(np.linalg.norm(parts, axis=1).sum()):
        raise QueryError("the words of the query cancel each other out; leave one of them out")
    embedding = encoder.se_text(text) if is_plain(text) else total / norm
    return QueryEmbedding(embedding, list(known), list(known.values()), parts / norm, unknown)


def embed_queries(
    encoder: TextEncoder, texts: Sequence[str]
) -> tuple[np.ndarray, list[QueryError | None]]:
    """Embed many queries at once; an unusable one does not stop the others.

    Returns (N, d) float32 embeddings and, for each query, None or what is wrong with it; the
    embedding of an unusable query is zero.
    """
    embeddings = np.zeros((len(texts), encoder.dimension), np.float32)
    problems: list[QueryError | None] = [None] * len(texts)
    plain = [row for row, text in enumerate(texts) if is_plain(text)]
    if plain:
        embeddings[plain] = encoder.embed([texts[row] for row in plain])
    for row in np.flatnonzero(~embeddings.any(axis=1)).tolist():
        try:
            embeddings[row] = embed_query(encoder, texts[row]).embedding
        except QueryError as error:
            problems[row] = error
    return embeddings, problems
