from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.contract.problem import PROBLEM_MEDIA_TYPE, MemoryLimit, Overloaded
from service.web import streams
from service.web.exchange import GONE
from service.web.lines import LINE_COST, Line, LineSplitter, joined, with_index
from service.workers.body import Body
from service.workers.inprocess import InProcess
from service.workers.seam import Answer
from tests.conftest import long
from tests.web.harness import NDJSON, Web, asking, problem, running

pytestmark = pytest.mark.anyio


def lines_of(text: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.decode().splitlines()]


async def stream(web: Web, content: bytes) -> list[dict[str, Any]]:
    answer = await web.http.post("/v1/traces", content=content, headers=NDJSON)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/x-ndjson"
    return lines_of(answer.content)


def asked_of(web: Web, receive: Any, send: Any, **more: Any) -> asyncio.Task[None]:
    """Ask for a stream as a server does."""
    return asyncio.ensure_future(web.app(asking("/v1/traces", NDJSON, **more), receive, send))


def before_computing(
    monkeypatch: pytest.MonkeyPatch, hook: Callable[[bytes], Awaitable[Answer | None]]
) -> None:
    """Have ``hook`` called with every body; what it returns, if anything, is the answer."""
    compute = InProcess.compute

    async def hooked(self: InProcess, headers: Any, body: Any) -> Answer:
        return await hook(bytes(body)) or await compute(self, headers, body)

    monkeypatch.setattr(InProcess, "compute", hooked)


async def test_every_line_is_answered_in_order_with_its_index() -> None:
    async with running() as web:
        content = b"".join(b'{"a":%d}\n' % number for number in range(500))
        answered = await stream(web, content)
        assert [line["index"] for line in answered] == list(range(500))
        assert [line["trace"]["got"]["a"] for line in answered] == list(range(500))


async def test_a_bad_line_is_a_problem_line_and_spoils_no_other() -> None:
    async with running() as web:
        first, bad, last = await stream(web, b'{"a":1}\nbad\n{"a":2}')
        assert bad == {"index": 1, "problem": bad["problem"]}
        assert bad["problem"]["code"] == "invalid_json"
        assert (first["trace"]["got"], last["trace"]["got"]) == ({"a": 1}, {"a": 2})


async def test_empty_lines_are_passed_over_and_have_no_index() -> None:
    async with running() as web:
        answered = await stream(web, b'\n\n{"a":1}\r\n \t\n{"a":2}\n\n')
        assert [line["index"] for line in answered] == [0, 1]
        assert await stream(web, b"") == []
        assert await stream(web, b"\n \n") == []
        assert await stream(web, b" " * 100_000 + b"\n{}\n") == await stream(web, b"{}")


async def test_a_line_that_is_too_long_is_a_problem_line_and_the_stream_may_be_longer() -> None:
    async with running(max_body_mb=0.001) as web:
        content = b'{"a":1}\n' + b"x" * 5000 + b"\n" + b'{"a":2}\n' * 400
        answered = await stream(web, content)
        assert len(answered) == 402
        assert answered[1]["problem"]["code"] == "body_too_large"
        assert answered[2]["trace"]["got"] == {"a": 2}


async def test_lines_are_answered_while_others_are_still_to_come() -> None:
    received: asyncio.Queue[bytes] = asyncio.Queue()
    answered: list[dict[str, Any]] = []
    sent = 0

    async with running() as web:

        async def receive() -> dict[str, Any]:
            nonlocal sent
            if sent:
                await received.get()
            sent += 1
            body = b'{"a":1}\n' if sent <= 3 else b""
            return {"type": "http.request", "body": body, "more_body": sent <= 3}

        async def send(message: dict[str, Any]) -> None:
            if body := message.get("body", b""):
                answered.extend(lines_of(body))
                received.put_nowait(body)

        await asyncio.wait_for(asked_of(web, receive, send), 20)
    assert [line["index"] for line in answered] == [0, 1, 2]


async def test_a_client_that_stops_reading_stops_the_reading_and_the_computing() -> None:
    taken = 0

    async with running(workers=1) as web:

        async def receive() -> dict[str, Any]:
            nonlocal taken
            taken += 1
            await asyncio.sleep(0)
            line = b'{"do":"bytes","count":1}' + b" " * 10_000 + b"\n"
            return {"type": "http.request", "body": line * 10, "more_body": True}

        async def send(message: dict[str, Any]) -> None:
            await asyncio.Event().wait()

        asked = asked_of(web, receive, send)
        before = -1
        while taken != before:
            before = taken
            await asyncio.sleep(0.1)
        assert taken < 200
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)


