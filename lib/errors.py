"""The errors that people see: each names the thing, what was expected, and what to do."""

from collections.abc import Mapping, Sequence
from typing import Any

_FEW = 0.1  # this share of all records may be left out, with a word; more is another format


class ImageSearchError(Exception):
    """Base of every error that this project raises on purpose; a job exits with status 1 on it.

    summary: what was done all the same, for the job's --json.
    """

    def __init__(self, message: str = "", summary: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.summary = summary or {}


class BadArgumentError(ImageSearchError, ValueError):
    """An argument has a value that can never work (`--k 0`); a job exits with status 2 on it."""


class BadInputError(ImageSearchError, ValueError):
    """A file or a text that was given cannot be used as what it should be."""


class FileInTheWayError(BadInputError, OSError):
    """A file lies where a directory was expected."""


class MissingError(ImageSearchError):
    """Something that an earlier job or download makes is not there."""


class MismatchError(ImageSearchError):
    """Two things that must agree do not (an embedder trained on another backbone's descriptors)."""


class ConflictError(ImageSearchError):
    """Another job changed the same thing meanwhile; what it did stays, and this one did nothing."""


class UnsupportedStoreError(ImageSearchError):
    """A store lacks what a commit needs: to create a file on the condition that it is not there."""


class QueryError(BadInputError):
    """A query cannot be turned into an embedding (empty, or no word of it is known)."""


class UnavailableError(ImageSearchError):
    """Something that this needs, and other requests may not, cannot be had just now."""


class StoreError(ImageSearchError, OSError):
    """A store refuses, gives no answer in time, or breaks it off; a rerun goes on from there."""


def left_out(problems: Sequence[str], rest: int) -> list[str]:
    """What to say of records that cannot be used, each with its place, beside `rest` that can.

    Raises BadInputError where they are more than a tenth of all, and more than one.
    """
    if len(problems) > max(1, _FEW * (rest + len(problems))):
        raise BadInputError(f"{problems[0]} ({len(problems):,} such records)")
    return [f"{problems[0]}; records left out: {len(problems):,}"] if problems else []
