"""The Python client against a real service."""

from __future__ import annotations

import asyncio
import json
import math
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, ClassVar

import httpx
import numpy as np
import pytest
import torch

from service.cli.conformity import differences
from service.cli.demo import LESSON, free_port, running
from service.client import AsyncClient, Client, UnexpectedAnswer
from service.client.calls import BATCH_BYTES, BATCH_LINES, batches, graph_json
from service.contract.problem import (
    BadRoot,
    GradtraceError,
    InvalidRequest,
    NotFound,
    Overloaded,
    UnknownOp,
    problems,
)
from service.contract.request import Leaf, Op, TraceRequest
from service.contract.response import GradStatus, TraceResponse
from tests.golden import CASES


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running() as address:
        yield address


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url) as made:
        yield made


@pytest.mark.parametrize("name", sorted(CASES))
def test_golden_cases_come_back_as_models(client: Client, name: str) -> None:
    answer = client.trace(CASES[name]["request"])
    nodes = [node.model_dump(mode="json") for node in answer.nodes]
    assert list(differences(CASES[name]["nodes"], nodes)) == []


def test_a_request_can_be_built_of_models(client: Client) -> None:
    request = TraceRequest(
        leaves=[Leaf(id="x", value=[1.0, -2.0], requires_grad=True)],
        ops=[Op(id="y", op="prod", inputs=["x"])],
    )
    answer = client.trace(request)
    assert answer.nodes[0].grad == [-2.0, 1.0]
    assert answer.nodes[0].grad_status is GradStatus.ACCUMULATED


def test_null_attributes_stay_and_unset_fields_stay_out() -> None:
    request = TraceRequest(
        leaves=[Leaf(id="x", value=1)],
        ops=[Op(id="y", op="clamp", inputs=["x"], attrs={"min": None, "max": 1})],
    )
    assert json.loads(graph_json(request)) == {
        "leaves": [{"id": "x", "value": 1}],
        "ops": [{"id": "y", "op": "clamp", "inputs": ["x"], "attrs": {"min": None, "max": 1}}],
    }


def test_non_finite_numbers_are_sent_as_the_three_strings(client: Client) -> None:
    graph = {"leaves": [{"id": "x", "value": [math.nan, math.inf, -math.inf, 1.0]}], "backward": []}
    assert client.trace(graph).nodes[0].value == ["NaN", "Infinity", "-Infinity", 1.0]


def test_a_problem_is_raised_as_the_class_that_the_service_raised(client: Client) -> None:
    with pytest.raises(UnknownOp) as caught:
        client.trace({"ops": [{"id": "y", "op": "relux"}]})
    assert caught.value.errors[0].pointer == "/ops/0/op"
    assert "relu" in caught.value.detail
    with pytest.raises(BadRoot):
        client.trace({"leaves": [{"id": "x", "value": [1, 2], "requires_grad": True}]})


def test_every_problem_comes_back_as_its_own_class(url: str) -> None:
    from service.client.calls import error_from

    for kind in problems():
        raised = error_from(kind("why").problem(), "3")
        assert type(raised) is kind
        assert raised.retry_after_s == 3
        assert raised.errors == kind("why").errors


LEAVES = [{"id": "x", "requires_grad": True}]
SQUARE = {
    "leaves": LEAVES,
    "ops": [
        {"id": "y", "op": "mul", "inputs": ["x", "x"], "retain_grad": True},
        {"id": "out", "op": "sum", "inputs": ["y"]},
    ],
}


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_numpy_arrays_go_in_and_come_out(client: Client, dtype: str) -> None:
    x = np.asfortranarray(np.arange(6, dtype=dtype).reshape(2, 3))
    answer = client.trace_tensors(SQUARE, {"x": x})
    assert answer.grads["x"].dtype == x.dtype
    np.testing.assert_array_equal(answer.values["y"], x * x)
    np.testing.assert_array_equal(answer.grads["x"], 2 * x)
    assert answer.response.nodes[1].retains_grad
    assert "out" not in answer.grads


@pytest.mark.parametrize("kind", [np.complex64, np.complex128])
def test_complex_arrays_go_in_and_come_out(client: Client, kind: type[np.complexfloating]) -> None:
    z = np.array([3 + 4j, 1j], dtype=kind)
    graph = {
        "leaves": [{"id": "z", "requires_grad": True}],
        "ops": [
            {"id": "w", "op": "mul", "inputs": ["z", "z"]},
            {"id": "r", "op": "abs", "inputs": ["w"]},
            {"id": "out", "op": "sum", "inputs": ["r"]},
        ],
    }
    answer = client.trace_tensors(graph, {"z": z})
    assert answer.values["w"].dtype == z.dtype
    np.testing.assert_array_equal(answer.values["w"], z * z)
    np.testing.assert_allclose(answer.grads["z"], 2 * z, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.complex128])
def test_torch_tensors_say_themselves_whether_they_require_grad(
    client: Client, dtype: torch.dtype
) -> None:
    x = torch.randn(3, 2, dtype=dtype).t().requires_grad_()
    w = torch.randn(2, 3, dtype=dtype)
    real = [{"id": "r", "op": "view_as_real", "inputs": ["y"]}] if dtype.is_complex else []
    graph = {
        "ops": [
            {"id": "y", "op": "mul", "inputs": ["x", "w"]},
            *real,
            {"id": "out", "op": "sum", "inputs": ["r" if real else "y"]},
        ]
    }
    answer = client.trace_tensors(graph, {"x": x, "w": w})
    y = x.contiguous() * w
    (torch.view_as_real(y) if real else y).sum().backward()  # type: ignore[no-untyped-call]
    assert torch.equal(answer.values["y"], y)
    assert x.grad is not None
    assert torch.equal(answer.grads["x"], x.grad)
    assert "w" not in answer.grads


