import asyncio
import threading

import pytest

from lib.errors import UnavailableError
from lib.service.pool import DeadlinePool


def test_calls_that_hang_are_given_up_and_hold_up_nobody_else() -> None:
    go = threading.Event()

    async def run() -> None:
        pool = DeadlinePool(2, max_waiting=1, within_s=0.2)
        hanging = [asyncio.create_task(pool.run(go.wait, 30)) for _ in range(3)]
        await asyncio.sleep(0.05)
        with pytest.raises(UnavailableError, match="too many"):
            await pool.run(abs, -1)
        for task in hanging:
            with pytest.raises(UnavailableError, match="in time"):
                await task
        go.set()
        await asyncio.sleep(0.1)
        assert await asyncio.gather(*(pool.run(abs, -n) for n in range(3))) == [0, 1, 2]
        with pytest.raises(ZeroDivisionError):
            await pool.run(divmod, 1, 0)

    asyncio.run(run())


def test_a_call_whose_client_left_before_it_began_never_runs() -> None:
    go, ran = threading.Event(), threading.Event()

    async def run() -> None:
        pool = DeadlinePool(1, max_waiting=1, within_s=30)
        first = asyncio.create_task(pool.run(go.wait, 30))
        await asyncio.sleep(0.05)
        second = asyncio.create_task(pool.run(ran.set))
        await asyncio.sleep(0.05)
        second.cancel()
        await asyncio.sleep(0.05)
        go.set()
        await first
        assert await pool.run(ran.is_set) is False

    asyncio.run(run())
