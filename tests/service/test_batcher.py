import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lib.service.batcher import Batcher, OverloadedError


class Slow:
    """Work that waits for a signal, and remembers its batches."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.batches: list[list[int]] = []

    def __call__(self, items: list[int]) -> list[int]:
        self.go.wait(10)
        self.batches.append(items)
        if -1 in items:
            raise ValueError("a bad item")
        return [2 * item for item in items]


def make(work: Slow, max_size: int = 4, max_waiting: int = 8) -> Batcher[int, int]:
    return Batcher(work, ThreadPoolExecutor(1), max_size, max_waiting)


def test_what_waits_is_joined_and_answers_find_their_way() -> None:
    async def run() -> None:
        work = Slow()
        batcher = make(work)
        first = asyncio.create_task(batcher.submit([1]))
        await asyncio.sleep(0.05)  # at work now, alone
        others = [asyncio.create_task(batcher.submit([n, n + 10])) for n in (2, 3, 4)]
        await asyncio.sleep(0.05)
        work.go.set()
        assert await first == [2]
        assert await asyncio.gather(*others) == [[4, 24], [6, 26], [8, 28]]
        assert work.batches == [[1], [2, 12, 3, 13], [4, 14]]

    asyncio.run(run())


def test_beyond_its_limit_it_refuses_and_recovers() -> None:
    async def run() -> None:
        work = Slow()
        batcher = make(work)
        running = [asyncio.create_task(batcher.submit([n])) for n in range(4)]
        await asyncio.sleep(0.05)  # these four are at work
        running += [asyncio.create_task(batcher.submit([n])) for n in range(8)]
        await asyncio.sleep(0.05)
        with pytest.raises(OverloadedError, match="8 searches wait"):
            await batcher.submit([99])
        work.go.set()
        await asyncio.gather(*running)
        assert await batcher.submit([7]) == [14]
        assert await batcher.submit(list(range(30))) == [2 * n for n in range(30)]

    asyncio.run(run())


def test_a_search_that_would_wait_too_long_is_refused_early() -> None:
    async def run() -> None:
        batcher = Batcher(_double, ThreadPoolExecutor(1), 1, max_waiting=1_000, max_wait_s=0.05)
        for number in range(10):  # each takes 0.02 s
            assert await batcher.submit([number]) == [2 * number]
        assert batcher.overloaded_s == 0
        waiting = [asyncio.create_task(batcher.submit([n])) for n in range(20)]
        await asyncio.sleep(0.001)
        assert batcher.overloaded_s > 0.05  # twenty of them are before the next
        await asyncio.gather(*waiting)
        assert batcher.overloaded_s == 0

    asyncio.run(run())


def _double(items: list[int]) -> list[int]:
    time.sleep(0.02)
    return [2 * item for item in items]


def test_an_error_reaches_its_batch_and_not_the_next() -> None:
    async def run() -> None:
        work = Slow()
        work.go.set()
        batcher = make(work)
        with pytest.raises(ValueError, match="bad item"):
            await batcher.submit([-1])
        assert await batcher.submit([1]) == [2]

    asyncio.run(run())


def test_a_client_that_went_away_costs_no_search() -> None:
    async def run() -> None:
        work = Slow()
        batcher = make(work)
        first = asyncio.create_task(batcher.submit([1]))
        await asyncio.sleep(0.05)
        gone = asyncio.create_task(batcher.submit([2]))
        kept = asyncio.create_task(batcher.submit([3]))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        work.go.set()
        assert (await first, await kept) == ([2], [6])
        assert work.batches == [[1], [3]]

    asyncio.run(run())


def test_a_full_batch_begins_beside_another_and_nothing_is_left_behind() -> None:
    async def run() -> None:
        work = Slow()
        batcher = Batcher(work, ThreadPoolExecutor(2), 4, max_waiting=20, concurrency=2)
        answers = [asyncio.create_task(batcher.submit([n])) for n in range(4)]
        await asyncio.sleep(0.05)  # a full batch, at work
        answers += [asyncio.create_task(batcher.submit([n])) for n in range(4, 11)]
        await asyncio.sleep(0.05)  # another beside it; a third would be one too many
        work.go.set()
        assert [answer for (answer,) in await asyncio.gather(*answers)] == list(range(0, 22, 2))
        assert sorted(work.batches) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
        assert await batcher.submit([50]) == [100]

    asyncio.run(run())


def test_work_that_breaks_its_contract_stops_no_later_batch() -> None:
    async def run() -> None:
        batcher = Batcher(_as_many_as_the_first_says, ThreadPoolExecutor(1), 4, max_waiting=8)
        lost = asyncio.create_task(batcher.submit([0]))  # gets no result
        await asyncio.sleep(0.05)
        assert await asyncio.wait_for(batcher.submit([1]), 5) == [1]
        lost.cancel()

    asyncio.run(run())


def _as_many_as_the_first_says(items: list[int]) -> list[int]:
    return items[: items[0]]
