from __future__ import annotations

import asyncio
from functools import partial
from unittest.mock import Mock

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


async def test_one_look_is_due_at_a_time_also_where_what_goes_off_starts_another() -> None:
    """As where a request's deadline gives its worker's place to the next one that waits."""
    loop = asyncio.get_running_loop()
    timers = Timers(0.01)
    gone_off = 0
    enough = asyncio.Event()

    def again() -> None:
        nonlocal gone_off
        gone_off += 1
        if gone_off < 20:
            timers.start(loop, again)
        else:
            enough.set()

    armed = Mock(wraps=loop.call_at)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "call_at", armed)
        timers.start(loop, again)
        await asyncio.sleep(0.005)
        timers.start(loop, again)
        await asyncio.wait_for(enough.wait(), 20)
    assert armed.call_count <= gone_off + 2


async def test_a_timer_goes_off_where_the_clock_is_behind_by_less_than_its_tick(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As uvloop's is, which counts milliseconds: 38390.008 + 0.01 is a little above 38390.018."""
    loop, gone_off = Mock(), Mock()
    timers = Timers(0.01)
    loop.time.return_value = 38390.008
    timers.start(loop, gone_off)
    loop.time.return_value = 38390.018
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    timers._look()
    monkeypatch.undo()
    gone_off.assert_called_once_with()
    loop.call_at.assert_not_called()


async def test_a_callback_that_fails_keeps_no_other_from_going_off() -> None:
    loop = asyncio.get_running_loop()
    told: list[object] = []

    def fail() -> None:
        raise ZeroDivisionError

    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
    timers = Timers(0.001)
    done = asyncio.Event()
    timers.start(loop, fail)
    timers.start(loop, done.set)
    await asyncio.wait_for(done.wait(), 20)
    assert [type(error) for error in told] == [ZeroDivisionError]


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
            if interrupt[0].was_only_cause():
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
