"""Threads for work that may hang, such as reading a file from a host that does not answer."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from lib.errors import UnavailableError

_Result = TypeVar("_Result")


class DeadlinePool:
    """Runs calls in `threads` of its own; each is waited for at most `within_s` seconds.

    A call that hangs keeps its thread, so that no more than `max_waiting` wait for one: whoever
    comes next is refused at once. Made for one event loop.
    """

    def __init__(self, threads: int, max_waiting: int, within_s: float) -> None:
        self._executor = ThreadPoolExecutor(threads)
        self._limit = threads + max_waiting
        self._within_s = within_s
        self._unfinished = 0

    async def run(self, function: Callable[..., _Result], *arguments: Any) -> _Result:
        """What the call returns. Raises what it raises, and UnavailableError without a result."""
        if self._unfinished >= self._limit:
            raise UnavailableError("too many files are being read; try again in a moment")
        loop = asyncio.get_running_loop()

        def finished(_: Future[_Result]) -> None:
            loop.call_soon_threadsafe(self._forget)

        self._unfinished += 1
        future = self._executor.submit(function, *arguments)
        future.add_done_callback(finished)
        try:
            # On its deadline, or when the client leaves, a call that has not begun never does.
            return await asyncio.wait_for(asyncio.wrap_future(future), self._within_s)
        except TimeoutError as error:
            raise UnavailableError("the file could not be read in time") from error

    def _forget(self) -> None:
        self._unfinished -= 1
