"""The service on Ray Serve: search replicas behind HTTP, and a backbone for single images."""

import asyncio
import logging
import os
import urllib.request
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import ray
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.exceptions import RayActorError
from ray.serve import Application, metrics
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from lib.database.interface import Image
from lib.database.manifest import latest_version
from lib.database.remote import RemoteCollection
from lib.descriptors.image_encoder import ImageEncoder, SeenImage
from lib.errors import ImageSearchError, UnavailableError
from lib.images.thumbnails import for_browser, read_file, small_jpeg
from lib.schemas import Provenance
from lib.search.engine import Request, Searcher, SearchResult
from lib.service.batcher import Batcher
from lib.service.routes import create_app
from lib.storage import absolute
from lib.text.query import QueryEmbedding
from lib.text.word_vectors import absolute_source

TOKEN_VARIABLE = "IMAGE_SEARCH_TOKEN"
METRIC_PREFIX = "image_search_"
THUMBNAIL_SIZE = 480  # pixels of the longer side
_THUMBNAILS_KEPT = 2_000  # of some 30 KB each
_SECONDS = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0]
_REPORT_EVERY_S = 1.0
_BATCH_SIZES = [1, 2, 4, 8, 16, 32, 64]

_log = logging.getLogger("ray.serve")
T = TypeVar("T")


class ServiceSettings(BaseModel):
    """What a service is started with: the `args` of an application in serve_config.yaml."""

    model_config = ConfigDict(extra="forbid")

    db: str = Field(description="database: a directory, or a URL such as s3://…")
    captions: str | None = Field(default=None, description="captions to show beside the images")
    word_vectors: str | None = None
    weights: str | None = Field(
        default=None, description="weights of the backbone, for image queries"
    )
    min_replicas: int = Field(default=1, ge=1)
    max_replicas: int = Field(default=1, ge=1)
    max_waiting: int = Field(default=256, ge=1, description="searches that may wait in a replica")
    max_batch_size: int = Field(default=32, ge=1)
    reload_every_s: float = Field(
        default=2.0, gt=0, description="how often a new version is looked for"
    )


class ImageModel:
    """Deployment that sees images: a backbone, loaded when the first image needs it."""

    def __init__(self, weights: str | None) -> None:
        self.weights = weights
        self.encoder: ImageEncoder | None = None
        self.provenance: Provenance | None = None

    def extract(self, provenance: Provenance, content: bytes) -> np.ndarray:
        """(D,) float32 descriptor of an image file; see ImageEncoder.extract."""
        return self._image_encoder(provenance).extract(content)

    def see(self, provenance: Provenance, content: bytes) -> SeenImage:
        """Feature map of an image file; see ImageEncoder.see."""
        return self._image_encoder(provenance).see(content)

    def _image_encoder(self, provenance: Provenance) -> ImageEncoder:
        if self.encoder is None or self.provenance != provenance:
            self.encoder = ImageEncoder(provenance, self.weights)
            self.provenance = provenance
        return self.encoder


