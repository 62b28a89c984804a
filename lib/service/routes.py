"""The service's paths: what is asked of them over HTTP, and how each answer is put together."""

from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import numpy as np
from fastapi import APIRouter, Depends, FastAPI, Query
from fastapi import Request as HttpRequest
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, RedirectResponse, Response
from fastapi_offline import FastAPIOffline
from ray import serve
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from lib.database.interface import DISTINCT, Image, UnknownImageError
from lib.errors import BadInputError, ImageSearchError, UnavailableError
from lib.search.engine import Request, Searcher, SearchResult
from lib.search.explain import split_over_cells
from lib.service import models
from lib.service.errors import describe, encode, error_response
from lib.service.guard import TOKEN_COOKIE, Access, Guard
from lib.text.query import QueryEmbedding, unknown_words

if TYPE_CHECKING:
    from lib.service.deployment import SearchService

PAGE = Path(__file__).parent / "page"
_PAGE_FILES = {"page.js": "text/javascript", "page.css": "text/css", "icon.svg": "image/svg+xml"}
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob: http: https:; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
_CACHED = {"Cache-Control": "private, max-age=3600"}
_UPLOADS_HELD = 5  # of the largest size, at a time
_SEARCH_PATHS = ("/search", "/search/image")


class _AnyPath(PathConvertor):
    """The rest of a path, also over a line break, as a file's name may hold."""

    regex = "(?s:.*)"


register_url_convertor("any_path", _AnyPath())

router = APIRouter()


def _service() -> "SearchService":
    return serve.get_replica_context().servable_object  # type: ignore[return-value]


def _json(content: Any) -> Response:
    return Response(encode(content), media_type="application/json")


async def _takes(http: HttpRequest) -> None:
    """Raise BadInputError for a parameter that a path would pass over: a filter, a second text."""
    route = http.scope["route"]
    known = [field.alias for field in route.dependant.query_params]
    if unknown := sorted(http.query_params.keys() - set(known)):
        raise BadInputError(
            f"{unknown[0]} is no parameter of {http.method} {route.path}, which takes "
            f"{', '.join(known) or 'none'}"
        )
    given = [name for name, _ in http.query_params.multi_items()]
    if twice := sorted(name for name in known if given.count(name) > 1):
        raise BadInputError(f"{twice[0]} is given twice, and only one would count; give it once")


_CHECKED = [Depends(_takes)]


@router.get("/", include_in_schema=False)
async def page() -> Response:
    """The page to search with."""
    return FileResponse(
        PAGE / "index.html",
        headers={"Content-Security-Policy": _PAGE_POLICY, "Cache-Control": "no-cache"},
    )


@router.get("/page/{name}", include_in_schema=False)
async def page_file(name: str) -> Response:
    """A script, style or picture of the page."""
    if name not in _PAGE_FILES:
        raise HTTPException(404, "no such file")
    return FileResponse(
        PAGE / name, media_type=_PAGE_FILES[name], headers={"Cache-Control": "no-cache"}
    )


@router.post("/session", status_code=204, response_class=Response)
async def session(http: HttpRequest, body: models.Session) -> Response:
    """Keep the token in a cookie, for the page; a wrong one is refused by what comes next."""
    secure = "https" in (http.url.scheme, http.headers.get("x-forwarded-proto"))
    response = Response(status_code=204)
    response.set_cookie(
        TOKEN_COOKIE,
        quote(body.token.strip()),
        path=f"{_root(http)}/",
        secure=secure,
        httponly=True,
        samesite="strict",
    )
    return response


def _root(http: HttpRequest) -> str:
    """The prefix under which a client sees the service."""
    return str(http.scope["root_path"])


@router.get("/health", response_model=models.Health, responses=models.error_responses(503))
async def health(http: HttpRequest) -> Response:
    """Status 200 while searches are answered, as of a few seconds ago."""
    if not _service().ready:
        raise UnavailableError("the search processes do not answer")
    searcher = _service().searcher
    model = {"model": searcher.model, "database_version": searcher.version}
    return _json({"status": "ready", **(model if http.scope["known"] else {})})


@router.get("/info")
async def info() -> models.Info:
    """What is served: counts, digests, limits."""
    searcher = _service().searcher
    return models.Info(
        images=searcher.image_count,
        dimension=searcher.space.text.dimension,
        database_version=searcher.version,
        model=searcher.model,
        backbone=searcher.space.provenance.backbone,
        embedder_digest=searcher.space.digest,
        vocabulary_size=len(searcher.space.text.vectors),
        word_vectors=Path(searcher.space.metadata["word_vectors"]["source"]).name,
        captions=len(searcher.captions),
        limits=models.LIMITS,
        reload_problem=_service().reload_problem,
    )


@router.get("/metrics", response_class=Response, responses=models.error_responses(503))
async def metrics() -> Response:
    """Metrics of this service on this node, for Prometheus."""
    return Response(await _service().metrics(), media_type="text/plain; version=0.0.4")


