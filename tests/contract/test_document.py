"""What the OpenAPI document says is what comes: statuses, headers, media types, every field."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from openapi.examples import WRONG
from service.contract.problem import Problem, ProblemCode, ProblemError
from service.contract.request import DType, Encoding, Include
from service.contract.response import NonFinite, TraceResponse
from service.jobs import create
from service.settings import Settings
from service.web.server import openapi_document
from tests.golden import CASES
from tests.web.harness import JSON, NDJSON, Served, served

DOCUMENT = openapi_document()
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
KEY = "sesame"
HUGE = 700 * 1024
"""More bytes than any head may have, however they come."""
EVERYTHING = [str(part) for part in Include]
SLOW = {
    "ops": [
        {"id": "m0", "op": "ones", "attrs": {"size": [3000, 3000]}},
        *({"id": f"m{k}", "op": "matmul", "inputs": ["m0", f"m{k - 1}"]} for k in range(1, 300)),
    ],
    "backward": [],
    "include": [],
}


def complaints(schema: dict[str, Any], value: Any) -> list[str]:
    """Return what a validator has against ``value``."""
    whole = Draft202012Validator({**schema, "components": DOCUMENT["components"]})
    return [f"{list(each.absolute_path)}: {each.message}" for each in whole.iter_errors(value)]


def operation(request: httpx.Request) -> dict[str, Any]:
    for path, methods in DOCUMENT["paths"].items():
        pattern = re.sub(r"\{\w+\}", "[^/]+", path)
        if re.fullmatch(pattern, request.url.path) and request.method.lower() in methods:
            found: dict[str, Any] = methods[request.method.lower()]
            return found
    raise AssertionError(f"{request.method} {request.url.path} is not described")


def hold(answer: httpx.Response, status: int) -> None:
    """Hold ``answer`` against what the document says of it."""
    assert answer.status_code == status, answer.text
    described = operation(answer.request)["responses"][str(status)]
    for name, header in described["headers"].items():
        assert header["required"]
        assert name in answer.headers
    media_type = answer.headers["content-type"].partition(";")[0]
    content = described["content"][media_type]
    if media_type == "application/x-ndjson":
        lines = map(json.loads, answer.text.splitlines())
        assert [complaints(content["x-item-schema"], line) for line in lines] == [[]]
    elif media_type.endswith("json"):
        assert complaints(content["schema"], answer.json()) == []


def examples(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Yield where each example of JSON is, its schema and its value."""
    if isinstance(node, dict):
        for media_type, content in node.get("content", {}).items():
            if media_type.endswith("json") and media_type != "application/x-ndjson":
                for name, example in content.get("examples", {}).items():
                    yield f"{path} {name}", content["schema"], example["value"]
        for key, each in node.items():
            if key != "content":
                yield from examples(each, f"{path}/{key}")


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    limits: dict[str, Any] = {"time_limit_s": 4, "max_body_mb": 0.2, "body_timeout_s": 1}
    with served("service.jobs:create", workers=1, api_keys=KEY, **limits) as made:
        yield made


@pytest.fixture
def client(server: Served) -> Iterator[httpx.Client]:
    key = {"authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=server.url, headers=key, timeout=60) as made:
        yield made


def test_every_example_is_of_its_schema() -> None:
    found = list(examples(DOCUMENT["paths"]))
    assert len(found) > 50
    assert [(where, complaints(*each)) for where, *each in found if complaints(*each)] == []


def test_every_problem_shown_has_the_status_that_it_is_shown_under() -> None:
    for path, methods in DOCUMENT["paths"].items():
        for method in methods.values():
            for status, answer in method["responses"].items():
                shown = answer["content"].get("application/problem+json", {}).get("examples", {})
                for name, example in shown.items():
                    value = example["value"]
                    assert (value["code"], value["status"]) == (name, int(status)), path


def test_every_description_of_an_op_is_of_its_schema(client: httpx.Client) -> None:
    ops = client.get("/v1/ops")
    hold(ops, 200)
    for op in ops.json()["ops"]:
        hold(client.get(f"/v1/ops/{op['name']}"), 200)


@pytest.mark.parametrize("encoding", list(Encoding))
@pytest.mark.parametrize("include", [None, [], EVERYTHING], ids=["default", "nothing", "all"])
def test_every_golden_answer_is_of_its_schema(
    include: list[str] | None, encoding: Encoding, client: httpx.Client
) -> None:
    for case in CASES.values():
        hold(client.post("/v1/trace", json={**case["request"], "include": include}), 200)
        asked = {**case["request"], "include": include, "encoding": encoding}
        hold(client.post("/v1/trace", json=asked), 200)


@pytest.mark.parametrize("code", WRONG)
def test_every_graph_that_is_wrong_is_answered_as_described(
    code: ProblemCode, client: httpx.Client
) -> None:
    answer = client.post("/v1/trace", json=WRONG[code])
    hold(answer, 422)
    assert answer.json()["code"] == code
    hold(client.post("/v1/traces", content=json.dumps(WRONG[code]), headers=NDJSON), 200)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/livez", 200),
        ("/readyz", 200),
        ("/metrics", 200),
        ("/openapi.json", 200),
        ("/problems/cycle", 200),
        ("/problems/nothing", 404),
        ("/v1/capabilities", 200),
        ("/v1/ops/nothing", 404),
        (f"/v1/ops/{'x' * 201}", 422),
        (f"/v1/ops?q={'x' * 201}", 422),
    ],
)
def test_what_is_asked_by_get_is_answered_as_described(
    path: str, status: int, client: httpx.Client
) -> None:
    hold(client.get(path), status)
    hold(client.get(path, headers={"x-long": "x" * HUGE}), 431)
    if path.startswith("/v1/"):
        hold(client.get(path, headers={"authorization": ""}), 401)
        if status != 422:
            hold(client.get(path, headers={"accept": "image/png"}), 406)


