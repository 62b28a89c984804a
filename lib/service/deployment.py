"""The service on Ray Serve: search replicas behind HTTP, and a backbone for single images."""

import asyncio
import dataclasses
import logging
import math
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.exceptions import RayActorError
from ray.serve import Application
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from lib.backbones.origin import absolute_weights
from lib.backbones.seen_image import SeenImage
from lib.database.interface import Image
from lib.database.manifest import latest_version
from lib.database.remote import RemoteCollection
from lib.errors import BadArgumentError, ImageSearchError, UnavailableError
from lib.images.thumbnails import for_browser, read_file, small_jpeg
from lib.schemas import Provenance
from lib.search.engine import Request, Searcher, SearchResult
from lib.service.batcher import Batcher
from lib.service.guard import Access
from lib.service.metrics import Measures, node_metrics
from lib.service.pool import DeadlinePool
from lib.service.routes import create_app
from lib.service.shards import ShardDeployments, bind_shards
from lib.storage import absolute
from lib.text.query import QueryEmbedding
from lib.text.word_vectors import absolute_source

if TYPE_CHECKING:  # PyTorch: a front end without it starts seconds sooner
    from lib.backbones.image_encoder import ImageEncoder

TOKEN_VARIABLE = "IMAGE_SEARCH_TOKEN"
THUMBNAIL_SIZE = 480  # pixels of the longer side
FILE_WITHIN_S = 10.0  # an image file is read, or given up
HEALTH_WITHIN_S = 4.0  # search processes that have not answered for so long are not ready
SPELLING_WITHIN_S = 1.0  # a misspelt word has its suggestion, or none
_THUMBNAILS_KEPT = 2_000  # of some 30 KB each
_FILE_THREADS = 8
_BATCHES = 2  # at work at a time
_SWITCH_WITHIN_S = 0.0005
_CHECK_EVERY_S = 0.5
_CHECK_WITHIN_S = 2.0
_RETRY_RELOAD = 10  # times the pause between two looks at the database

_log = logging.getLogger("ray.serve")


