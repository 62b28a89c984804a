"""Describes one shard of images on this machine: read, decode and forward pass overlap."""

import hashlib
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, TypeVar

import numpy as np
import pyarrow as pa
import torch

from lib.descriptors.acceleration import accelerate, has_fast_bfloat16, tolerates_bfloat16
from lib.descriptors.backbones import Backbone
from lib.images.decoding import ImageError
from lib.images.listing import ListedImage
from lib.images.preprocessing import DecodedImage, Preprocessing, decode
from lib.images.reading import read_image
from lib.progress import STAGES
from lib.schemas import FAILURES, Precision, descriptor_schema, vectors_to_column

_READERS = 16  # threads that wait for storage
_CHUNK = 8  # images that go from thread to thread together: one at a time costs 5 % of the rate
# Measured on a Zen 5 CPU (benchmarks/extraction.py); larger ones fall out of its caches.
_BATCH_SIZE = {"cpu": 8, "cuda": 256}
Compute = Literal["auto", "bfloat16", "float32"]
DescribedImage = tuple[ListedImage, int, int, int, str]  # width, height, bytes, digest
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


@dataclass(frozen=True)
class Failure:
    """Why an image has no descriptor."""

    reason: str
    message: str
    bytes: int = -1  # -1 where none could be read
    sha256: str = ""

    def row(self, image: ListedImage) -> dict[str, Any]:
        """A row of `DB/failures`."""
        return {
            "image_id": image.image_id,
            "uri": image.uri,
            "path": image.path,
            "reason": self.reason,
            "message": self.message,
            "sha256": self.sha256,
            "bytes": image.bytes if self.bytes < 0 else self.bytes,
            "etag": image.etag,
        }


class DescriptorExtractor:
    """A backbone made ready for speed on one device, with threads that read and decode ahead."""

    def __init__(
        self,
        backbone: Backbone,
        precision: Precision,
        device: str,
        threads: int,
        compute: Compute = "auto",
    ) -> None:
        """`threads` decode and, on a CPU, also compute. Loads and rewrites the network: seconds."""
        self.backbone = backbone
        self.precision = precision
        self.device = torch.device(device)
        self.batch_size = _BATCH_SIZE[self.device.type]
        fast = compute == "bfloat16" or (
            compute == "auto"
            and has_fast_bfloat16(self.device)
            and tolerates_bfloat16(backbone.network)
        )
        self.compute = torch.bfloat16 if fast else torch.float32
        self.readers = ThreadPoolExecutor(_READERS, "read")
        # On a single core a second thread only takes turns with the network, which costs 6 %.
        overlap = threads > 1 or self.device.type == "cuda"
        self.decoders = ThreadPoolExecutor(threads, "decode") if overlap else None
        self.ahead = 2 * self.batch_size // _CHUNK + threads
        side = backbone.preprocessing.crop
        self.batch = torch.zeros((self.batch_size, 3, side, side), dtype=torch.uint8).contiguous(
            memory_format=torch.channels_last
        )
        if self.device.type == "cuda":
            self.batch = self.batch.pin_memory()
        self.scale, self.shift = _normalisation(backbone.preprocessing, self.device)
        self.forward = accelerate(backbone.network, self.scale.expand_as(self.batch), fast)

    def extract(self, images: Sequence[ListedImage]) -> ExtractedShard:
        """Describe a shard; a bad image becomes a failure. Rows keep the order given."""
        clock = Clock()
        rows: list[DescribedImage] = []
        failures: list[dict[str, Any]] = []
        vectors: list[np.ndarray] = []
        filled = 0
        # numpy copies the rows of a crop ten times as fast as a channels-last tensor does.
        rows_of_batch = self.batch.permute(0, 2, 3, 1).numpy()
        pictures = itertools.chain.from_iterable(self._pictures(images, clock))
        for image, picture in zip(images, pictures, strict=True):
            if isinstance(picture, Failure):
                failures.append(picture.row(image))
                continue
            seen = (picture.width, picture.height, picture.bytes, picture.digest)
            rows.append((image, *seen))
            rows_of_batch[filled] = picture.pixels.permute(1, 2, 0).numpy()
            filled += 1
            if filled == self.batch_size:
                vectors.append(self._compute(filled, clock))
                filled = 0
        if filled:
            vectors.append(self._compute(filled, clock))
        return ExtractedShard(
            self._descriptor_table(rows, vectors),
            pa.Table.from_pylist(failures, schema=FAILURES),
            clock.seconds,
        )

    def _pictures(
        self, images: Sequence[ListedImage], clock: Clock
    ) -> Iterator[list[DecodedImage | Failure]]:
        """Pictures of some images at a time, in the order given: read ahead and, where there are
        cores for it, decoded ahead.
        """
        source = iter(images)
        chunks = iter(lambda: list(itertools.islice(source, _CHUNK)), [])
        contents = _ahead(self.readers, _READERS, partial(_read, clock), chunks)
        decoding = partial(_decode, clock, self.backbone.preprocessing)
        if self.decoders is None:
            return map(decoding, contents)
        return _ahead(self.decoders, self.ahead, decoding, contents)

    def _compute(self, filled: int, clock: Clock) -> np.ndarray:
        """(filled, D) float32 descriptors of the first images in the batch.

        The batch is always computed whole, a short one with what the last left in it, so that an
        image's descriptor is the same whichever others it shares a shard with.
        """
        with clock.time("forward"):
            return self.compute_batch()[:filled].float().cpu().numpy()

    @torch.inference_mode()
    def compute_batch(self) -> torch.Tensor:
        """(batch_size, D) descriptors of what `batch` holds, on the device."""
        images = self.batch.to(self.device, non_blocking=True)
        return self.forward(images.float().mul_(self.scale).sub_(self.shift).to(self.compute))

    def _descriptor_table(self, rows: list[DescribedImage], vectors: list[np.ndarray]) -> pa.Table:
        schema = descriptor_schema(self.backbone.provenance(self.precision))
        values = np.concatenate(
            [np.empty((0, self.backbone.descriptor_size), np.float32), *vectors]
        ).astype(self.precision)
        columns = [
            [image.image_id for image, *_ in rows],
            [image.uri for image, *_ in rows],
            [image.path for image, *_ in rows],
            [width for _, width, *_ in rows],
            [height for _, _, height, *_ in rows],
            [size for *_, size, _ in rows],
            [image.etag for image, *_ in rows],
            [digest for *_, digest in rows],
        ]
        arrays = [pa.array(c, schema.field(i).type) for i, c in enumerate(columns)]
        return pa.Table.from_arrays([*arrays, vectors_to_column(values)], schema=schema)


