from __future__ import annotations

import json
import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi.routing import APIRoute

from openapi import examples as made
from service.contract.problem import Problem, ProblemCode
from service.contract.request import TraceRequest
from service.contract.response import OpDescription, OpList, TraceResponse
from service.web.examples import load
from service.web.models import Capabilities, ProblemKind, PythonSource, TraceLine
from service.web.server import openapi_document
from tests.web.harness import running

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]
DOCUMENT = openapi_document()
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for key, value in node.items():
            if key not in ("example", "examples"):
                yield from nodes(value)
    elif isinstance(node, list):
        for each in node:
            yield from nodes(each)


def test_the_committed_document_is_that_of_the_app() -> None:
    committed = json.loads((ROOT / "openapi" / "openapi.json").read_text())
    assert committed == DOCUMENT, "run `make openapi`"


async def test_the_service_answers_with_the_same_document() -> None:
    async with running() as web:
        assert (await web.http.get("/openapi.json")).json() == DOCUMENT


async def test_behind_a_prefix_only_the_server_differs() -> None:
    async with running(root_path="/prefix") as web:
        document = (await web.http.get("/openapi.json")).json()
        assert document["servers"][0]["url"] == "/prefix"
        assert {**document, "servers": DOCUMENT["servers"]} == DOCUMENT


async def test_every_route_of_the_api_is_described() -> None:
    async with running() as web:
        paths = {route.path for route in web.app.routes if isinstance(route, APIRoute)}
    pages = {"/", "/docs", "/docs/{name}", "/playground/{name:path}"}
    assert set(DOCUMENT["paths"]) == paths - pages


def test_the_document_says_who_and_what() -> None:
    assert DOCUMENT["openapi"].startswith("3.1")
    info = DOCUMENT["info"]
    assert all(info[key] for key in ("title", "version", "summary", "description", "contact"))
    assert info["license"]["identifier"] == "MIT"
    assert DOCUMENT["servers"]
    assert DOCUMENT["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"


def test_every_operation_has_an_id_words_a_known_tag_and_its_problems() -> None:
    tags = {tag["name"] for tag in DOCUMENT["tags"]}
    ids = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(ids)) == len(ids)
    assert {"trace", "trace_many"} < set(ids)
    for path, method, operation in operations():
        assert re.fullmatch(r"[a-z_]+", operation["operationId"])
        assert operation["summary"], path
        assert operation["description"], path
        assert set(operation["tags"]) <= tags
        assert "500" in operation["responses"]
        assert bool(operation["security"]) == path.startswith("/v1/")
        of_one_graph = {"413", "504"} & set(operation["responses"])
        if path == "/v1/traces":
            assert not of_one_graph, "these are problems of a line"
        elif path.startswith("/v1/"):
            assert of_one_graph == ({"413", "504"} if method == "post" else {"504"}), path
        if path.startswith("/v1/"):
            assert {"401", "406", "429", "503"} < set(operation["responses"]), path
        if method == "post":
            assert {"408", "415"} < set(operation["responses"]), path
            assert operation["requestBody"]["required"]
        for status, answer in operation["responses"].items():
            assert answer["description"], (path, status)
            assert "X-Request-Id" in answer["headers"], (path, status)
            if status != "200":
                assert set(answer["content"]) == {"application/problem+json"}


def test_every_problem_code_has_an_example_somewhere() -> None:
    shown = {
        name
        for _, _, operation in operations()
        for answer in operation["responses"].values()
        for name in answer["content"].get("application/problem+json", {}).get("examples", {})
    }
    assert shown == set(ProblemCode) - {"method_not_allowed"}


def test_every_model_field_and_enum_value_is_described() -> None:
    for name, schema in SCHEMAS.items():
        assert schema.get("description"), name
        for field, described in schema.get("properties", {}).items():
            assert described.get("description"), f"{name}.{field}"
        if "enum" in schema:
            assert len(schema["x-enum-descriptions"]) == len(schema["enum"]), name
            assert all(schema["x-enum-descriptions"]), name


def test_every_parameter_is_described() -> None:
    for path, _, operation in operations():
        for parameter in operation.get("parameters", []):
            assert parameter["description"], path


def test_every_reference_leads_to_a_schema_and_every_schema_is_referred_to() -> None:
    prefix = "#/components/schemas/"
    references = {node["$ref"].removeprefix(prefix) for node in nodes(DOCUMENT) if "$ref" in node}
    assert references == set(SCHEMAS)


def test_the_schemas_have_only_shapes_that_generators_take() -> None:
    for node in nodes(DOCUMENT):
        for union in ("anyOf", "oneOf", "allOf"):
            kinds = [each for each in node.get(union, []) if each.get("type") != "null"]
            assert len(kinds) <= 1, node
        assert "const" not in node
        if isinstance(node.get("type"), str) and node["type"] == "number":
            assert node["format"] == "double"


def _parents(name: str, known: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    left = [name]
    while left:
        for other in known[left.pop()] - seen:
            seen.add(other)
            left.append(other)
    return seen


def test_no_schema_contains_itself() -> None:
    known = {
        name: {node["$ref"].rpartition("/")[2] for node in nodes(schema) if "$ref" in node}
        for name, schema in SCHEMAS.items()
    }
    for name in known:
        assert name not in _parents(name, known)


def test_the_examples_are_in_the_document_with_every_null() -> None:
    shown = json.dumps(load()["trace"]["seed"]["answer"])
    assert '"grad": null' in shown
    assert shown in json.dumps(DOCUMENT)
    assert "example:" not in json.dumps(DOCUMENT)


def test_the_examples_are_of_the_models() -> None:
    shown = load()
    for each in shown["trace"].values():
        TraceRequest.model_validate(each["request"])
        TraceResponse.model_validate(each["answer"])
    for code, each in shown["problems"].items():
        assert Problem.model_validate(each["problem"]).code == code
    others = {name: each["value"] for name, each in shown["others"].items()}
    OpList.model_validate(others["list_ops"])
    OpDescription.model_validate(others["describe_op"])
    Capabilities.model_validate(others["capabilities"])
    PythonSource.model_validate(others["import_python"])
    TraceRequest.model_validate(others["imported"])
    ProblemKind.model_validate(others["describe_problem"])
    for line in shown["stream"]["answer"].splitlines():
        TraceLine.model_validate_json(line)


def test_the_examples_are_what_the_service_answers() -> None:
    """The engine itself is asked; only the versions of what is installed may differ."""
    now, then = json.loads(made.text()), deepcopy(load())
    if torch.__version__ != then["others"]["capabilities"]["value"]["versions"]["torch"]:
        for each in (*now["trace"].values(), *then["trace"].values()):
            each["answer"].pop("torch_version")
        now.pop("stream")
        then = {key: value for key, value in then.items() if key != "stream"}
    for examples in (now, then):
        examples["others"]["capabilities"]["value"].pop("versions")
        examples["others"]["capabilities"]["value"].pop("devices")
    assert now == then, "run `python openapi/examples.py`"
