"""The job in the caller's own process keeps the same protocol."""

from __future__ import annotations

import pytest

from service.contract.problem import MemoryLimit, NotReady
from service.workers.body import Body
from service.workers.inprocess import InProcess
from service.workers.pool import Pool
from service.workers.seam import Computer, PoolOptions
from tests.workers.calls import ask

pytestmark = pytest.mark.anyio


async def test_it_computes_between_start_and_stop() -> None:
    computer = InProcess("tests.workers.jobs:create", {"word": "hello"})
    with pytest.raises(NotReady):
        await ask(computer, "echo")
    await computer.start()
    await computer.wait_ready()
    assert await ask(computer, "echo", b"some bytes") == "some bytes"
    large = Body()
    large.append(b"x" * 300_000)
    answer = await computer.compute({"do": "echo"}, large)
    assert bytes(answer.body) == b"x" * 300_000
    assert answer.headers["config"] == "hello"
    await computer.stop()
    assert not computer.ready


async def test_no_memory_is_a_problem() -> None:
    computer = InProcess("tests.workers.jobs:create")
    await computer.start()
    with pytest.raises(MemoryLimit):
        await ask(computer, "allocate", b"%d" % 2**40)


def test_both_keep_the_protocol() -> None:
    computers: list[Computer] = [InProcess(), Pool(PoolOptions(workers=1))]
    assert [computer.ready for computer in computers] == [False, False]
    assert all(computer.reason for computer in computers)
