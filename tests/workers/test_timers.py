from __future__ import annotations

import asyncio
from functools import partial

import pytest

from service.workers.timers import Interrupt, Timers

pytestmark = pytest.mark.anyio


async def test_a_timer_goes_off_and_a_stopped_one_does_not() -> None:
    loop = asyncio.get_running_loop()
    timers = Timers(0.02)
    gone_off: list[int] = []
    done = asyncio.Event()
    kept = [timers.start(loop, partial(gone_off.append, number)) for number in range(4)]
    kept[0].stop()
    kept[2].stop()
    await asyncio.sleep(0.01)
    timers.start(loop, done.set)
    await asyncio.wait_for(done.wait(), 20)
    assert gone_off == [1, 3]


async def test_timers_work_again_after_all_have_gone_off() -> None:
    loop = asyncio.get_running_loop()
    timers = Timers(0.001)
    for _ in range(3):
        done = asyncio.Event()
        timers.start(loop, done.set)
        await asyncio.wait_for(done.wait(), 20)


async def test_stopped_timers_take_no_room() -> None:
    loop = asyncio.get_running_loop()
    timers = Timers(1000)
    first = timers.start(loop, lambda: None)
    for _ in range(1000):
        timers.start(loop, lambda: None).stop()
    assert list(timers._timers) == [first]


async def test_an_interrupt_is_told_from_a_cancellation_by_somebody_else() -> None:
    async def wait(interrupt: list[Interrupt]) -> str:
        interrupt.append(Interrupt())
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if interrupt[0].was_all():
                return "interrupted"
            raise
        raise AssertionError

    for cancel, outcome in ((False, "interrupted"), (True, None)):
        made: list[Interrupt] = []
        task = asyncio.create_task(wait(made))
        await asyncio.sleep(0)
        made[0].send()
        if cancel:
            task.cancel()
        (result,) = await asyncio.gather(task, return_exceptions=True)
        assert result == outcome if outcome else isinstance(result, asyncio.CancelledError)
