"""The service's paths: what is asked of them over HTTP, and how each answer is put together."""

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Protocol
from urllib.parse import quote

import numpy as np
from fastapi import FastAPI, Query
from fastapi import Request as HttpRequest
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, RedirectResponse, Response
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from lib.database.interface import Image, UnknownImageError
from lib.descriptors.image_encoder import SeenImage
from lib.errors import BadInputError, ImageSearchError, QueryError, UnavailableError
from lib.images.thumbnails import UnreadableImageError
from lib.search.engine import Request, Searcher, SearchResult
from lib.search.explain import split_over_cells
from lib.service import models as api
from lib.service.batcher import OverloadedError
from lib.service.guard import RETRY_AFTER_S, Guard, Observer
from lib.text.query import QueryEmbedding, QuerySyntaxError

PAGE = Path(__file__).parent / "page"
_PAGE_FILES = {"page.js": "text/javascript", "page.css": "text/css", "icon.svg": "image/svg+xml"}
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob: http: https:; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
_CACHED = {"Cache-Control": "private, max-age=3600"}
_SEARCH_PATHS = ("/search", "/search/image")


class Service(Protocol):
    """What answers behind the paths."""

    searcher: Searcher
    reload_problem: str | None

    @property
    def overloaded(self) -> bool:
        """Whether `search` would refuse even one request."""

    async def search(self, requests: Sequence[Request]) -> list[SearchResult | ImageSearchError]:
        """Found each request, or say what is wrong with it. Raises OverloadedError."""

    async def embed_image(self, content: bytes) -> Any:
        """(d,) embedding of an image file. Raises ImageSearchError."""

    async def embed(self, searcher: Searcher, request: Request) -> QueryEmbedding:
        """What a request looks for. Raises ImageSearchError."""

    async def look_up(self, searcher: Searcher, image_id: str) -> tuple[Image, np.ndarray]:
        """An image of the database and its embedding. Raises UnknownImageError."""

    async def see(self, searcher: Searcher, image: Image) -> SeenImage:
        """The backbone's view of an image of the database. Raises ImageSearchError."""

    async def original(self, image: Image) -> tuple[bytes, str]:
        """An image file that browsers show, and its media type. Raises UnavailableError."""

    async def thumbnail(self, image: Image) -> bytes:
        """A small JPEG of an image. Raises UnavailableError."""

    async def metrics(self) -> str:
        """This service's metrics in Prometheus' text format."""


def create_app(service: Callable[[], Service], token: str | None, observe: Observer) -> FastAPI:
    """The application over a service, which is looked up anew for each request."""
    # The description's page with its scripts from here: many a cluster has no way out.
    app = FastAPIOffline(
        redoc_url=None,
        title="Semantic image search",
        version="1",
        description="Text and image queries over a database of images. Query language: words, "
        '`-word`, `word^2`, `"a phrase"`, and `\\` before a character that is meant literally.',
        responses=api.error_responses(401, 422),
    )
    _add_error_handlers(app)
    _add_page(app)
    _add_state(app, service)
    _add_search(app, service)
    _add_image_search(app, service)
    _add_explain(app, service)
    _add_images(app, service)
    app.add_middleware(
        Guard,
        token=token,
        max_bytes={"/search/image": api.MAX_UPLOAD_BYTES},
        default_max_bytes=api.MAX_JSON_BYTES,
        search_paths=_SEARCH_PATHS,
        overloaded=lambda: service().overloaded,
        observe=observe,
    )
    return app


def _error(status: int, code: str, message: str, position: int | None = None) -> Response:
    content = {"error": {"code": code, "message": message, "position": position}}
    response = _json(content, status)
    if status == 503:
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response


def _json(content: Any, status: int = 200) -> Response:
    # ASCII: half of a surrogate pair, which JSON may bring in, cannot be written as UTF-8.
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    return Response(text, status, media_type="application/json")