class SearchService:
    """Deployment that answers over HTTP: one database version in memory, replaced in one step."""

    def __init__(self, settings: ServiceSettings, image_model: DeploymentHandle) -> None:
        self.settings = settings
        self.image_model = image_model
        self._file_threads = ThreadPoolExecutor(4)
        self.searcher = self._file_threads.submit(self._load, None).result()
        self.reload_problem: str | None = None
        # One thread for searches: two batches at a time would only share memory bandwidth.
        self._batcher = Batcher(
            self._answer, ThreadPoolExecutor(1), settings.max_batch_size, settings.max_waiting
        )
        self._small_jpegs = lru_cache(_THUMBNAILS_KEPT)(_thumbnail)
        self._measures = _Measures()
        self._measures.version.set(self.searcher.version)
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._take_up_new_versions()),
            loop.create_task(self._measures.report()),
        ]

    def _load(self, previous: Searcher | None) -> Searcher:
        settings = self.settings
        return Searcher.load(
            settings.db, settings.captions, settings.word_vectors, previous, RemoteCollection
        )

    async def search(self, requests: Sequence[Request]) -> list[SearchResult | ImageSearchError]:
        """Found together with what other clients ask at the same time; see Searcher.answer."""
        answers = await self._batcher.submit(requests)
        unknown = sum(1 for a in answers if isinstance(a, SearchResult) and a.unknown_words)
        if unknown:
            self._measures.unknown_words += unknown
        return answers

    @property
    def overloaded(self) -> bool:
        """Whether as many searches wait as are taken on."""
        return self._batcher.full

    def _answer(self, requests: list[Request]) -> list[SearchResult | ImageSearchError]:
        self._measures.batch_size.observe(len(requests))
        answers = self.searcher.answer(requests)
        seconds = max((a.seconds for a in answers if isinstance(a, SearchResult)), default=0.0)
        self._measures.search_seconds.observe(seconds)
        return answers

    async def embed_image(self, content: bytes) -> np.ndarray:
        """(d,) unit embedding of an image file. Raises ImageError, UnavailableError."""
        space = self.searcher.space
        descriptor = await self._ask_image_model("extract", space.provenance, content)
        return space.se_image(descriptor)

    async def embed(self, searcher: Searcher, request: Request) -> QueryEmbedding:
        """What a request looks for; see Searcher.embed."""
        return await self._in_thread(searcher.embed, request)

    async def look_up(self, searcher: Searcher, image_id: str) -> tuple[Image, np.ndarray]:
        """An image and its embedding. Raises UnknownImageError."""
        return await self._in_thread(searcher.collection.look_up, image_id)

    async def see(self, searcher: Searcher, image: Image) -> SeenImage:
        """The backbone's view of an image of the database; see ImageEncoder.see."""
        content = await self._in_thread(read_file, image.uri)
        return await self._ask_image_model("see", searcher.space.provenance, content)

    async def _ask_image_model(self, method: str, *arguments: object) -> Any:
        try:
            return await getattr(self.image_model, method).remote(*arguments)
        except BackPressureError as error:
            raise UnavailableError("too many images wait already; try again later") from error
        except (DeploymentUnavailableError, RayActorError) as error:
            raise UnavailableError("the image model is not running; try again later") from error

    async def original(self, image: Image) -> tuple[bytes, str]:
        """An image file that browsers show, and its media type. Raises UnreadableImageError."""
        return await self._in_thread(_original, image.uri)

    async def thumbnail(self, image: Image) -> bytes:
        """A small JPEG of an image. Raises UnreadableImageError."""
        return await self._in_thread(self._small_jpegs, image.uri, image.etag)

    async def _in_thread(self, function: Callable[..., T], *arguments: object) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._file_threads, function, *arguments)

    async def metrics(self) -> str:
        """This application's metrics on this node. Raises UnavailableError."""
        return await self._in_thread(_node_metrics)

    async def _take_up_new_versions(self) -> None:
        """Replace the database whenever a version is committed; keep the old one if that fails."""
        settings = self.settings
        seen = self.searcher.version
        while True:
            await asyncio.sleep(settings.reload_every_s)
            try:
                newest = await self._in_thread(latest_version, settings.db, seen)
                if newest == seen:
                    continue
                seen = newest
                searcher = await self._in_thread(self._load, self.searcher)
            except Exception as error:  # whatever lies there: what is served goes on
                self._refuse(error)
            else:
                self.searcher, self.reload_problem = searcher, None
                self._measures.version.set(searcher.version)
                self._measures.reloads.inc(tags={"outcome": "taken_up"})
                _log.info("took up database version %s", searcher.version)

    def _refuse(self, error: Exception) -> None:
        typed = isinstance(error, ImageSearchError)
        self.reload_problem = type(error).__name__ if typed else "failed to load"
        self._measures.reloads.inc(tags={"outcome": "refused"})
        _log.error("a new database version was refused, the old one stays: %s", error)

    def observe(self, route: str, status: int, seconds: float) -> None:
        """Count one HTTP request."""
        self._measures.requests[route, str(status)] += 1
        self._measures.seconds.observe(seconds, tags={"route": route})

    def check_health(self) -> None:
        """Ray Serve replaces this replica when this raises."""
        if any(task.done() for task in self._tasks):
            raise RuntimeError("a task that looks for new versions or reports metrics has ended")