Text = Annotated[str, Query(max_length=models.MAX_QUERY_CHARACTERS, description="query")]
Like = Annotated[
    str | None,
    Query(min_length=1, max_length=4_096, description="id of an image of the database"),
]
TextWeight = Annotated[
    float, Query(ge=0, le=1, allow_inf_nan=False, description="of the text beside an image")
]
Distinct = Annotated[bool, Query(description="of copies of a file the first alone")]
Explain = Annotated[bool, Query(description="say why each hit has its score")]


@router.get(
    "/search",
    dependencies=_CHECKED,
    response_model=models.SearchAnswer,
    responses=models.error_responses(400, 404, 503),
)
async def search_one(
    http: HttpRequest,
    q: Text = "",
    like: Like = None,
    text_weight: TextWeight = 0.5,
    k: models.Count = 10,
    distinct: Distinct = False,
    explain: Explain = False,
) -> Response:
    """Images for a text, images like another image, or both together."""
    condition = DISTINCT if distinct else None
    request = Request(q, k, like, text_weight=text_weight, filter=condition)
    return await _search(_root(http), [request], explain)


@router.post(
    "/search",
    dependencies=_CHECKED,
    response_model=models.SearchAnswer,
    responses=models.error_responses(400, 404, 413, 503),
)
async def search_many(http: HttpRequest, body: models.SearchBody) -> Response:
    """Images for each of several texts; a text that cannot be used does not stop the others."""
    condition = None if body.filter is None else body.filter.to_filter()
    requests = [Request(text, body.k, filter=condition) for text in body.queries]
    return await _search(_root(http), requests, body.explain)


@router.post(
    "/search/image",
    dependencies=_CHECKED,
    response_model=models.SearchAnswer,
    responses=models.error_responses(400, 404, 413, 503),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def search_image(
    http: HttpRequest,
    q: Text = "",
    text_weight: TextWeight = 0.5,
    k: models.Count = 10,
    distinct: Distinct = False,
) -> Response:
    """Images like the one in the body (the file's bytes), alone or together with a text."""
    if http.headers.get("content-type", "").startswith("multipart/"):
        raise BadInputError(
            "the body is a form; send the bytes of the image file alone, as curl does with "
            "--data-binary @photo.jpg"
        )
    embedding = await _service().embed_image(await http.body())
    condition = DISTINCT if distinct else None
    request = Request(q, k, image=embedding, text_weight=text_weight, filter=condition)
    return await _search(_root(http), [request], explain=False)


async def _search(root: str, requests: Sequence[Request], explain: bool) -> Response:
    if explain and sum(request.k for request in requests) > models.MAX_EXPLAINED_HITS:
        raise BadInputError(
            f"explanations are given for at most {models.MAX_EXPLAINED_HITS} hits of a request; "
            "ask for a smaller k or fewer queries"
        )
    service = _service()
    answers = await service.search(requests)
    searcher = next((a.searcher for a in answers if isinstance(a, SearchResult)), service.searcher)
    suggestions = await service.suggest(searcher, [request.text for request in requests])
    if len(answers) == 1 and isinstance(answers[0], ImageSearchError):
        status, detail = describe(answers[0])
        detail.suggestion = suggestions[0]
        return error_response(status, detail)
    results = []
    for request, answer, suggestion in zip(requests, answers, suggestions, strict=True):
        result: dict[str, Any] = {"query": request.text, "suggestion": suggestion, "hits": []}
        results.append(result)
        if isinstance(answer, ImageSearchError):
            result["unknown_words"] = unknown_words(searcher.space.text, request.text)
            result["unseen_words"] = []
            result["error"] = describe(answer)[1].model_dump()
            continue
        hits = _hits(searcher, root, answer)
        if explain:
            query = await service.embed(searcher, request)
            images = await service.look_up(searcher, [image.image_id for image in answer.images])
            for hit, (image, embedding) in zip(hits, images, strict=True):
                explained = await _explain(searcher, query, image, embedding)
                hit["explanation"] = explained[0]
        result |= {"unknown_words": answer.unknown_words, "unseen_words": answer.unseen_words}
        result |= {"hits": hits, "error": None}
    response = _json(
        {"results": results, "model": searcher.model, "database_version": searcher.version}
    )
    seconds = max((a.seconds for a in answers if isinstance(a, SearchResult)), default=0.0)
    response.headers["Server-Timing"] = f"search;dur={1000 * seconds:.2f}"
    return response


def _hits(searcher: Searcher, root: str, answer: SearchResult) -> list[dict[str, Any]]:
    hits = []
    for image, score in zip(answer.images, answer.scores, strict=True):
        address = f"{root}/images/{quote(image.image_id)}"
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


@router.get(
    "/explain",
    dependencies=_CHECKED,
    response_model=models.ExplainAnswer,
    responses=models.error_responses(400, 404, 503),
)
async def explain_image(
    image_id: models.ImageId, q: Text = "", like: Like = None, text_weight: TextWeight = 0.5
) -> Response:
    """Why an image has its score for a query, by word and by place in the image."""
    searcher = _service().searcher
    ((image, embedding),) = await _service().look_up(searcher, [image_id])
    request = Request(q, 1, like, text_weight=text_weight)
    query = await _service().embed(searcher, request)
    explanation, word_cells = await _explain(searcher, query, image, embedding)
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
    searcher: Searcher, query: QueryEmbedding, image: Image, embedding: np.ndarray
) -> tuple[dict[str, Any], list[Any] | None]:
    """The body of an `Explanation`, and the heat map of each word."""
    shares = (query.parts @ embedding).tolist()
    words = [
        {"word": word, "weight": weight, "share": share}
        for word, weight, share in zip(query.words, query.weights, shares, strict=True)
    ]
    explanation: dict[str, Any] = {"words": words, "heat_map": None, "heat_map_problem": None}
    try:
        seen = await _service().see(searcher, image)
    except ImageSearchError as error:
        explanation["heat_map_problem"] = describe(error)[1].message
        return explanation, None
    heat = split_over_cells(seen.feature_map, searcher.space.embedder, query.parts)
    explanation["heat_map"] = {
        "cells": heat.cells.astype(float).round(7).tolist(),
        "rounding": float(query.embedding @ embedding) - heat.score,
        "box": dict(zip(("left", "top", "right", "bottom"), seen.box, strict=True)),
    }
    return explanation, heat.shares.astype(float).round(7).tolist()


