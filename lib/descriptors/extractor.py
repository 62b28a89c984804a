"""Describes one shard of images on this machine: read, decode and forward pass overlap."""

import hashlib
import itertools
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa

from lib.backbones.engines import Engine, Forms, choose
from lib.backbones.origin import Origin
from lib.descriptors.shards import ExtractionSettings
from lib.descriptors.store import DescribedImage, Failure, descriptor_table
from lib.images.decoding import ImageError
from lib.images.listed import ListedImage
from lib.images.preprocessing import (
    RESIZES_FAST,
    DecodedImage,
    EncodedJpeg,
    Preprocessing,
    Resize,
    decode,
    for_gpu,
    resize,
    resize_with_torch,
)
from lib.images.reading import read_image
from lib.progress import STAGES
from lib.schemas import FAILURES, descriptor_schema

if TYPE_CHECKING:  # PyTorch: where OpenVINO computes nobody waits for it
    from lib.backbones.backbone import Backbone
    from lib.images.gpu_decoding import GpuDecoder

_READERS = 16  # threads that wait for storage
_CHUNK_BYTES, _AHEAD_BYTES = 64_000_000, 512_000_000  # of files that are read ahead
_CHUNK = 8  # images that go from thread to thread together: one at a time costs 5 % of the rate
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass
class ExtractedShard:
    """What became of a shard: every image is a row of one of the two tables."""

    descriptors: pa.Table
    failures: pa.Table
    seconds: dict[str, float] = field(default_factory=dict)  # of each stage, over all threads


