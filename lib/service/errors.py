"""What each error is over HTTP: one table of statuses and codes, one shape of the body."""

import json
import logging
import math
from typing import Any

from starlette.responses import Response

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


def error_response(
    status: int, problem: str | ErrorDetail, wait_s: float = RETRY_AFTER_S
) -> Response:
    """An error answer: what is wrong, or its message alone; `wait_s` until a retry may succeed."""
    if isinstance(problem, str):
        problem = ErrorDetail(code=_CODES.get(status, "bad_request"), message=problem)
    headers = {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if status == 503:
        headers["Retry-After"] = str(max(1, math.ceil(wait_s)))
    return Response(encode({"error": problem.model_dump()}), status, headers, "application/json")


def encode(content: Any) -> bytes:
    """JSON in ASCII: half of a surrogate pair, which JSON may bring in, is no UTF-8."""
    return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()