async def test_a_client_that_is_gone_is_noticed_while_no_more_lines_are_read() -> None:
    extensions: dict[str, Any] = {}
    received = answers = 0

    async with running(workers=1) as web:

        async def receive() -> dict[str, Any]:
            nonlocal received
            received += 1
            line = b'{"do":"bytes","count":1}' + b" " * 100_000 + b"\n"
            return {"type": "http.request", "body": line * 50, "more_body": True}

        async def send(message: dict[str, Any]) -> None:
            nonlocal answers
            if message.get("body"):
                answers += 1
                extensions[GONE] = True  # the server drops what is sent from then on

        await asyncio.wait_for(asked_of(web, receive, send, extensions=extensions), 20)
    assert (received, answers) == (1, 1)
    assert json.loads(web.log.getvalue().splitlines()[-1])["status"] == 499


def lines_in_memory() -> int:
    gc.collect()
    return sum(type(item) is Line for item in gc.get_objects())


@pytest.mark.parametrize(
    "text", [b"1\n", pytest.param(b"\n", marks=long), pytest.param(b" \n", marks=long)]
)
async def test_very_many_short_lines_keep_nobody_waiting_and_do_not_add_up(text: bytes) -> None:
    async with running(workers=1) as web:
        left = [text * 131_072]
        turns = 0

        async def receive() -> dict[str, Any]:
            if not left:
                await asyncio.Event().wait()
            return {"type": "http.request", "body": left.pop(), "more_body": True}

        async def send(_: dict[str, Any]) -> None:
            await asyncio.Event().wait()

        before = lines_in_memory()
        asked = asked_of(web, receive, send)
        while turns < 200:
            await asyncio.sleep(0)
            turns += not left
        assert (
            lines_in_memory() - before < streams.MAX_WAITING_WEIGHT / LINE_COST + 3 * streams.SLICE
        )
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)


async def test_a_client_may_wait_for_its_answers_before_it_sends_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def slowly(_: bytes) -> None:
        await asyncio.sleep(0.5)

    before_computing(monkeypatch, slowly)
    answered: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    async with running(body_timeout_s=0.2) as web:
        to_send = [b'{"a":2}\n', b'{"a":1}\n']

        async def receive() -> dict[str, Any]:
            if len(to_send) == 1:
                assert (await answered.get())["index"] == 0
            if not to_send:
                await asyncio.Event().wait()
            return {"type": "http.request", "body": to_send.pop(), "more_body": True}

        async def send(message: dict[str, Any]) -> None:
            for line in lines_of(message.get("body", b"")):
                answered.put_nowait(line)

        await asyncio.wait_for(asked_of(web, receive, send), 20)
        assert (await answered.get())["trace"]["got"] == {"a": 2}
        assert (await answered.get())["problem"]["code"] == "body_timeout"


async def test_a_worker_that_answers_with_a_problem_is_asked_line_by_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def too_small(body: bytes) -> Answer | None:
        if not (body.count(b"\n") or b'"a":7' in body):
            return None
        error = MemoryLimit("There is no memory for the answers.")
        problem = error.problem().model_dump_json().encode()
        return Answer(error.status, {"content-type": PROBLEM_MEDIA_TYPE}, Body(problem), 0.0)

    before_computing(monkeypatch, too_small)
    async with running() as web:
        answered = await stream(web, b"".join(b'{"a":%d}\n' % number for number in range(40)))
        assert [line["index"] for line in answered] == list(range(40))
        assert answered.pop(7)["problem"]["code"] == "memory_limit"
        assert all("trace" in line for line in answered)


async def test_a_stream_that_dries_up_ends_with_a_problem_line() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b'{"a":1}\n{"a":'
        await asyncio.sleep(60)

    async with running(body_timeout_s=0.2) as web:
        answer = await web.http.post("/v1/traces", content=pieces(), headers=NDJSON)
        first, last = lines_of(answer.content)
        assert first["trace"]["got"] == {"a": 1}
        assert (last["index"], last["problem"]["code"]) == (1, "body_timeout")


async def test_the_stream_counts_its_nodes_and_lines() -> None:
    async with running() as web:
        await stream(web, b'{"a":1}\nbad\n{"a":2}')
        assert json.loads(web.log.getvalue())["nodes"] == 12
        text = (await web.http.get("/metrics")).text
        assert 'gradtrace_stream_lines_total{outcome="trace"} 2.0' in text
        assert 'gradtrace_stream_lines_total{outcome="problem"} 1.0' in text


async def test_problems_are_counted_wherever_the_answer_is_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = Body.chunks

    def by_threes(body: Body) -> Iterator[bytes]:
        text = b"".join(whole(body))
        return (text[at : at + 3] for at in range(0, len(text), 3))

    monkeypatch.setattr(Body, "chunks", by_threes)
    async with running() as web:
        answered = await stream(web, b'{"a":1}\nbad\n{"a":2}\nbad\n')
        assert ["problem" in line for line in answered] == [False, True, False, True]
        text = (await web.http.get("/metrics")).text
        assert 'gradtrace_stream_lines_total{outcome="problem"} 2.0' in text


