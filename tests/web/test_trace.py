from __future__ import annotations

import gc
import json
import re
from typing import Any

import pytest
from fastapi import Request
from starlette.types import Message

from service.settings import Settings
from service.web.catalogue import Catalogue
from service.web.exchange import SCOPE_KEY, Exchange
from service.web.models import ServiceLimits
from service.workers.body import Body
from service.workers.inprocess import InProcess
from service.workers.seam import Answer
from tests.web.harness import JOB, JSON, asking, problem, running

pytestmark = pytest.mark.anyio
SAFETENSORS = "application/x-safetensors"


async def test_a_body_goes_through_as_it_is() -> None:
    async with running() as web:
        answer = await web.trace({"leaves": [1, 2]})
        assert answer.json()["got"] == {"leaves": [1, 2]}
        assert answer.headers["content-type"] == "application/json"


async def test_a_problem_of_the_worker_is_passed_on() -> None:
    async with running() as web:
        problem(await web.http.post("/v1/trace", content=b"{", headers=JSON), 400, "invalid_json")


async def test_a_code_that_there_is_not_goes_into_no_metric() -> None:
    async with running() as web:
        problem(await web.trace({"do": "made up"}), 500, "internal")
        assert "made_up" not in (await web.http.get("/metrics")).text


@pytest.mark.parametrize(("told", "counted"), [("12", 12), ("9" * 10, 0), ("9" * 5000, 0)])
def test_no_number_of_nodes_is_beyond_reason(told: str, counted: int) -> None:
    exchange = Exchange("POST", [])
    exchange.answered(Answer(200, {"x-nodes": told}, Body(), 0.0))
    assert exchange.nodes == counted


@pytest.mark.parametrize(
    ("sent", "accept", "answered"),
    [
        ("application/json", "*/*", "application/json"),
        ("application/json", SAFETENSORS, SAFETENSORS),
        ("application/json", "image/svg+xml", "image/svg+xml"),
        ("application/json", "text/vnd.graphviz", "text/vnd.graphviz"),
        (SAFETENSORS, "*/*", SAFETENSORS),
        (SAFETENSORS, "application/json", "application/json"),
    ],
)
async def test_the_answer_is_of_the_kind_that_the_client_likes(
    sent: str, accept: str, answered: str
) -> None:
    async with running() as web:
        answer = await web.http.post(
            "/v1/trace", content=b"{}", headers={"content-type": sent, "accept": accept}
        )
        assert answer.headers["content-type"] == answered


@pytest.mark.parametrize(("sent", "status"), [("application/json", 200), ("text/plain", 415)])
async def test_a_request_leaves_nothing_to_the_garbage_collector(sent: str, status: int) -> None:
    async def receive() -> Message:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            assert message["status"] == status

    async def ask() -> None:
        headers = {"content-type": sent, "content-length": "2"}
        await web.app(asking("/v1/trace", headers), receive, send)

    async with running() as web:
        await ask()
        gc.collect()
        gc.disable()
        try:
            await ask()
            assert gc.collect() == 0
        finally:
            gc.enable()


async def test_server_timing_holds_the_queue_and_the_phases_of_the_worker() -> None:
    async with running() as web:
        timing = (await web.trace({})).headers["server-timing"]
        assert re.fullmatch(
            r"queue;dur=[\d.]+, parse;dur=0\.5, forward;dur=1\.25, total;dur=[\d.]+", timing
        )


@pytest.mark.parametrize("sane", ["a", "A-b_c.9", "x" * 128])
async def test_a_sane_request_id_is_kept(sane: str) -> None:
    async with running() as web:
        answer = await web.trace({}, **{"X-Request-Id": sane})
        assert answer.headers["x-request-id"] == sane
        assert json.loads(web.log.getvalue())["id"] == sane


@pytest.mark.parametrize("mad", ["", "a b", "x" * 129, "<script>", "é".encode().decode("latin-1")])
async def test_another_request_id_is_replaced(mad: str) -> None:
    async with running() as web:
        answer = await web.http.get("/livez", headers={b"x-request-id": mad.encode("latin-1")})
        assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])


