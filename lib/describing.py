"""Describes one shard of images on this machine: read, decode and forward pass overlap."""

import hashlib
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import torch

from lib.backbones import Backbone
from lib.images import ImageError, Picture, decode
from lib.schemas import FAILURES, Precision, descriptor_schema, vectors_to_column
from lib.sources import ListedImage, read_image

STAGES = ("read", "decode", "forward", "write")
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass
class Described:
    """What became of a shard: every image is a row of one of the two tables."""

    descriptors: pa.Table
    failures: pa.Table
    seconds: dict[str, float] = field(default_factory=dict)  # of each stage, over all threads


class Describer:
    """A backbone made ready for speed on one device, with threads that read and decode ahead."""

    def __init__(
        self, backbone: Backbone, precision: Precision, device: str, threads: int, batch_size: int
    ) -> None:
        self.backbone = backbone
        self.precision = precision
        self.device = torch.device(device)
        self.batch_size = batch_size
        self.pool = ThreadPoolExecutor(threads)
        self.ahead = 2 * batch_size + threads
        self.network = backbone.network.to(self.device, memory_format=torch.channels_last)

    def describe(self, images: Sequence[ListedImage]) -> Described:
        """Describe a shard; a bad image becomes a failure. Rows keep the order given."""
        seconds = dict.fromkeys(STAGES, 0.0)
        decoded: list[tuple[ListedImage, int, int, int]] = []
        failures: list[dict[str, Any]] = []
        vectors: list[np.ndarray] = []
        batch: list[torch.Tensor] = []
        for image, outcome in zip(images, self._ahead(self._load, images), strict=True):
            seconds["read"] += outcome.read_s
            seconds["decode"] += outcome.decode_s
            if outcome.picture is None:
                failures.append(_failure_row(image, outcome))
                continue
            decoded.append((image, outcome.picture.width, outcome.picture.height, outcome.bytes))
            batch.append(outcome.picture.pixels)
            if len(batch) == self.batch_size:
                vectors.append(self._forward(batch, seconds))
                batch = []
        if batch:
            vectors.append(self._forward(batch, seconds))
        return Described(
            self._descriptor_table(decoded, vectors),
            pa.Table.from_pylist(failures, schema=FAILURES),
            seconds,
        )

    def _load(self, image: ListedImage) -> "_Loaded":
        start = time.perf_counter()
        try:
            content = read_image(image.uri)
        except OSError as error:
            return _Loaded("unreadable", str(error), read_s=time.perf_counter() - start)
        read = time.perf_counter()
        try:
            picture = decode(content, self.backbone.preprocessing)
        except ImageError as error:
            digest = hashlib.sha256(content).hexdigest()
            return _Loaded(error.reason, str(error), digest, len(content), read_s=read - start)
        return _Loaded(
            bytes=len(content),
            picture=picture,
            read_s=read - start,
            decode_s=time.perf_counter() - read,
        )

    def _ahead(
        self, function: Callable[[_Item], _Result], items: Iterable[_Item]
    ) -> Iterator[_Result]:
        """Results in order, computed by the threads at most `ahead` items before they are used."""
        source = iter(items)
        waiting: deque[Future[_Result]] = deque(
            self.pool.submit(function, item) for item in itertools.islice(source, self.ahead)
        )
        while waiting:
            result = waiting.popleft().result()
            for item in itertools.islice(source, 1):
                waiting.append(self.pool.submit(function, item))
            yield result

    @torch.inference_mode()
    def _forward(self, batch: list[torch.Tensor], seconds: dict[str, float]) -> np.ndarray:
        start = time.perf_counter()
        # A short last batch is filled up, so that an image's descriptor is the same whichever
        # others it shares a shard with.
        filled = batch + [batch[-1]] * (self.batch_size - len(batch))
        images = torch.stack(filled).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16):
            output = self.network(self.backbone.normalise(images.to(self.device)))
        vectors = output.float().cpu().numpy()[: len(batch)]
        seconds["forward"] += time.perf_counter() - start
        return vectors

    def _descriptor_table(
        self, decoded: list[tuple[ListedImage, int, int, int]], vectors: list[np.ndarray]
    ) -> pa.Table:
        schema = descriptor_schema(self.backbone.provenance(self.precision))
        values = np.concatenate(
            [np.empty((0, self.backbone.descriptor_size), np.float32), *vectors]
        ).astype(self.precision)
        columns = [
            [image.image_id for image, *_ in decoded],
            [image.uri for image, *_ in decoded],
            [image.path for image, *_ in decoded],
            [width for _, width, _, _ in decoded],
            [height for _, _, height, _ in decoded],
            [size for *_, size in decoded],
            [image.etag for image, *_ in decoded],
        ]
        arrays = [pa.array(c, schema.field(i).type) for i, c in enumerate(columns)]
        return pa.Table.from_arrays([*arrays, vectors_to_column(values)], schema=schema)


@dataclass
class _Loaded:
    reason: str = ""
    message: str = ""
    sha256: str = ""
    bytes: int = 0
    picture: Picture | None = None
    read_s: float = 0.0
    decode_s: float = 0.0


def _failure_row(image: ListedImage, outcome: _Loaded) -> dict[str, Any]:
    return {
        "image_id": image.image_id,
        "uri": image.uri,
        "path": image.path,
        "reason": outcome.reason,
        "message": outcome.message,
        "sha256": outcome.sha256,
        "bytes": outcome.bytes,
        "etag": image.etag,
    }