class _Measures:
    """The service's own metrics, beside those of Ray Serve.

    What each request counts is added up here and handed to Ray once a second: recording is slow.
    """

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str]] = Counter()  # by route and status
        self.unknown_words = 0
        self.seconds = _histogram("request_seconds", "Seconds a request took", _SECONDS, "route")
        self.search_seconds = _histogram("batch_seconds", "Seconds a batch took", _SECONDS)
        self.batch_size = _histogram("batch_size", "Queries searched together", _BATCH_SIZES)
        self.reloads = _counter("reloads", "New database versions", "outcome")
        self.version = metrics.Gauge(f"{METRIC_PREFIX}database_version", "Version served")
        self._requests = _counter("requests", "HTTP requests", "route", "status")
        self._unknown_words = _counter("unknown_word_queries", "Queries with unknown words")

    async def report(self) -> None:
        """Keep handing over what has been counted."""
        while True:
            await asyncio.sleep(_REPORT_EVERY_S)
            for (route, status), count in self.requests.items():
                self._requests.inc(count, tags={"route": route, "status": status})
            if self.unknown_words:
                self._unknown_words.inc(self.unknown_words)
            self.requests.clear()
            self.unknown_words = 0


def _counter(name: str, description: str, *tags: str) -> metrics.Counter:
    keys: Any = tags  # Ray annotates a tuple of exactly one
    return metrics.Counter(METRIC_PREFIX + name, description, tag_keys=keys)


def _histogram(
    name: str, description: str, bounds: Sequence[float], *tags: str
) -> metrics.Histogram:
    keys: Any = tags
    return metrics.Histogram(METRIC_PREFIX + name, description, list(bounds), tag_keys=keys)


def _original(uri: str) -> tuple[bytes, str]:
    return for_browser(read_file(uri))


def _thumbnail(uri: str, _etag: str) -> bytes:
    return small_jpeg(read_file(uri), THUMBNAIL_SIZE)


def _node_metrics() -> str:
    """Lines of this node's metrics agent that are this application's."""
    node_id = ray.get_runtime_context().get_node_id()
    port = next(n["MetricsExportPort"] for n in ray.nodes() if n["NodeID"] == node_id)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as response:
            text = response.read().decode()
    except OSError as error:
        raise UnavailableError("this node's metrics agent does not answer") from error
    lines = [line for line in text.splitlines() if f"ray_{METRIC_PREFIX}" in line]
    return "\n".join([*lines, ""])


def _create_app() -> FastAPI:
    """The application of a replica; made inside it, so that it reads the replica's environment."""

    def service() -> SearchService:
        return serve.get_replica_context().servable_object  # type: ignore[return-value]

    def observe(route: str, status: int, seconds: float) -> None:
        service().observe(route, status, seconds)

    return create_app(service, os.environ.get(TOKEN_VARIABLE) or None, observe)


def build(settings: ServiceSettings) -> Application:
    """The application that serve_config.yaml names: a search service and its image model."""
    settings = settings.model_copy(
        update={
            "db": absolute(settings.db),
            "captions": settings.captions and absolute(settings.captions),
            "word_vectors": absolute_source(settings.word_vectors),
        }
    )
    # The replica sheds load itself, with a reason; Serve's own queue is kept out of the way.
    search: Any = serve.deployment(
        serve.ingress(_create_app)(SearchService),
        name="Search",
        max_ongoing_requests=100 * settings.max_waiting,
        autoscaling_config={
            "min_replicas": settings.min_replicas,
            "max_replicas": settings.max_replicas,
            "target_ongoing_requests": settings.max_batch_size,
        },
        ray_actor_options={"num_cpus": 1},
        graceful_shutdown_timeout_s=20,
        max_constructor_retry_count=1,
    )
    image_model: Any = serve.deployment(
        ImageModel,
        name="ImageModel",
        max_ongoing_requests=2,
        max_queued_requests=64,
        ray_actor_options={"num_cpus": 0.5},
    )
    application: Application = search.bind(settings, image_model.bind(settings.weights))
    return application