def _status_and_detail(error: ImageSearchError) -> tuple[int, api.ErrorDetail]:
    position = error.position if isinstance(error, QuerySyntaxError) else None
    kinds: list[tuple[type[ImageSearchError], int, str]] = [
        (QuerySyntaxError, 400, "query_syntax"),
        (QueryError, 400, "query_unusable"),
        (UnknownImageError, 404, "unknown_image"),
        (UnreadableImageError, 404, "image_unreadable"),
        (OverloadedError, 503, "overloaded"),
        (UnavailableError, 503, "unavailable"),
        (BadInputError, 422, "bad_input"),
    ]
    for kind, status, code in kinds:
        if isinstance(error, kind):
            return status, api.ErrorDetail(code=code, message=str(error), position=position)
    # Any other message may name files of this machine: it goes to the log only.
    logging.getLogger("ray.serve").error("request failed: %s", error)
    return 503, api.ErrorDetail(code="unavailable", message="this cannot be answered now")


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(ImageSearchError)
    async def typed(_: HttpRequest, error: ImageSearchError) -> Response:
        status, detail = _status_and_detail(error)
        return _error(status, detail.code, detail.message, detail.position)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: HttpRequest, error: RequestValidationError) -> Response:
        # The input itself is not sent back: it may hold what JSON cannot (NaN).
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return _error(422, "invalid_request", f"{where}: {first['msg']}")

    @app.exception_handler(HTTPException)
    async def http(_: HttpRequest, error: HTTPException) -> Response:
        codes = {404: "no_such_path", 405: "method_not_allowed", 413: "too_large"}
        response = _error(
            error.status_code, codes.get(error.status_code, "bad_request"), str(error.detail)
        )
        response.headers.update(error.headers or {})
        return response


def _add_page(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(
            PAGE / "index.html",
            headers={"Content-Security-Policy": _PAGE_POLICY, "Cache-Control": "no-cache"},
        )

    @app.get("/page/{name}", include_in_schema=False)
    async def page_file(name: str) -> Response:
        if name not in _PAGE_FILES:
            raise HTTPException(404, "no such file")
        return FileResponse(
            PAGE / name, media_type=_PAGE_FILES[name], headers={"Cache-Control": "no-cache"}
        )


def _add_state(app: FastAPI, service: Callable[[], Service]) -> None:
    @app.get("/health", responses=api.error_responses(503))
    async def health() -> api.Health:
        """Status 200 once searches are answered."""
        searcher = service().searcher
        return api.Health(status="ready", model=searcher.model, database_version=searcher.version)

    @app.get("/info")
    async def info() -> api.Info:
        """What is served: counts, digests, limits."""
        searcher = service().searcher
        return api.Info(
            images=searcher.image_count,
            dimension=searcher.space.text.dimension,
            database_version=searcher.version,
            model=searcher.model,
            backbone=searcher.space.provenance.backbone,
            embedder_digest=searcher.space.digest,
            vocabulary_size=len(searcher.space.text.vectors),
            word_vectors=Path(searcher.space.metadata["word_vectors"]["source"]).name,
            captions=len(searcher.captions),
            limits=api.LIMITS,
            reload_problem=service().reload_problem,
        )

    @app.get("/metrics", response_class=Response, responses=api.error_responses(503))
    async def metrics() -> Response:
        """Metrics of this service on this node, for Prometheus."""
        return Response(await service().metrics(), media_type="text/plain; version=0.0.4")


Text = Annotated[str, Query(max_length=api.MAX_QUERY_CHARACTERS, description="query")]
Like = Annotated[
    str | None,
    Query(min_length=1, max_length=4_096, description="id of an image of the database"),
]
TextWeight = Annotated[
    float, Query(ge=0, le=1, allow_inf_nan=False, description="of the text beside an image")
]
Count = Annotated[int, Query(ge=1, le=api.MAX_K)]
Explain = Annotated[bool, Query(description="say why each hit has its score")]


def _add_search(app: FastAPI, service: Callable[[], Service]) -> None:
    @app.get(
        "/search", response_model=api.SearchAnswer, responses=api.error_responses(400, 404, 503)
    )
    async def search_one(
        q: Text = "",
        like: Like = None,
        text_weight: TextWeight = 0.5,
        k: Count = 10,
        explain: Explain = False,
    ) -> Response:
        """Images for a text, images like another image, or both together."""
        request = Request(q, k, like, text_weight=text_weight)
        return await _search(service(), [request], explain)

    @app.post(
        "/search",
        response_model=api.SearchAnswer,
        responses=api.error_responses(400, 404, 413, 503),
    )
    async def search_many(body: api.SearchBody) -> Response:
        """Images for each of several texts; a text that cannot be used does not stop the others."""
        wanted = None if body.filter is None else body.filter.to_filter()
        requests = [Request(text, body.k, filter=wanted) for text in body.queries]
        return await _search(service(), requests, body.explain)


def _add_image_search(app: FastAPI, service: Callable[[], Service]) -> None:
    @app.post(
        "/search/image",
        response_model=api.SearchAnswer,
        responses=api.error_responses(400, 404, 413, 503),
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
            }
        },
    )
    async def search_image(
        http: HttpRequest, q: Text = "", text_weight: TextWeight = 0.5, k: Count = 10
    ) -> Response:
        """Images like the one in the body (the file's bytes), alone or together with a text."""
        embedding = await service().embed_image(await http.body())
        request = Request(q, k, image=embedding, text_weight=text_weight)
        return await _search(service(), [request], explain=False)