def _normalisation(
    preprocessing: Preprocessing, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Factor and then subtrahend that normalise uint8 values; (1, 3, crop, crop) float32 each.

    Spread over a whole image: a factor a channel would make the innermost loop three long.
    """
    std, mean = torch.tensor(preprocessing.std), torch.tensor(preprocessing.mean)
    side = preprocessing.crop
    scale, shift = (
        values.view(1, 3, 1, 1)
        .expand(1, 3, side, side)
        .contiguous(memory_format=torch.channels_last)
        .to(device)
        for values in (1 / (255 * std), mean / std)
    )
    return scale, shift


def _read(clock: Clock, images: list[ListedImage]) -> list[bytes | Failure]:
    with clock.time("read"):
        return [_read_one(image) for image in images]


def _read_one(image: ListedImage) -> bytes | Failure:
    try:
        return read_image(image)
    except ImageError as error:
        return Failure(error.reason, str(error))


def _decode(
    clock: Clock, preprocessing: Preprocessing, contents: list[bytes | Failure]
) -> list[DecodedImage | Failure]:
    with clock.time("decode"):
        return [_decode_one(content, preprocessing) for content in contents]


def _decode_one(content: bytes | Failure, preprocessing: Preprocessing) -> DecodedImage | Failure:
    if isinstance(content, Failure):
        return content
    try:
        return decode(content, preprocessing)
    except ImageError as error:
        digest = hashlib.sha256(content).hexdigest()
        return Failure(error.reason, str(error), len(content), digest)


def _ahead(
    pool: ThreadPoolExecutor,
    ahead: int,
    function: Callable[[_Item], _Result],
    items: Iterable[_Item],
) -> Iterator[_Result]:
    """Results in order, computed by the threads at most `ahead` items before they are used."""
    source = iter(items)
    waiting = deque(pool.submit(function, item) for item in itertools.islice(source, ahead))
    while waiting:
        result = waiting.popleft().result()
        waiting.extend(pool.submit(function, item) for item in itertools.islice(source, 1))
        yield result