async def test_a_bug_before_the_first_answer_is_a_problem_of_the_whole_stream() -> None:
    async with running() as web:
        answer = await web.http.post("/v1/traces", content=b'{"do":"fail"}\n', headers=NDJSON)
        problem(answer, 500, "internal")


async def test_a_line_that_is_asked_again_needs_no_room_that_later_answers_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.web.room.LEAST", 0)
    monkeypatch.setattr(streams, "QUICK_S", 0)  # a batch for every line
    filled = False

    async def full_at_first(body: bytes) -> None:
        nonlocal filled
        if b'"a":2' in body and not filled:
            raise Overloaded("The queue is full.", retry_after_s=1)
        filled = filled or b'"bytes"' in body

    before_computing(monkeypatch, full_at_first)
    async with running(max_body_mb=0.01, queue=0, workers=2) as web:
        long = b'{"do":"bytes","count":200000}\n'
        sent = web.http.post("/v1/traces", content=b'{"a":1}\n{"a":2}\n' + 3 * long, headers=NDJSON)
        answer = await asyncio.wait_for(sent, 20)
        assert answer.text.count('"index"') == 5


CHUNKS = st.lists(st.binary(max_size=40).map(lambda raw: raw.replace(b"x", b"\n")), max_size=20)


@given(CHUNKS)
def test_lines_do_not_depend_on_how_the_body_was_cut(chunks: list[bytes]) -> None:
    splitter = LineSplitter(1000)
    cut = [line for chunk in chunks for line in splitter.feed(chunk)] + list(splitter.finish())
    whole = [line for line in b"".join(chunks).split(b"\n") if line.strip()]
    assert [bytes(line.content) for line in cut] == whole
    assert [line.number for line in cut] == list(range(len(whole)))


@given(CHUNKS, st.integers(1, 30))
def test_a_line_is_too_long_exactly_when_it_has_more_bytes(chunks: list[bytes], limit: int) -> None:
    splitter = LineSplitter(limit)
    cut = [line for chunk in chunks for line in splitter.feed(chunk)] + list(splitter.finish())
    whole = [line for line in b"".join(chunks).split(b"\n") if line.strip() or len(line) > limit]
    assert [line.problem is not None for line in cut] == [len(line) > limit for line in whole]


@pytest.mark.parametrize("size", [1, 1000, 300_000])
def test_an_index_is_put_in_however_large_the_answers_are(size: int) -> None:
    answers = Body()
    for part in (b'{"trace":"', b"y" * size, b'"}\n{"problem":"', b"z" * size, b'"}'):
        answers.append(part)
    first, second = lines_of(b"".join(with_index([7, 9], answers)))
    assert first == {"index": 7, "trace": "y" * size}
    assert second == {"index": 9, "problem": "z" * size}


def test_lines_are_joined_with_breaks_between_them() -> None:
    splitter = LineSplitter(10**6)
    lines = list(splitter.feed(b"a\n" + b"b" * 100_000 + b"\nc\n"))
    assert bytes(joined(lines)) == b"a\n" + b"b" * 100_000 + b"\nc"


async def test_a_stream_waits_as_long_as_the_queue_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """As often as Python's stack is deep, and more."""
    monkeypatch.setattr(streams, "AGAIN_S", 0)
    full = iter(range(3000))

    async def often_full(body: bytes) -> None:
        if b'"a":2' in body and next(full, None) is not None:
            raise Overloaded("The queue is full.", retry_after_s=1)

    before_computing(monkeypatch, often_full)
    async with running() as web:
        answered = await stream(web, b'{"a":1}\n{"a":2}\n')
        assert [line["trace"]["got"]["a"] for line in answered] == [1, 2]


async def test_a_queue_that_is_full_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what waits for its turn counts as refused nowhere."""
    monkeypatch.setattr(streams, "AGAIN_S", 0)
    monkeypatch.setattr(streams, "QUICK_S", 0)  # a batch for every line
    full = iter([True] * 5)
    monkeypatch.setattr(InProcess, "full", property(lambda _: next(full, False)))
    asked = []

    async def counted(body: bytes) -> None:
        asked.append(body)
        assert len(asked) == 1 or next(full, None) is None

    before_computing(monkeypatch, counted)
    async with running() as web:
        answered = await stream(web, b'{"a":1}\n{"a":2}\n')
        assert [line["trace"]["got"]["a"] for line in answered] == [1, 2]
    assert len(asked) == 2