def test_bfloat16_comes_back_as_float32_where_numpy_is_used(client: Client) -> None:
    graph = {"ops": [{"id": "y", "op": "to", "inputs": ["x"], "attrs": {"dtype": "bfloat16"}}]}
    answer = client.trace_tensors(
        {**graph, "backward": []}, {"x": np.array([1.5, 3.1415927], "f4")}
    )
    np.testing.assert_array_equal(answer.values["y"], np.array([1.5, 3.140625], "f4"))


def test_the_client_of_a_numpy_user_imports_no_torch() -> None:
    code = (
        "import sys, numpy\n"
        "from service.client import Client\n"
        "from service.client.tensors import pack\n"
        "pack({}, {'x': numpy.ones(3)})\n"
        "assert 'torch' not in sys.modules and 'fastapi' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_stream_is_answered_in_order_with_an_error_in_its_place(client: Client) -> None:
    graphs: list[dict[str, Any]] = [
        {"leaves": [{"id": "x", "value": float(number)}], "backward": []} for number in range(600)
    ]
    graphs[7] = {"ops": []}
    answers = list(client.traces(graphs))
    assert isinstance(answers[7], InvalidRequest)
    traces = [answer for answer in answers if isinstance(answer, TraceResponse)]
    values = [trace.nodes[0].value for trace in traces]
    assert values == [float(number) for number in range(600) if number != 7]


def test_batches_fit_into_a_sockets_buffers() -> None:
    lines = [b"x" * 100] * 1000 + [b"y" * 10 * BATCH_BYTES] + [b"z"] * 3
    cut = list(batches(lines))
    assert [line for batch in cut for line in batch] == lines
    assert all(len(batch) <= BATCH_LINES for batch in cut)
    assert all(len(batch) == 1 or sum(map(len, batch)) <= BATCH_BYTES for batch in cut)


def test_the_catalogue_is_typed(client: Client) -> None:
    assert "pow" in [op.name for op in client.ops("pow").ops]
    names = [parameter.name for parameter in client.op("pow").signatures[0].parameters]
    assert names == ["input", "exponent"] or names == ["self", "exponent"]


def test_the_async_client_says_the_same(url: str) -> None:
    async def ask() -> None:
        async with AsyncClient(url) as client:
            alone = await client.trace(LESSON)
            both = await asyncio.gather(client.trace(LESSON), client.trace(LESSON))
            assert list(both) == [alone, alone]
            stream = [answer async for answer in client.traces([LESSON, {"ops": []}])]
            assert stream[0] == alone
            assert isinstance(stream[1], GradtraceError)
            tensors = await client.trace_tensors(SQUARE, {"x": np.ones(2)})
            np.testing.assert_array_equal(tensors.grads["x"], [2.0, 2.0])
            assert (await client.op("relu")).name == "relu"
            assert (await client.ops("relu")).ops
            with pytest.raises(NotFound):
                await client.op("relux")

    asyncio.run(ask())


class Reluctant(BaseHTTPRequestHandler):
    """A service that is full ``refusals`` times, then answers."""

    refusals: ClassVar[int] = 0
    keys: ClassVar[list[str | None]] = []
    status = 429

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.keys.append(self.headers["authorization"])
        if type(self).refusals > 0:
            type(self).refusals -= 1
            self._answer(429, "application/problem+json", Overloaded("full").problem())
        else:
            trace = TraceResponse(nodes=[], warnings=[], torch_version="0", device="cpu")
            self._answer(200, "application/json", trace)

    def _answer(self, status: int, media_type: str, body: Any) -> None:
        text = body.model_dump_json().encode()
        self.send_response(status)
        self.send_header("content-type", media_type)
        self.send_header("content-length", str(len(text)))
        self.send_header("retry-after", "0")
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        pass


@pytest.fixture
def reluctant() -> Iterator[str]:
    Reluctant.keys.clear()
    with HTTPServer(("127.0.0.1", 0), Reluctant) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_key_of_other_letters_is_sent_all_the_same(reluctant: str) -> None:
    """No service has such a key, and says so."""
    with Client(reluctant, key="schlüssel") as client:
        client.trace(LESSON)
    [sent] = Reluctant.keys
    assert sent is not None
    assert sent.encode("latin-1").decode() == "Bearer schlüssel"


def test_a_full_service_is_asked_again_a_bounded_number_of_times(reluctant: str) -> None:
    Reluctant.refusals = 2
    with Client(reluctant, key="secret", retries=2) as client:
        assert client.trace(LESSON).nodes == []
        assert Reluctant.keys == ["Bearer secret"] * 3
        Reluctant.refusals = 3
        with pytest.raises(Overloaded) as caught:
            client.trace(LESSON)
    assert caught.value.retry_after_s == 0
    assert Reluctant.refusals == 0


def test_the_async_client_asks_again_too(reluctant: str) -> None:
    async def ask() -> TraceResponse:
        async with AsyncClient(reluctant, retries=2) as client:
            return await client.trace(LESSON)

    Reluctant.refusals = 2
    assert asyncio.run(ask()).nodes == []


def test_what_is_no_such_service_is_said_so(reluctant: str) -> None:
    with Client(reluctant) as client, pytest.raises(UnexpectedAnswer):
        client.ops()
    with Client(f"http://127.0.0.1:{free_port()}") as client, pytest.raises(httpx.ConnectError):
        client.trace(LESSON)