@pytest.mark.parametrize("path", ["/v1/trace", "/v1/import/python", "/v1/export/python"])
def test_a_body_that_is_refused_is_refused_as_described(path: str, client: httpx.Client) -> None:
    def silent() -> Iterator[bytes]:
        yield b"{"
        time.sleep(1.5)
        yield b"}"

    hold(client.post(path, content="{", headers=JSON), 400)
    hold(client.post(path, content=silent(), headers=JSON), 408)
    hold(client.post(path, content="{}", headers={**JSON, "authorization": ""}), 401)
    hold(client.post(path, content="{}", headers={**JSON, "accept": "image/png"}), 406)
    hold(client.post(path, content=b" " * 300_000, headers=JSON), 413)
    hold(client.post(path, content="{}"), 415)
    hold(client.post(path, content="{}", headers=JSON), 422)
    hold(client.post(path, content="{}", headers={**JSON, "x-long": "x" * HUGE}), 431)


def test_a_stream_that_is_refused_is_refused_as_described(client: httpx.Client) -> None:
    hold(client.post("/v1/traces", content="{}", headers={**NDJSON, "authorization": ""}), 401)
    hold(client.post("/v1/traces", content="{}", headers={**NDJSON, "accept": "image/png"}), 406)
    hold(client.post("/v1/traces", content="{}"), 415)
    hold(client.post("/v1/traces", content="{}", headers={**NDJSON, "x-long": "x" * HUGE}), 431)


def test_a_graph_that_takes_too_long_is_answered_as_described(client: httpx.Client) -> None:
    hold(client.post("/v1/trace", json=SLOW), 504)
    hold(client.post("/v1/traces", content=json.dumps(SLOW), headers=NDJSON), 200)


def test_an_answer_may_get_more_fields_and_a_client_of_today_reads_it() -> None:
    for name in ("Problem", "ProblemError", "TraceResponse", "NodeTrace"):
        assert "additionalProperties" not in SCHEMAS[name], name
    error = {"pointer": "", "code": "cycle", "message": "m", "node": None, "later": 1}
    kind = {"type": "/problems/cycle", "title": "t", "status": 422, "detail": "d", "code": "cycle"}
    told = Problem.model_validate({**kind, "errors": [error], "later": 1})
    assert told.errors == [ProblemError(pointer="", code=ProblemCode.CYCLE, message="m")]


def test_a_problem_has_all_of_its_fields() -> None:
    for name in ("Problem", "ProblemError"):
        assert SCHEMAS[name]["required"] == list(SCHEMAS[name]["properties"])


def test_what_an_answer_may_lack_is_null_only_where_null_is_sent() -> None:
    """A field that was not asked for is absent, which is not what null says."""
    job = create(Settings.model_construct().job_config())
    sent: set[str] = set()
    for case in CASES.values():
        for encoding in Encoding:
            asked = {**case["request"], "include": EVERYTHING, "encoding": encoding}
            kinds = {"content-type": "application/json", "accept": "application/json"}
            body = job({"job": "trace", **kinds}, json.dumps(asked).encode())[2]
            answer = json.loads(body if isinstance(body, bytes) else b"".join(body))
            sent |= {f"{key}" for key, value in answer.items() if value is None}
            for node in answer["nodes"]:
                sent |= {f"nodes.{key}" for key, value in node.items() if value is None}
    assert sent == {"nodes.op", "nodes.grad_fn", "nodes.grad", "nodes.grad_base64"}
    typed = {
        f"{prefix}{name}"
        for prefix, schema in (("", "TraceResponse"), ("nodes.", "NodeTrace"))
        for name, field in SCHEMAS[schema]["properties"].items()
        if {"type": "null"} in field.get("anyOf", ())
    }
    assert typed == sent - {"nodes.grad"}, "a grad is any JSON, null among it"
    for name in ("TraceResponse", "NodeTrace", "Edge", "Health"):
        assert "default" not in json.dumps(SCHEMAS[name]), name
    assert TraceResponse.model_validate({**answer, "edges": None}).edges is None


def test_the_constants_of_an_enum_have_names_that_can_be_read() -> None:
    assert SCHEMAS["NonFinite"]["x-enum-varnames"] == [each.name for each in NonFinite]
    assert SCHEMAS["DType"]["x-enum-varnames"] == [each.name for each in DType]