async def test_the_log_says_what_became_of_a_request_and_none_of_its_values() -> None:
    async with running() as web:
        await web.trace({"value": 31337})
        await web.http.get("/v1/ops?q=31337")
        await web.http.post("/v1/trace", content=b"31337,", headers=JSON)
        assert "31337" not in web.log.getvalue()
        traced, _, broken = (json.loads(line) for line in web.log.getvalue().splitlines())
        assert (traced["route"], traced["status"], traced["nodes"]) == ("/v1/trace", 200, 4)
        assert traced["code"] is None
        assert (broken["status"], broken["code"]) == (400, "invalid_json")
        assert all(line["ms"] >= 0 for line in (traced, broken))


async def test_the_metrics_count_requests_phases_bytes_nodes_and_problems() -> None:
    async with running() as web:
        await web.trace({"a": 1})
        await web.trace({"a": 2})
        await web.http.post("/v1/trace", content=b"{", headers=JSON)
        text = (await web.http.get("/metrics")).text
        lines = text.splitlines()
        for line in (
            'gradtrace_requests_total{method="POST",route="/v1/trace",status="200"} 2.0',
            'gradtrace_requests_total{method="POST",route="/v1/trace",status="400"} 1.0',
            'gradtrace_phase_seconds_count{phase="forward"} 2.0',
            'gradtrace_phase_seconds_count{phase="queue"} 3.0',
            'gradtrace_phase_seconds_count{phase="total"} 3.0',
            'gradtrace_problems_total{code="invalid_json"} 1.0',
            "gradtrace_body_bytes_total 17.0",
            "gradtrace_nodes_total 8.0",
            "gradtrace_queue_length 0.0",
            'gradtrace_workers{state="idle"} 1.0',
            "gradtrace_in_flight 1.0",
            "gradtrace_crashes_total 0.0",
            "gradtrace_retries_total 0.0",
            "gradtrace_rejected_total 0.0",
            'gradtrace_kills_total{reason="time_limit"} 0.0',
            "gradtrace_ready 1.0",
        ):
            assert line in lines, text


async def test_ops_and_capabilities_are_asked_of_a_worker_once() -> None:
    async with running(queue=7) as web:
        for _ in range(2):
            ops = await web.http.get("/v1/ops", params={"q": "o"})
            assert [op["name"] for op in ops.json()["ops"]] == ["pow"]
            op = await web.http.get("/v1/ops/linalg.svd")
            assert op.json()["name"] == "linalg.svd"
            limits = (await web.http.get("/v1/capabilities")).json()["limits"]
            assert limits["queue"] == 7
            assert set(limits) == set(ServiceLimits.model_fields)
        answered = [line for line in web.log.getvalue().splitlines() if "queue" in line]
        assert not answered
        assert len((await web.http.get("/v1/ops")).json()["ops"]) == 3


async def test_what_is_remembered_has_a_bound_whatever_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A search has a few hundred bytes here and up to 80 kB with all ops."""
    monkeypatch.setattr("service.web.catalogue.REMEMBERED", 1000)
    computer = InProcess(JOB)
    await computer.start()
    catalogue = Catalogue(Settings(), computer)
    scope: dict[str, Any] = {"type": "http", SCOPE_KEY: Exchange("GET", [])}
    for number in [*range(50), 49, 0]:
        query = "add" if number == 49 else "x" * number
        answer = await catalogue.ask(Request(scope), "ops", q=query)
        assert json.loads(bytes(answer.body))["ops"] == [] or number in (0, 49)
        assert sum(map(len, catalogue._known.values())) == catalogue._size <= 1000
    monkeypatch.setattr("service.web.catalogue.MOST", 5)
    await catalogue.ask(Request(scope), "ops", q="nothing is found of this")
    assert len(catalogue._known) == 5
    assert sum(map(len, catalogue._known.values())) == catalogue._size


async def test_an_op_that_is_not_there_is_not_found_and_near_ones_are_named() -> None:
    async with running() as web:
        answer = await web.http.get("/v1/ops/linalg.svdd")
        assert "near ones: add" in problem(answer, 404, "not_found").detail
        counted = (await web.http.get("/metrics")).text
        assert 'gradtrace_problems_total{code="not_found"} 1.0' in counted.splitlines()
