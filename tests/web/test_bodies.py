from __future__ import annotations

import asyncio
import gc
import json
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.types import Message

from service.contract.problem import Overloaded
from service.web.body import add
from service.web.compute import RawRoute
from service.web.room import Room
from service.workers.body import INLINE, Body
from tests.processes import files_kept, no_more_files, open_files
from tests.web.harness import JSON, NDJSON, Web, asking, problem, running

pytestmark = pytest.mark.anyio
PATHS = ["/v1/trace", "/v1/import/python", "/v1/export/python"]
every_route = pytest.mark.parametrize(
    ("path", "kind"), [*((path, JSON) for path in PATHS), ("/v1/traces", NDJSON)]
)
graph_or_graphs = pytest.mark.parametrize(
    ("path", "kind"), [("/v1/trace", JSON), ("/v1/traces", NDJSON)]
)


@pytest.mark.parametrize("path", PATHS)
async def test_a_body_that_says_it_is_too_large_is_refused_unread(path: str) -> None:
    async with running(max_body_mb=0.001) as web:
        answer = await web.http.post(path, content=b"x" * 2000, headers=JSON)
        assert "GRADTRACE_MAX_BODY_MB" in problem(answer, 413, "body_too_large").detail


@pytest.mark.parametrize(
    ("megabytes", "said"), [(0.0000001, " 0 bytes "), (0.001, " 1048 bytes "), (1.5, " 1.5 MB ")]
)
async def test_the_limit_of_a_body_is_named_in_a_unit_that_shows_it(
    megabytes: float, said: str
) -> None:
    async with running(max_body_mb=megabytes) as web:
        answer = await web.http.post("/v1/trace", content=b"x" * 2_000_000, headers=JSON)
        assert said in problem(answer, 413, "body_too_large").detail


@pytest.mark.parametrize("path", PATHS)
async def test_a_body_that_grows_too_large_is_refused_while_it_comes(path: str) -> None:
    sent = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(100):
            sent += 1
            yield b"x" * 500

    async with running(max_body_mb=0.001) as web:
        answer = await web.http.post(path, content=pieces(), headers=JSON)
        problem(answer, 413, "body_too_large")
        assert answer.headers["connection"] == "close"


def stream_room(web: Web) -> Room:
    routes: dict[str, Any] = {
        route.path: route for route in web.app.routes if isinstance(route, RawRoute)
    }
    room: Room = routes["/v1/traces"].app.room
    return room


LONG = b'{"do": "echo", "with": "' + b"x" * 150_000 + b'"}'
SHORT = b'{"do": "echo"}'


@graph_or_graphs
async def test_bodies_that_are_still_coming_take_no_more_room_than_there_is(
    monkeypatch: pytest.MonkeyPatch, path: str, kind: dict[str, str]
) -> None:
    monkeypatch.setattr("service.web.room.LEAST", 0)
    coming = 0
    rest = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        nonlocal coming
        yield LONG[:-1]
        coming += 1
        await rest.wait()
        yield LONG[-1:]

    async with running(max_body_mb=0.15, queue=0, workers=2) as web:
        slow = [
            asyncio.create_task(web.http.post(path, content=slowly(), headers=kind))
            for _ in range(3)
        ]
        while coming < 3:
            await asyncio.sleep(0.01)
        refused = await web.http.post(path, content=LONG, headers=kind)
        assert "room" in problem(refused, 429, "overloaded").detail
        assert refused.headers["retry-after"] == "1"
        short = await web.http.post(path, content=SHORT, headers=kind)
        assert short.status_code == 200, "short bodies take no room"
        rest.set()
        assert [answer.status_code for answer in await asyncio.gather(*slow)] == [200] * 3
        assert (await web.http.post(path, content=LONG, headers=kind)).status_code == 200


@graph_or_graphs
async def test_while_answers_that_nobody_takes_fill_the_room_nothing_is_computed(
    monkeypatch: pytest.MonkeyPatch, path: str, kind: dict[str, str]
) -> None:
    monkeypatch.setattr("service.web.room.LEAST", 0)
    begun, taken = asyncio.Event(), asyncio.Event()
    messages: list[Message] = [
        {"type": "http.request", "body": b'{"do": "bytes", "count": 200000}'}
    ]

    async def receive() -> Message:
        if not messages:
            await asyncio.Event().wait()
        return messages.pop()

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            begun.set()
            await taken.wait()

    async with running(max_body_mb=0.05, queue=0, workers=2) as web:
        slow = asyncio.create_task(web.app(asking(path, kind), receive, send))
        await begun.wait()
        refused = await web.http.post(path, content=SHORT, headers=kind)
        assert "answers" in problem(refused, 429, "overloaded").detail
        taken.set()
        await slow
        assert (await web.http.post(path, content=SHORT, headers=kind)).status_code == 200


