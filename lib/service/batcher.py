"""Joins requests that wait at the same time into batches."""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from lib.errors import ImageSearchError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class OverloadedError(ImageSearchError):
    """As many requests wait already as are taken on."""


_MEMORY = 0.8  # of the time that a batch takes, where a new one is measured


@dataclass
class Batcher(Generic[_Item, _Result]):
    """Runs `work` on everything that has come in since its last run, at most `max_size` items.

    A lone request starts at once and batches fill by themselves as load grows. `serve.batch`
    instead closes a batch after a fixed wait even while the last one is still at work, so that
    many small batches queue up behind a slow one. Beside a batch at work another is begun where it
    is full, up to `concurrency`: it is prepared while the first is searched.
    """

    work: Callable[[list[_Item]], Sequence[_Result]]
    executor: Executor
    max_size: int
    max_waiting: int
    max_wait_s: float = math.inf
    concurrency: int = 1
    _batch_s: float = 0.0  # that a batch takes, as of late
    _waiting: deque[tuple[_Item, asyncio.Future[_Result]]] = field(default_factory=deque)
    _at_work: int = 0  # batches
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def overloaded_s(self) -> float:
        """In how many seconds one more item can be taken on; 0 where it can be now.

        It is refused where `max_waiting` wait, and where it would wait longer than `max_wait_s`.
        """
        together = self.max_size * max(1, self._at_work)
        wait_s = self._batch_s * (1 + len(self._waiting) // together)
        if len(self._waiting) >= self.max_waiting:
            return max(wait_s, 0.001)
        return wait_s - self.max_wait_s if self._waiting and wait_s > self.max_wait_s else 0.0

    async def submit(self, items: Sequence[_Item]) -> list[_Result]:
        """Results of some items, in order.

        Raises OverloadedError when more than `max_waiting` items would wait; a submission larger
        than that is taken only by an idle batcher.
        """
        if self._waiting and len(self._waiting) + len(items) > self.max_waiting:
            raise OverloadedError(
                f"{len(self._waiting)} searches wait already; try again in a moment"
            )
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in items]
        self._waiting.extend(zip(items, futures, strict=True))
        self._begin_next()
        return list(await asyncio.gather(*futures))

    def _begin_next(self) -> None:
        """Begin a batch where none is at work, or where a full one may go beside others."""
        full = len(self._waiting) >= self.max_size
        if self._waiting and (not self._at_work or (full and self._at_work < self.concurrency)):
            self._at_work += 1
            task = asyncio.get_running_loop().create_task(self._run())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self) -> None:
        try:
            if batch := self._next_batch():
                await self._answer(batch)
        finally:
            self._at_work -= 1
        self._begin_next()

    async def _answer(self, batch: list[tuple[_Item, asyncio.Future[_Result]]]) -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        try:
            results = await loop.run_in_executor(
                self.executor, self.work, [item for item, _ in batch]
            )
        except Exception as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        took_s = loop.time() - start
        self._batch_s += (1 - _MEMORY) * (took_s - self._batch_s)
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)

    def _next_batch(self) -> list[tuple[_Item, asyncio.Future[_Result]]]:
        batch: list[tuple[_Item, asyncio.Future[_Result]]] = []
        while self._waiting and len(batch) < self.max_size:
            item, future = self._waiting.popleft()
            if not future.done():  # a client that went away has cancelled its request
                batch.append((item, future))
        return batch
