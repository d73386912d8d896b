"""The Python client against a real service."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import pickle
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from service.cli.conformity import differences
from service.cli.demo import LESSON, running
from service.cli.probe import ready
from service.client import AsyncClient, Client, UnexpectedAnswer
from service.client.calls import BATCH_BYTES, BATCH_LINES, batches, graph_json
from service.contract.problem import (
    BadRoot,
    BadValue,
    GradtraceError,
    InvalidRequest,
    NotFound,
    Overloaded,
    UnknownOp,
    error_from,
    problems,
)
from service.contract.request import Leaf, Op, TraceRequest
from service.contract.response import GradStatus, TraceResponse
from tests.answering import answer_of, answering
from tests.golden import CASES
from tests.processes import own_port


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


def test_every_problem_comes_back_as_its_own_class() -> None:
    for kind in problems():
        raised = error_from(kind("why").problem(), 3)
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


@pytest.mark.parametrize("array", [np.array, torch.tensor])
@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_what_edges_contribute_comes_out(client: Client, array: Any, dtype: str) -> None:
    x = array([1.0, 2.0], dtype=getattr(np if array is np.array else torch, dtype))
    ops = [
        {"id": "y", "op": "mul", "inputs": ["x", "x"]},
        {"id": "s", "op": "sum", "inputs": ["y"]},
        {"id": "out", "op": "abs", "inputs": ["s"]},
    ]
    graph = {"leaves": [{"id": "x", "requires_grad": True}, {"id": "c", "value": 1.0}], "ops": ops}
    answer = client.trace_tensors({**graph, "include": ["grad", "edges"]}, {"x": x})
    edges = answer.response.edges
    assert edges is not None
    assert [edge.from_ for edge in edges] == ["x", "x", "y", "s"]
    assert answer.edges.keys() == set(range(4))
    np.testing.assert_array_equal(answer.edges[0], x)
    assert answer.edges[0].dtype == x.dtype
    np.testing.assert_array_equal(answer.edges[0] + answer.edges[1], answer.grads["x"])


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (np.ma.array([1.0, 2.0], mask=[False, True]), "without a value"),
        (np.array(["a"]), "str"),
        (np.array([1], np.longdouble), "longdouble|float128"),
        (np.array([1], np.uint16), "uint16"),
        (torch.zeros(1, dtype=torch.float8_e5m2), "float8"),
    ],
    ids=str,
)
def test_what_the_service_has_no_dtype_for_is_a_bad_value(
    client: Client, array: Any, told: str
) -> None:
    with pytest.raises(BadValue, match=told) as refused:
        client.trace_tensors({"backward": []}, {"x": array})
    assert refused.value.errors[0].node in ("x", None)


def test_an_array_that_could_have_masked_elements_and_has_none_is_taken(client: Client) -> None:
    answer = client.trace_tensors({"backward": []}, {"x": np.ma.array([1.0, 2.0])})
    np.testing.assert_array_equal(answer.values["x"], [1.0, 2.0])


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:-1",
        "http://127.0.0.1:70000",
        "http://xn--/",
        "127.0.0.1:8000",
        "localhost:8000",
        "ftp://127.0.0.1",
        "http://",
        "",
    ],
)
def test_an_address_that_is_none_is_an_invalid_url(url: str) -> None:
    with pytest.raises(httpx.InvalidURL):
        Client(url)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_this_machine_is_asked_without_a_proxy(
    url: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv(
        name, "socks5://proxy.invalid:1" if name == "ALL_PROXY" else "http://[::1]:1"
    )
    with Client(url) as direct:
        assert direct.op("add").name == "add"
    assert ready(url, quiet=True) == 0


def test_a_graph_is_sent_without_spaces() -> None:
    assert graph_json({"leaves": [{"id": "x", "value": [1, math.inf]}]}) == (
        b'{"leaves":[{"id":"x","value":[1,"Infinity"]}]}'
    )


def test_single_numbers_of_numpy_are_numbers() -> None:
    numbers = [np.float32(0.5), np.float64(2), np.int64(3), np.bool_(True), np.float16("nan")]
    assert graph_json({"leaves": numbers}) == b'{"leaves":[0.5,2.0,3,true,"NaN"]}'


@pytest.mark.parametrize("array", [np.ones(2), torch.ones(2)], ids=["numpy", "torch"])
def test_an_array_in_a_graph_is_refused_with_what_to_write_instead(array: Any) -> None:
    with pytest.raises(TypeError, match=r"value\.tolist\(\), or give it to trace_tensors"):
        graph_json({"leaves": [{"id": "x", "value": array}]})
    with pytest.raises(TypeError, match=r"not of builtins\.set(\n|$)"):
        graph_json({"leaves": {1}})


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


@pytest.mark.parametrize(
    "z",
    [
        np.array(3 + 4j),
        np.arange(6).reshape(2, 3).T + 1j,
        (np.arange(6) + 1j)[::2],
        np.array([1 + 2j], ">c16"),
        np.array([1.0, 2.0], ">f4"),
    ],
    ids=["scalar", "columns", "strided", "complex-from-big-end", "float-from-big-end"],
)
@pytest.mark.parametrize("beside", [{}, {"w": torch.ones(1)}], ids=["numpy", "torch"])
def test_arrays_of_any_layout_go_in(client: Client, z: Any, beside: dict[str, Any]) -> None:
    graph = {"leaves": [{"id": "z"}], "backward": []}
    got = client.trace_tensors(graph, {"z": z, **beside}).values["z"]
    np.testing.assert_array_equal(np.asarray(got), z)


SPECIAL = {
    "float64": (0x7FF8000000000001, 0xFFF0000000000000, 0x8000000000000000, 1, 0x3FB999999999999A),
    "float32": (0x7FC00001, 0xFF800000, 0x80000000, 1, 0x3DCCCCCD),
    "float16": (0x7E01, 0xFC00, 0x8000, 1, 0x2E66),
}


@pytest.mark.parametrize("dtype", SPECIAL)
def test_every_bit_goes_in_and_comes_out(client: Client, dtype: str) -> None:
    """A NaN with a payload, an infinity, -0.0, the smallest number, a tenth."""
    x = np.array(SPECIAL[dtype], f"u{np.dtype(dtype).itemsize}").view(dtype)
    sent = {
        "id": "x",
        "value_base64": base64.b64encode(x.tobytes()).decode(),
        "shape": [5],
        "dtype": dtype,
    }
    text = {**sent, "requires_grad": True}
    ops = [{"id": "y", "op": "dot", "inputs": ["x", "x"]}]
    answer = client.trace({"leaves": [sent], "backward": [], "encoding": "base64"})
    assert base64.b64decode(answer.nodes[0].value_base64 or "") == x.tobytes()
    assert answer.nodes[0].value is None
    graph = {"leaves": [{"id": "x"}], "backward": []}
    assert client.trace_tensors(graph, {"x": x}).values["x"].tobytes() == x.tobytes()
    whole = client.trace({"leaves": [text], "ops": ops, "encoding": "base64"}).nodes[0]
    tracked = client.trace_tensors(
        {"leaves": [{"id": "x", "requires_grad": True}], "ops": ops}, {"x": x}
    )
    assert base64.b64decode(whole.grad_base64 or "") == tracked.grads["x"].tobytes()
    numbers = client.trace({"leaves": [sent], "backward": []}).nodes[0].value
    assert numbers[:2] == ["NaN", "-Infinity"]
    assert np.array(numbers[2:], dtype).tobytes() == x[2:].tobytes()


def test_a_gradient_that_is_not_there_is_not_a_nan(client: Client) -> None:
    graph = {
        "leaves": [{"id": "x", "value": math.nan, "requires_grad": True}],
        "ops": [{"id": "y", "op": "mul", "inputs": ["x", "x"]}],
    }
    x, y = client.trace(graph).nodes
    assert (x.value, x.grad, y.value, y.grad) == ("NaN", "NaN", "NaN", None)
    tensors = client.trace_tensors(graph, {})
    assert np.isnan(tensors.grads["x"])
    assert "y" not in tensors.grads


def test_non_finite_numbers_may_stand_beside_tensors(client: Client) -> None:
    ops = [{"id": "y", "op": "mul", "inputs": ["x"], "attrs": {"other": math.inf}}]
    answer = client.trace_tensors({"ops": ops, "backward": []}, {"x": np.ones(1)})
    np.testing.assert_array_equal(answer.values["y"], [math.inf])


def test_a_leaf_without_its_tensor_is_the_services_to_refuse(client: Client) -> None:
    for leaf in ({"id": "w"}, {"requires_grad": True}):
        with pytest.raises(InvalidRequest):
            client.trace_tensors({"leaves": [leaf]}, {"x": np.ones(1)})


def test_ids_that_the_contract_does_not_have_are_refused(client: Client) -> None:
    with pytest.raises(InvalidRequest) as caught:
        client.trace({"leaves": [{"id": "größe", "value": 1}]})
    assert caught.value.errors[0].pointer == "/leaves/0/id"
    with pytest.raises(InvalidRequest):
        client.trace_tensors({"backward": []}, {"größe": np.ones(1)})
    with pytest.raises(NotFound, match="größe"):
        client.op("größe")
    with pytest.raises(NotFound):
        client.op("../trace?x#y%")


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


def test_a_stream_may_be_left_early(client: Client, url: str) -> None:
    endless = iter(lambda: LESSON, None)
    answers = client.traces(endless)
    assert isinstance(next(answers), TraceResponse)
    assert isinstance(client.trace(LESSON), TraceResponse)

    async def ask() -> None:
        async with AsyncClient(url) as other:
            async for answer in other.traces(endless):
                assert isinstance(answer, TraceResponse)
                break
            await other.trace(LESSON)

    asyncio.run(ask())


def test_a_line_may_be_as_large_as_a_body(client: Client) -> None:
    number = "1" + "0" * 3_000_000
    large = {"leaves": [{"id": "x", "value": [1.0] * 500_000}], "backward": []}
    answers = list(client.traces([LESSON, large, {"leaves": [{"id": number}]}, LESSON]))
    assert isinstance(answers[1], TraceResponse)
    assert len(answers[1].nodes[0].value) == 500_000
    assert isinstance(answers[2], InvalidRequest)
    assert answers[0] == answers[3]


def test_threads_share_a_client(client: Client) -> None:
    alone = client.trace(LESSON)
    with ThreadPoolExecutor(8) as threads:
        assert all(answer == alone for answer in threads.map(client.trace, [LESSON] * 40))


def test_a_slash_behind_the_address_is_of_no_matter(url: str) -> None:
    with Client(url + "/") as client:
        assert client.op("relu").name == "relu"


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


TRACE = TraceResponse(nodes=[], warnings=[], torch_version="0", device="cpu").model_dump_json()
FULL = answer_of(
    Overloaded("full").problem().model_dump_json(),
    "application/problem+json",
    "429 Too Many Requests",
    "Retry-After: 0\r\n",
)


@pytest.mark.parametrize("key", ["schlüssel", "secret\n"], ids=["other letters", "from a file"])
def test_a_key_is_sent_without_white_space_and_whatever_its_letters(key: str) -> None:
    """No service has a key of other letters, and says so; one from a file ends in a newline."""
    with answering(answer_of(TRACE)) as (url, asked), Client(url, key=key) as client:
        client.trace(LESSON)
    assert [each.headers["authorization"] for each in asked] == [f"Bearer {key.strip()}"]


def test_a_full_service_is_asked_again_a_bounded_number_of_times() -> None:
    with (
        answering(FULL, FULL, answer_of(TRACE), FULL) as (url, asked),
        Client(url, key="secret", retries=2) as client,
    ):
        assert client.trace(LESSON).nodes == []
        assert [each.headers["authorization"] for each in asked] == ["Bearer secret"] * 3
        with pytest.raises(Overloaded) as caught:
            client.trace(LESSON)
    assert caught.value.retry_after_s == 0
    assert len(asked) == 6


def test_a_service_that_is_full_for_a_while_is_asked_again_by_both() -> None:
    with answering(*[FULL, FULL, answer_of(TRACE)] * 2) as (url, _):
        assert [answer.nodes for answer in both(url, LESSON, retries=2)] == [[], []]


def test_where_nobody_listens_there_is_no_connection() -> None:
    with own_port() as port:
        for error in both(f"http://127.0.0.1:{port}", LESSON):
            assert isinstance(error, httpx.ConnectError)


def both(url: str, graph: dict[str, Any], **options: Any) -> Iterator[Any]:
    """Yield what the blocking and the asyncio client answer or raise."""

    async def ask() -> Any:
        async with AsyncClient(url, **options) as client:
            return await client.trace(graph)

    def block() -> Any:
        with Client(url, **options) as client:
            return client.trace(graph)

    for call in (block, lambda: asyncio.run(ask())):
        try:
            yield call()
        except (GradtraceError, UnexpectedAnswer, httpx.HTTPError) as error:
            yield error


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (answer_of("<html>sign in</html>", "text/html; charset=utf-8"), 200),
        (answer_of("<html>bad gateway</html>", "text/html", "502 Bad Gateway"), 502),
        (answer_of("", "text/html", "301 Moved", "Location: https://a.example/\r\n"), 301),
        (answer_of("not json"), 200),
        (answer_of("{}"), 200),
        (answer_of("[]", "application/problem+json", "500 Oh"), 500),
        (answer_of('{"type": "about:blank"}', "application/problem+json", "403 No"), 403),
        ("HTTP/1.1 204 No Content\r\n\r\n", 200),
    ],
    ids=["page", "bad-gateway", "moved", "text", "object", "list", "other-problem", "nothing"],
)
def test_the_answer_of_something_else_says_what_it_is(answer: str, status: int) -> None:
    with answering(answer) as (url, _):
        for error in both(url, LESSON):
            assert isinstance(error, UnexpectedAnswer)
            assert error.status == status
            copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - made in this line
            assert str(copy) == str(error)
            assert str(status) in str(error)


def test_a_tensor_answer_that_is_none_says_so() -> None:
    for body in ("", "short", "x" * 100, "\x02\0\0\0\0\0\0\0{}"):
        with answering(answer_of(body, "application/x-safetensors")) as (url, _), Client(url) as it:
            for tensor in (np.ones(1), torch.ones(1)):
                with pytest.raises(UnexpectedAnswer):
                    it.trace_tensors({}, {"x": tensor})


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "HTTP/1.1 200 OK\r\n",
        answer_of(TRACE)[:-5],
        f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{len(TRACE):x}\r\n{TRACE}\r\n",
        "SSH-2.0-OpenSSH\r\n",
    ],
    ids=["nothing", "head", "body", "chunks", "other-protocol"],
)
def test_an_answer_that_breaks_off_is_an_error_of_transport(answer: str) -> None:
    with answering(answer) as (url, asked):
        for error in both(url, LESSON):
            assert isinstance(error, httpx.TransportError)
        assert len(asked) == 2, "nothing but 429 and 503 is asked again"


@pytest.mark.parametrize("named", ["", "Retry-After: \u00b2\r\n", f"Retry-After: {'9' * 5000}\r\n"])
def test_a_time_that_cannot_be_read_is_none(named: str) -> None:
    full = answer_of(
        Overloaded("full").problem().model_dump_json(),
        "Application/Problem+JSON",
        "429 Too Many Requests",
        named,
    )
    with answering(full) as (url, _):
        for error in both(url, LESSON, retries=0):
            assert isinstance(error, Overloaded)
            assert error.retry_after_s is None


def test_a_proxys_503_is_asked_again() -> None:
    busy = answer_of("busy", "text/html", "503 Busy", "Retry-After: 0\r\n")
    with answering(busy, busy, answer_of(TRACE)) as (url, asked):
        with Client(f"{url}/prefix/") as client:
            assert client.trace(LESSON).nodes == []
        assert [each.path for each in asked] == ["/prefix/v1/trace"] * 3
    with answering(busy) as (url, asked):
        for error in both(url, LESSON, retries=1):
            assert isinstance(error, UnexpectedAnswer)
        assert len(asked) == 4


def test_a_problem_may_have_fields_that_are_newer_than_the_client() -> None:
    """Under /v1 fields may be added, to problems too."""
    problem = json.loads(NotFound("gone").problem().model_dump_json())
    problem |= {"instance": "/v1/trace"}
    problem["errors"][0]["hint"] = "look elsewhere"
    answer = answer_of(json.dumps(problem), "application/problem+json", "404 Not Found")
    with answering(answer) as (url, _):
        for error in both(url, LESSON):
            assert isinstance(error, NotFound)
    line = answer_of(json.dumps({"index": 0, "problem": problem}) + "\n", "application/x-ndjson")
    with answering(line) as (url, _), Client(url) as client:
        assert isinstance(next(client.traces([LESSON])), NotFound)


@pytest.mark.parametrize(
    "second",
    ["", "<html>", "null", "[]", "{}", '{"trace": {}}', '{"problem": {}}', '{"trace": {"nod'],
)
def test_a_stream_with_a_line_that_is_none_is_answered_up_to_there(second: str) -> None:
    lines = f'{{"index": 0, "trace": {TRACE}}}\n{second}'
    with answering(answer_of(lines, "application/x-ndjson")) as (url, _), Client(url) as client:
        answers = client.traces([LESSON, LESSON])
        assert isinstance(next(answers), TraceResponse)
        with pytest.raises(UnexpectedAnswer):
            next(answers)


def test_silence_is_given_up_and_waiting_for_a_connection_is_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it listens and never accepts
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        for error in both(url, LESSON, timeout_s=1):
            assert isinstance(error, httpx.ReadTimeout)
    with Client(timeout_s=3) as client:
        assert client._http.timeout == httpx.Timeout(3, pool=None)