async def test_a_long_body_is_refused_while_no_file_can_be_opened_for_it() -> None:
    async with running() as web:
        with no_more_files():
            refused = await web.http.post("/v1/trace", content=LONG, headers=JSON)
            problem(refused, 429, "overloaded")
            refused = await web.http.post("/v1/traces", content=LONG, headers=NDJSON)
            problem(refused, 429, "overloaded")
            begun = await web.http.post("/v1/traces", content=SHORT + b"\n" + LONG, headers=NDJSON)
        first, last = map(json.loads, begun.text.splitlines())
        assert "trace" in first
        assert (last["index"], last["problem"]["code"]) == (1, "overloaded")


async def test_a_stream_whose_own_answers_fill_the_room_waits_until_they_are_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.web.room.LEAST", 0)
    filling = b'{"do": "bytes", "count": 200000}\n'
    longer = (SHORT + b" " * 10_000 + b"\n") * 10
    to_come = iter([filling, longer, b""])
    taken = asyncio.Event()
    answered = b""

    async with running(max_body_mb=0.05, queue=0, workers=2) as web:
        room = stream_room(web)

        async def receive() -> Message:
            body = next(to_come, None)
            if body is None:
                await asyncio.Event().wait()
            if body == longer:
                while not room.full:
                    await asyncio.sleep(0.01)
                asyncio.get_running_loop().call_later(0.05, taken.set)
            return {"type": "http.request", "body": body, "more_body": bool(body)}

        async def send(message: Message) -> None:
            nonlocal answered
            answered += message.get("body", b"")
            await taken.wait()

        await asyncio.wait_for(web.app(asking("/v1/traces", NDJSON), receive, send), 20)
    assert (answered.count(b'"index"'), answered.count(b'"problem"')) == (11, 0)


async def test_a_stream_whose_client_goes_gives_its_memory_back_at_once() -> None:
    to_come: list[Message] = [
        {"type": "http.request", "body": (LONG + b"\n") * 5 + LONG, "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return to_come.pop(0)

    async def send(message: Message) -> None:
        await asyncio.Event().wait()

    async with running() as web:
        before = files_kept()
        gc.disable()
        try:
            await web.app(asking("/v1/traces", NDJSON), receive, send)
            assert open_files(os.getpid()) == before
        finally:
            gc.enable()


async def test_a_stream_holds_only_the_lines_that_are_not_answered_yet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.web.room.LEAST", 0)
    async with running(max_body_mb=0.15, queue=0, workers=2) as web:
        room = stream_room(web)
        whole = room.left

        async def lines() -> AsyncIterator[bytes]:
            for _ in range(20):
                yield LONG + b"\n"
                while room.left < whole:
                    await asyncio.sleep(0.01)

        answer = await web.http.post("/v1/traces", content=lines(), headers=NDJSON)
        assert answer.text.count('"trace"') == 20
        assert room.left == whole


@every_route
async def test_a_client_that_stops_sending_is_told_so(path: str, kind: dict[str, str]) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(60)

    async with running(body_timeout_s=0.05) as web:
        answer = await web.http.post(path, content=pieces(), headers=kind)
        problem(answer, 408, "body_timeout")
        assert answer.headers.get_list("connection") == ["close"]


@every_route
@pytest.mark.parametrize("coding", ["gzip", "br", "deflate, gzip", "identity, gzip"])
async def test_a_compressed_body_is_not_read(path: str, kind: dict[str, str], coding: str) -> None:
    async with running() as web:
        answer = await web.http.post(
            path, content=b"{}", headers={**kind, "content-encoding": coding}
        )
        problem(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize("path", [*PATHS, "/v1/traces"])
@pytest.mark.parametrize(
    "kind",
    ["", "text/plain", "application/x-www-form-urlencoded", "application/json;charset=cp1252"],
)
async def test_only_the_media_types_of_the_route_are_read(path: str, kind: str) -> None:
    async with running() as web:
        headers = {"content-type": kind} if kind else {}
        answer = await web.http.post(path, content=b"{}", headers=headers)
        problem(answer, 415, "unsupported_media_type")


@every_route
async def test_what_cannot_be_accepted_is_said_before_the_body_is_read(
    path: str, kind: dict[str, str]
) -> None:
    async with running() as web:
        answer = await web.http.post(path, content=b"{", headers={**kind, "accept": "image/png"})
        problem(answer, 406, "not_acceptable")
        assert answer.headers["vary"] == "accept"


async def test_a_large_body_and_a_large_answer_come_through_whole() -> None:
    body = b'{"do": "bytes", "count": 3000000, "pad": "' + b"x" * 3_000_000 + b'"}'

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 10_000):
            yield body[start : start + 10_000]

    async with running() as web:
        answer = await web.http.post("/v1/trace", content=pieces(), headers=JSON)
        assert answer.content == b"x" * 3_000_000
        assert answer.headers["content-length"] == "3000000"


def test_a_body_that_too_many_files_keep_out_is_told_so() -> None:
    with no_more_files(), pytest.raises(Overloaded, match="open files for the body"):
        add(Body(), bytes(INLINE + 1))