_IMAGE = {200: {"content": {"image/*": {}}}, **models.error_responses(404)}


@router.get("/images/{image_id:any_path}/thumbnail", response_class=Response, responses=_IMAGE)
async def thumbnail(image_id: str) -> Response:
    """A JPEG of an image, its longer side 480 pixels."""
    searcher = _service().searcher
    try:
        ((image, _),) = await _service().look_up(searcher, [image_id])
    except UnknownImageError:  # an image may itself be called …/thumbnail
        return await original(f"{image_id}/thumbnail")
    content = await _service().thumbnail(image)
    return Response(content, media_type="image/jpeg", headers=_CACHED)


@router.get("/images/{image_id:any_path}", response_class=Response, responses=_IMAGE)
async def original(image_id: str) -> Response:
    """The image file; one that lies on the web is redirected to."""
    ((image, _),) = await _service().look_up(_service().searcher, [image_id])
    if image.on_the_web:
        return RedirectResponse(image.uri)
    content, media_type = await _service().original(image)
    return Response(content, media_type=media_type, headers=_CACHED)


def create_app(access: Access) -> FastAPI:
    """The application of the replica in whose process it is made."""
    # The description's page with its scripts from here: many a cluster has no way out.
    app = FastAPIOffline(
        redoc_url=None,
        title="Semantic image search",
        version="1",
        description="Text and image queries over a database of images. Query language: words, "
        '`-word`, `word^2`, `"a phrase"`, and `\\` before a character that is meant literally.',
        responses=models.error_responses(401, 422),
    )
    _add_error_handlers(app)
    app.include_router(router)
    app.add_middleware(
        Guard,
        access=access,
        max_bytes={"/search/image": models.MAX_UPLOAD_BYTES},
        default_max_bytes=models.MAX_JSON_BYTES,
        max_bytes_held=_UPLOADS_HELD * models.MAX_UPLOAD_BYTES,
        search_paths=_SEARCH_PATHS,
        overloaded=lambda: _service().overloaded_s,
        observe=lambda *request: _service().observe(*request),
    )
    return app


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(ImageSearchError)
    async def typed(_: HttpRequest, error: ImageSearchError) -> Response:
        return error_response(*describe(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(http: HttpRequest, error: RequestValidationError) -> Response:
        # The input itself is not sent back: it may hold what JSON cannot (NaN).
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = f"{where}: {first['msg']}"
        if first["type"] == "model_attributes_type" and "json" not in http.headers.get(
            "content-type", ""
        ):
            message = "the body is read with the header Content-Type: application/json alone"
        detail = models.ErrorDetail(code="invalid_request", message=message)
        return error_response(422, detail)

    @app.exception_handler(HTTPException)
    async def http(http: HttpRequest, error: HTTPException) -> Response:
        message, headers = str(error.detail), dict(error.headers or {})
        if error.status_code == 404:
            message = "there is no such path; /docs describes those there are"
        elif error.status_code == 405:  # Starlette names what the first route of a path takes
            headers["Allow"] = ", ".join(_methods_of(app, http.scope))
            message = f"{http.scope['path']} takes {headers['Allow']}, not {http.method}"
        response = error_response(error.status_code, message)
        response.headers.update(headers)
        return response


def _methods_of(app: FastAPI, scope: MutableMapping[str, Any]) -> list[str]:
    """The methods that a path takes; HEAD where GET, see `Guard`."""
    # FastAPI keeps those of a router that is included in an object of its own.
    routes = (each for each in [*app.routes, *router.routes] if isinstance(each, Route))
    matching = [each for each in routes if each.matches(scope)[0] is not Match.NONE]
    taken = {method for route in matching for method in route.methods or ()}
    return sorted(taken | ({"HEAD"} if "GET" in taken else set()))