async def _search(service: Service, requests: Sequence[Request], explain: bool) -> Response:
    if explain and sum(request.k for request in requests) > api.MAX_EXPLAINED_HITS:
        raise BadInputError(
            f"explanations are given for at most {api.MAX_EXPLAINED_HITS} hits of a request; "
            "ask for a smaller k or fewer queries"
        )
    answers = await _one_version(service, requests)
    if len(answers) == 1 and isinstance(answers[0], ImageSearchError):
        raise answers[0]
    searcher = next((a.searcher for a in answers if isinstance(a, SearchResult)), service.searcher)
    results = []
    for request, answer in zip(requests, answers, strict=True):
        if isinstance(answer, ImageSearchError):
            _, detail = _status_and_detail(answer)
            unknown = searcher.space.text.unknown_words(request.text)
            results.append(_result(request.text, unknown, [], detail.model_dump()))
            continue
        hits = _hits(searcher, answer)
        if explain:
            query = await service.embed(searcher, request)
            for hit, image in zip(hits, answer.images, strict=True):
                _, embedding = await service.look_up(searcher, image.image_id)
                explained = await _explain(service, searcher, query, image, embedding)
                hit["explanation"] = explained[0]
        results.append(_result(request.text, answer.unknown_words, hits))
    response = _json(
        {"results": results, "model": searcher.model, "database_version": searcher.version}
    )
    seconds = max((a.seconds for a in answers if isinstance(a, SearchResult)), default=0.0)
    response.headers["Server-Timing"] = f"search;dur={1000 * seconds:.2f}"
    return response


async def _one_version(
    service: Service, requests: Sequence[Request]
) -> list[SearchResult | ImageSearchError]:
    """Answers that all come from one database version, also while a new one is taken up."""
    while True:
        answers = await service.search(requests)
        if (
            len({id(answer.searcher) for answer in answers if isinstance(answer, SearchResult)})
            <= 1
        ):
            return answers


def _result(
    query: str,
    unknown_words: list[str],
    hits: list[dict[str, Any]],
    error: dict[str, Any] | None = None,
) -> dict[str, Any]:
    return {"query": query, "unknown_words": unknown_words, "hits": hits, "error": error}


