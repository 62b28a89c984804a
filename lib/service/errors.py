"""What each error is over HTTP: one table of statuses and codes, one shape of the body."""

import json
import logging
import math
from typing import Any

from lib.database.interface import UnknownImageError
from lib.errors import BadInputError, ImageSearchError, QueryError, UnavailableError
from lib.images.thumbnails import UnreadableImageError
from lib.service.batcher import OverloadedError
from lib.service.models import ErrorDetail
from lib.text.query import QuerySyntaxError

RETRY_AFTER_S = 1

# The first kind that fits counts: subclasses stand before what they derive from.
_KINDS: list[tuple[type[ImageSearchError], int, str]] = [
    (QuerySyntaxError, 400, "query_syntax"),
    (QueryError, 400, "query_unusable"),
    (UnknownImageError, 404, "unknown_image"),
    (UnreadableImageError, 404, "image_unreadable"),
    (OverloadedError, 503, "overloaded"),
    (UnavailableError, 503, "unavailable"),
    (BadInputError, 422, "bad_input"),
]
_CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "no_such_path",
    405: "method_not_allowed",
    408: "too_slow",
    413: "too_large",
    500: "internal",
    503: "overloaded",
}
_log = logging.getLogger("ray.serve")


def describe(error: ImageSearchError) -> tuple[int, ErrorDetail]:
    """Status and body of an error."""
    position = error.position if isinstance(error, QuerySyntaxError) else None
    for kind, status, code in _KINDS:
        if isinstance(error, kind):
            return status, ErrorDetail(code=code, message=str(error), position=position)
    # Any other message may name files of this machine: it goes to the log only.
    _log.error("request failed: %s", error)
    return 503, ErrorDetail(code="unavailable", message="this cannot be answered now")


def error_body(status: int, message: str, code: str | None = None) -> bytes:
    """The body of an error answer; `code` follows from the status unless given."""
    return detail_body(ErrorDetail(code=code or _CODES.get(status, "bad_request"), message=message))


def detail_body(detail: ErrorDetail) -> bytes:
    """The body of an error answer."""
    return encode({"error": detail.model_dump()})


def error_headers(status: int, wait_s: float = RETRY_AFTER_S) -> dict[str, str]:
    """Headers that belong to an error of a status; `wait_s` until a retry may succeed."""
    if status == 401:
        return {"WWW-Authenticate": "Bearer"}
    return {"Retry-After": str(max(1, math.ceil(wait_s)))} if status == 503 else {}


def encode(content: Any) -> bytes:
    """JSON in ASCII: half of a surrogate pair, which JSON may bring in, is no UTF-8."""
    return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()