class ServiceSettings(BaseModel):
    """What a service is started with: the `args` of an application in serve_config.yaml."""

    model_config = ConfigDict(extra="forbid")

    db: str = Field(description="database: a directory, or a URL such as s3://…")
    captions: str | None = Field(default=None, description="captions to show beside the images")
    word_vectors: str | None = None
    weights: str | None = Field(
        default=None, description="weights of the backbone, for image queries"
    )
    shards: int | None = Field(
        default=None, ge=1, description="processes that share the collection; as memory needs"
    )
    min_replicas: int = Field(default=1, ge=1)
    max_replicas: int = Field(default=1, ge=1)
    max_waiting: int = Field(default=256, ge=1, description="searches that may wait in a replica")
    max_wait_s: float = Field(default=2.0, gt=0, description="for which a search may wait")
    max_batch_size: int = Field(default=32, ge=1)
    reload_every_s: float = Field(
        default=2.0, gt=0, description="how often a new version is looked for"
    )
    host: str = Field(default="127.0.0.1", description="the address that the proxy listens on")
    hosts: list[str] = Field(
        default=[], description="names by which the service may be called where it has no token"
    )
    root_path: str = Field(
        default="", pattern=r"^(/[A-Za-z0-9._~/-]*)?$", description="prefix of a reverse proxy"
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

    def _image_encoder(self, provenance: Provenance) -> "ImageEncoder":
        if self.encoder is None or self.provenance != provenance:
            from lib.backbones.image_encoder import ImageEncoder  # seconds to import

            self.encoder = ImageEncoder(provenance, self.weights)
            self.provenance = provenance
        return self.encoder


class SearchService:
    """Deployment that answers over HTTP: one database version at a time, replaced in one step."""

    async def __init__(  # type: ignore[misc]
        self,
        settings: ServiceSettings,
        shards: list[DeploymentHandle],
        image_model: DeploymentHandle,
    ) -> None:
        self.settings = settings
        # By default a thread that comes back from numpy or from a shard waits 5 ms for the loop, at
        # each call; with hundreds of answers a second that was a third of the capacity.
        sys.setswitchinterval(_SWITCH_WITHIN_S)
        self.shards = ShardDeployments(shards)
        self.image_model = image_model
        # Each kind of work has threads of its own: none waits for a host that does not answer.
        self._loader = ThreadPoolExecutor(1)
        self._prober = ThreadPoolExecutor(1)
        self._lookups = DeadlinePool(4, max_waiting=4 * settings.max_waiting, within_s=30)
        self._spelling = DeadlinePool(1, max_waiting=8, within_s=SPELLING_WITHIN_S)
        self._files = DeadlinePool(_FILE_THREADS, max_waiting=48, within_s=FILE_WITHIN_S)
        loop = asyncio.get_running_loop()
        self.searcher = await loop.run_in_executor(self._loader, self._load, None)
        self.reload_problem: str | None = None
        # Shards search one batch at a time: two would only share memory bandwidth. Meanwhile this
        # process prepares the next.
        self._batcher = Batcher(
            self._answer,
            ThreadPoolExecutor(_BATCHES),
            settings.max_batch_size,
            settings.max_waiting,
            settings.max_wait_s,
            _BATCHES,
        )
        self._small_jpegs = lru_cache(_THUMBNAILS_KEPT)(_thumbnail)
        self._measures = Measures()
        self._measures.version.set(self.searcher.version)
        self._answered = time.monotonic()  # when the search processes last said that they can
        self._lost = False  # whether they hold nothing and cannot load it again
        self._tasks = [
            loop.create_task(self._take_up_new_versions()),
            loop.create_task(self._watch()),
            loop.create_task(self._measures.report()),
        ]

    def _load(self, previous: Searcher | None) -> Searcher:
        settings = self.settings
        searcher = Searcher.load(
            settings.db,
            settings.captions,
            settings.word_vectors,
            previous,
            partial(RemoteCollection, shards=self.shards),
        )
        _ = searcher.spelling  # now, for no query is to wait until it is there
        return searcher

    async def search(self, requests: Sequence[Request]) -> list[SearchResult | ImageSearchError]:
        """Answers, found together with what other clients ask at the same time.

        All come from one database version, also while a new one is taken up; see Searcher.answer.
        Raises OverloadedError, UnavailableError.
        """
        while True:
            searcher = self.searcher
            ready = await asyncio.gather(*(self._resolve(searcher, each) for each in requests))
            asked = [each for each in ready if isinstance(each, Request)]
            answers = iter(await self._batcher.submit(asked) if asked else [])
            results = [next(answers) if isinstance(each, Request) else each for each in ready]
            versions = {r.searcher.version for r in results if isinstance(r, SearchResult)}
            if len(versions) <= 1:
                break
        self._measures.unknown_words += sum(
            1 for r in results if isinstance(r, SearchResult) and r.unknown_words
        )
        return results

    async def _resolve(self, searcher: Searcher, request: Request) -> Request | ImageSearchError:
        """The request with the embedding of the image that it is `like`.

        Looked up here, that a batch of searches never waits for it.
        """
        if request.like is None:
            return request
        try:
            _, embedding = (await self.look_up(searcher, [request.like]))[0]
        except ImageSearchError as error:
            return error
        return dataclasses.replace(request, like=None, image=embedding)

    @property
    def overloaded_s(self) -> float:
        """In how many seconds a search can be taken on again; 0 where it can be now."""
        return self._batcher.overloaded_s

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
        return await self._lookups.run(searcher.embed, request)

    async def suggest(self, searcher: Searcher, texts: Sequence[str]) -> list[str | None]:
        """The queries as they were probably meant; see Searcher.suggest.

        Without suggestions where those of others take too long: no search is to wait for them.
        """

        def suggested() -> list[str | None]:
            return [searcher.suggest(text) for text in texts]

        if any(searcher.odd_words(text) for text in texts):
            with suppress(UnavailableError):
                return await self._spelling.run(suggested)
        return [None] * len(texts)

    async def look_up(
        self, searcher: Searcher, image_ids: Sequence[str]
    ) -> list[tuple[Image, np.ndarray]]:
        """Images and their embeddings, in one round trip. Raises UnknownImageError."""
        return await self._lookups.run(searcher.collection.look_up_all, image_ids)

    async def see(self, searcher: Searcher, image: Image) -> SeenImage:
        """The backbone's view of an image of the database; see ImageEncoder.see."""
        content = await self._files.run(read_file, image.uri)
        return await self._ask_image_model("see", searcher.space.provenance, content)

    async def _ask_image_model(self, method: str, *arguments: object) -> Any:
        try:
            return await getattr(self.image_model, method).remote(*arguments)
        except BackPressureError as error:
            raise UnavailableError("too many images wait already; try again later") from error
        except (DeploymentUnavailableError, RayActorError) as error:
            raise UnavailableError("the image model is not running; try again later") from error

    async def original(self, image: Image) -> tuple[bytes, str]:
        """An image file that browsers show, and its media type.

        Raises UnreadableImageError, UnavailableError.
        """
        return await self._files.run(_original, image.uri)

    async def thumbnail(self, image: Image) -> bytes:
        """A small JPEG of an image. Raises UnreadableImageError, UnavailableError."""
        return await self._files.run(self._small_jpegs, image.uri, image.etag)

    async def metrics(self) -> str:
        """This application's metrics on this node. Raises UnavailableError."""
        return await asyncio.to_thread(node_metrics)

    async def _take_up_new_versions(self) -> None:
        """Replace the database whenever a version is committed; keep the old one if that fails.

        A version that was refused is tried again, more seldom: a store may have failed for a while.
        """
        settings = self.settings
        loop = asyncio.get_running_loop()
        seen = self.searcher.version
        again = math.inf
        while True:
            await asyncio.sleep(settings.reload_every_s)
            try:
                newest = await loop.run_in_executor(self._loader, latest_version, settings.db, seen)
                if newest == seen and time.monotonic() < again and not self._lost:
                    continue
                seen = newest
                again = time.monotonic() + _RETRY_RELOAD * settings.reload_every_s
                searcher = await loop.run_in_executor(self._loader, self._load, self.searcher)
            except Exception as error:  # whatever lies there: what is served goes on
                typed = isinstance(error, ImageSearchError)
                self.reload_problem = type(error).__name__ if typed else "failed to load"
                self._measures.reloads.inc(tags={"outcome": "refused"})
                _log.error("a new database version was refused, the old one stays: %s", error)
            else:
                self.searcher, self.reload_problem, again = searcher, None, math.inf
                self._lost = False
                self._measures.version.set(searcher.version)
                self._measures.reloads.inc(tags={"outcome": "taken_up"})
                _log.info("took up database version %s", searcher.version)

    async def _watch(self) -> None:
        """Keep asking the search processes whether they can search."""
        loop = asyncio.get_running_loop()
        while True:
            collection = self.searcher.collection
            try:
                if isinstance(collection, RemoteCollection):
                    await loop.run_in_executor(self._prober, collection.check, _CHECK_WITHIN_S)
                self._answered = time.monotonic()
            except UnavailableError:  # being started again, or very busy
                pass
            except Exception as error:
                if collection is self.searcher.collection:
                    self._lost = True  # whatever version can be loaded is better than none
                    self._answered = -math.inf
                    _log.error("the version served cannot be loaded again: %s", error)
            await asyncio.sleep(_CHECK_EVERY_S)

    @property
    def ready(self) -> bool:
        """Whether searches are answered, as of a few seconds ago."""
        return time.monotonic() - self._answered < HEALTH_WITHIN_S

    def observe(self, route: str, status: int, seconds: float) -> None:
        """Count one HTTP request."""
        self._measures.requests[route, str(status)] += 1
        self._measures.seconds.observe(seconds, tags={"route": route})

    def check_health(self) -> None:
        """Ray Serve replaces this replica when this raises."""
        if any(task.done() for task in self._tasks):
            raise RuntimeError("a task that looks for new versions or reports metrics has ended")


def _original(uri: str) -> tuple[bytes, str]:
    return for_browser(read_file(uri))


def _thumbnail(uri: str, _etag: str) -> bytes:
    return small_jpeg(read_file(uri), THUMBNAIL_SIZE)


def read_token() -> str | None:
    """The token of IMAGE_SEARCH_TOKEN, None where there is none.

    A file's last line break does not count. Raises BadArgumentError where nothing else is there: a
    secret that failed to arrive must not open the service.
    """
    token = os.environ.get(TOKEN_VARIABLE, "")
    if token and not token.strip():
        raise BadArgumentError(f"{TOKEN_VARIABLE} holds only white space; give a token or unset it")
    return token.strip() or None


def build(settings: ServiceSettings) -> Application:
    """The application that serve_config.yaml names: a search service and its image model."""
    settings = settings.model_copy(
        update={
            "db": absolute(settings.db),
            "captions": settings.captions and absolute(settings.captions),
            "word_vectors": absolute_source(settings.word_vectors),
            "weights": absolute_weights(settings.weights),
        }
    )

    def app() -> FastAPI:  # made in the replica, whose environment has the token
        access = Access(read_token(), settings.host, settings.hosts, settings.root_path)
        return create_app(access)

    # The replica sheds load itself, with a reason; Serve's own queue is kept out of the way.
    search: Any = serve.deployment(
        serve.ingress(app)(SearchService),
        name="Search",
        max_ongoing_requests=100 * settings.max_waiting,
        autoscaling_config={
            "min_replicas": settings.min_replicas,
            "max_replicas": settings.max_replicas,
            "target_ongoing_requests": settings.max_batch_size,
        },
        ray_actor_options={"num_cpus": 0.5},
        graceful_shutdown_timeout_s=20,
        graceful_shutdown_wait_loop_s=0.2,
        health_check_period_s=2,
        max_constructor_retry_count=1,
    )
    image_model: Any = serve.deployment(
        ImageModel,
        name="ImageModel",
        max_ongoing_requests=2,
        max_queued_requests=64,
        graceful_shutdown_timeout_s=5,
        graceful_shutdown_wait_loop_s=0.2,
        health_check_period_s=2,
        ray_actor_options={"num_cpus": 0.5},
    )
    application: Application = search.bind(
        settings,
        bind_shards(settings.db, settings.shards, cpus=1),
        image_model.bind(settings.weights),
    )
    return application