def _hits(searcher: Searcher, answer: SearchResult) -> list[dict[str, Any]]:
    hits = []
    for image, score in zip(answer.images, answer.scores, strict=True):
        address = f"/images/{quote(image.image_id)}"
        hits.append(
            {
                "image_id": image.image_id,
                "uri": image.uri if image.on_the_web else address,
                "score": score,
                "thumbnail": f"{address}/thumbnail",
                "width": image.width,
                "height": image.height,
                "captions": list(searcher.captions.get(image.image_id, ())),
                "explanation": None,
            }
        )
    return hits


def _add_explain(app: FastAPI, service: Callable[[], Service]) -> None:
    @app.get(
        "/explain",
        response_model=api.ExplainAnswer,
        responses=api.error_responses(400, 404, 503),
    )
    async def explain_image(
        image_id: api.ImageId, q: Text = "", like: Like = None, text_weight: TextWeight = 0.5
    ) -> Response:
        """Why an image has its score for a query, by word and by place in the image."""
        searcher = service().searcher
        image, embedding = await service().look_up(searcher, image_id)
        request = Request(q, 1, like, text_weight=text_weight)
        query = await service().embed(searcher, request)
        explanation, word_cells = await _explain(service(), searcher, query, image, embedding)
        content = {
            "image_id": image_id,
            "query": q,
            "score": float(query.embedding @ embedding),
            "explanation": explanation,
            "word_cells": word_cells,
            "model": searcher.model,
            "database_version": searcher.version,
        }
        return _json(content)


async def _explain(
    service: Service,
    searcher: Searcher,
    query: QueryEmbedding,
    image: Image,
    embedding: np.ndarray,
) -> tuple[dict[str, Any], list[Any] | None]:
    """The body of an `api.Explanation`, and the heat map of each word."""
    shares = (query.parts @ embedding).tolist()
    words = [
        {"word": word, "weight": weight, "share": share}
        for word, weight, share in zip(query.words, query.weights, shares, strict=True)
    ]
    explanation: dict[str, Any] = {"words": words, "heat_map": None, "heat_map_problem": None}
    try:
        seen = await service.see(searcher, image)
    except ImageSearchError as error:
        explanation["heat_map_problem"] = _status_and_detail(error)[1].message
        return explanation, None
    embedder = searcher.space.embedder
    heat = split_over_cells(seen.feature_map, embedder.matrix, embedder.bias, query.parts)
    explanation["heat_map"] = {
        "cells": _rounded(heat.cells.tolist()),
        "rounding": float(query.embedding @ embedding) - heat.score,
        "box": dict(zip(("left", "top", "right", "bottom"), seen.box, strict=True)),
    }
    return explanation, [_rounded(cells) for cells in heat.shares.tolist()]


def _rounded(cells: list[list[float]]) -> list[list[float]]:
    return [[round(value, 7) for value in line] for line in cells]


def _add_images(app: FastAPI, service: Callable[[], Service]) -> None:
    described = {200: {"content": {"image/*": {}}}, **api.error_responses(404)}

    @app.get("/images/{image_id:path}/thumbnail", response_class=Response, responses=described)
    async def thumbnail(image_id: str) -> Response:
        """A JPEG of an image, its longer side 480 pixels."""
        searcher = service().searcher
        try:
            image, _ = await service().look_up(searcher, image_id)
        except UnknownImageError:  # an image may itself be called …/thumbnail
            return await original(f"{image_id}/thumbnail")
        content = await service().thumbnail(image)
        return Response(content, media_type="image/jpeg", headers=_CACHED)

    @app.get("/images/{image_id:path}", response_class=Response, responses=described)
    async def original(image_id: str) -> Response:
        """The image file; one that lies on the web is redirected to."""
        image, _ = await service().look_up(service().searcher, image_id)
        if image.on_the_web:
            return RedirectResponse(image.uri)
        content, media_type = await service().original(image)
        return Response(content, media_type=media_type, headers=_CACHED)