class Clock:
    """Seconds spent in each stage, over all threads."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._lock = threading.Lock()

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Add the length of a `with` block to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self.seconds[stage] += time.perf_counter() - start


class DescriptorExtractor:
    """An engine with threads that read and decode ahead of it."""

    def __init__(
        self,
        engine: Engine,
        preprocessing: Preprocessing,
        schema: pa.Schema,
        threads: int,
        overlap: bool = False,
        resize: Resize = resize,
        scaled: bool = False,
    ) -> None:
        """`threads` decode; `overlap`: on cores that the engine does not need; `scaled`: see
        `lib.images.preprocessing.decode`.

        `schema`: that of `lib.schemas.descriptor_schema`.
        """
        self.engine, self.schema = engine, schema
        self._decode = partial(decode, preprocessing=preprocessing, resize=resize, scaled=scaled)
        self.readers = ThreadPoolExecutor(_READERS, "read")
        # On a single core a second thread only takes turns with the network, which costs 6 %.
        overlap = overlap or threads > 1
        self.decoders = ThreadPoolExecutor(threads, "decode") if overlap else None
        self.gpu = ThreadPoolExecutor(1, "decode on the GPU") if engine.decoder else None
        self.ahead = 2 * engine.batch_size // _CHUNK + threads

    def extract(self, images: Sequence[ListedImage]) -> ExtractedShard:
        """Describe a shard; a bad image becomes a failure. Rows keep the order given."""
        clock = Clock()
        rows: list[DescribedImage] = []
        failures: list[dict[str, Any]] = []
        size = self.schema.field("descriptor").type.list_size
        descriptors = np.empty((len(images), size), np.float32)
        batches: defaultdict[tuple[int, ...], dict[int, Any]] = defaultdict(dict)

        def forward(batch: dict[int, Any]) -> None:
            """Fill the rows of a batch of pictures that have one shape."""
            with clock.time("forward"):
                descriptors[list(batch)] = self.engine(list(batch.values()))
            batch.clear()

        pictures = itertools.chain.from_iterable(self._pictures(images, clock))
        for image, picture in zip(images, pictures, strict=True):
            if isinstance(picture, Failure):
                failures.append(picture.row(image))
                continue
            batch = batches[picture.pixels.shape]
            batch[len(rows)] = picture.pixels
            known = picture.width, picture.height, picture.bytes, picture.digest
            rows.append(DescribedImage(image, *known))
            if len(batch) == self.engine.batch_size:
                forward(batch)
        for batch in filter(None, batches.values()):
            forward(batch)
        return ExtractedShard(
            descriptor_table(rows, descriptors[: len(rows)], self.schema),
            pa.Table.from_pylist(failures, schema=FAILURES),
            clock.seconds,
        )

    def _pictures(
        self, images: Sequence[ListedImage], clock: Clock
    ) -> Iterator[list[DecodedImage | Failure]]:
        """Pictures of some images at a time, in the order given: read ahead and, where there are
        cores for it, decoded ahead.
        """
        contents = _ahead(self.readers, _READERS, partial(_read, clock), _chunks(images), _bytes)
        decoding = partial(_decode, clock, self._decode)
        if self.decoders is None:
            return map(decoding, contents)
        if self.gpu is None or self.engine.decoder is None:
            return _ahead(self.decoders, self.ahead, decoding, contents)
        from lib.images.gpu_decoding import windows

        leaving = partial(_leave_to_gpu, clock, self._decode)
        prepared = _ahead(self.decoders, self.ahead, leaving, contents)
        on_gpu = partial(_decode_on_gpu, clock, self.engine.decoder, self._decode)
        return _ahead(self.gpu, 2, on_gpu, windows(itertools.chain.from_iterable(prepared)))


def build_extractor(
    origin: Origin,
    forms: Forms,
    network: Callable[[], "Backbone"],
    device: str,
    settings: ExtractionSettings,
) -> DescriptorExtractor:
    """An extractor with the fastest engine that keeps the promise on this device.

    `network` gives the backbone, where it is PyTorch that computes.
    """
    with_torch = forms.float32 is None or device != "cpu" or not RESIZES_FAST
    if with_torch:
        import torch

        torch.set_num_threads(settings.cpus)
    engine, computation = choose(forms, network, device, settings.cpus)
    return DescriptorExtractor(
        engine,
        origin.preprocessing,
        descriptor_schema(origin.provenance(settings.stored), computation),
        settings.cpus,
        overlap=device != "cpu",
        resize=resize_with_torch if with_torch else resize,
        scaled=forms.fidelity == "fast",
    )


def _read(clock: Clock, images: list[ListedImage]) -> list[bytes | Failure]:
    with clock.time("read"):
        return [_read_one(image) for image in images]


def _read_one(image: ListedImage) -> bytes | Failure:
    try:
        return read_image(image)
    except ImageError as error:
        return Failure(error.reason, str(error))


def _decode(
    clock: Clock, decode: Callable[[bytes], DecodedImage], contents: list[bytes | Failure]
) -> list[DecodedImage | Failure]:
    with clock.time("decode"):
        return [_decode_one(content, decode) for content in contents]


def _leave_to_gpu(
    clock: Clock, decode: Callable[[bytes], DecodedImage], contents: list[bytes | Failure]
) -> list[DecodedImage | EncodedJpeg | Failure]:
    """What a GPU can decode as it is, the others decoded here."""
    with clock.time("decode"):
        left = [for_gpu(each) if isinstance(each, bytes) else None for each in contents]
        pairs = zip(left, contents, strict=True)
        return [jpeg or _decode_one(content, decode) for jpeg, content in pairs]


def _decode_on_gpu(
    clock: Clock,
    decoder: "GpuDecoder",
    decode: Callable[[bytes], DecodedImage],
    window: list[DecodedImage | EncodedJpeg | Failure],
) -> list[DecodedImage | Failure]:
    with clock.time("decode"):
        jpegs = [each for each in window if isinstance(each, EncodedJpeg)]
        try:
            pixels = iter(decoder(jpegs) if jpegs else ())
        except RuntimeError:  # a damaged one among them: this decoder tells which
            return [
                _decode_one(each.content, decode) if isinstance(each, EncodedJpeg) else each
                for each in window
            ]
        return [
            each.decoded(next(pixels)) if isinstance(each, EncodedJpeg) else each for each in window
        ]


def _decode_one(
    content: bytes | Failure, decode: Callable[[bytes], DecodedImage]
) -> DecodedImage | Failure:
    if isinstance(content, Failure):
        return content
    try:
        return decode(content)
    except ImageError as error:
        digest = hashlib.sha256(content).hexdigest()
        return Failure(error.reason, str(error), len(content), digest)


def _chunks(images: Sequence[ListedImage]) -> Iterator[list[ListedImage]]:
    """The images in lists of some, and of one where a file is large."""
    chunk: list[ListedImage] = []
    for image in images:
        if len(chunk) == _CHUNK or (chunk and _bytes([*chunk, image]) > _CHUNK_BYTES):
            yield chunk
            chunk = []
        chunk.append(image)
    if chunk:
        yield chunk


def _bytes(images: list[ListedImage]) -> int:
    return sum(max(0, image.bytes) for image in images)


def _ahead(
    pool: ThreadPoolExecutor,
    ahead: int,
    function: Callable[[_Item], _Result],
    items: Iterable[_Item],
    size: Callable[[_Item], int] = lambda item: 0,
) -> Iterator[_Result]:
    """Results in order, computed by the threads before they are used.

    At most `ahead` items wait, and, but for the first, items of _AHEAD_BYTES by their `size`.
    """
    source = iter(items)
    waiting: deque[tuple[Future[_Result], int]] = deque()
    item, total, result = next(source, None), 0, None
    while True:
        while item is not None and len(waiting) < ahead:
            if waiting and total + size(item) > _AHEAD_BYTES:
                break
            waiting.append((pool.submit(function, item), size(item)))
            total += size(item)
            item = next(source, None)
        if result is not None:
            yield result
        if not waiting:
            return
        future, length = waiting.popleft()
        result = future.result()
        total -= length
