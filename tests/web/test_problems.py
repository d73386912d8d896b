from __future__ import annotations

import html
import json
from pathlib import Path

import pytest

from service.contract.problem import GradtraceError, ProblemCode, problems
from tests.web.harness import problem, routes, running

pytestmark = pytest.mark.anyio
PAGE = (Path(__file__).parents[2] / "docs" / "problems.md").read_text()
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]


async def test_every_route_refuses_other_methods_with_a_problem_and_says_which_it_takes() -> None:
    async with running() as web:
        for path, takes in routes(web):
            for method in set(METHODS) - takes:
                answer = await web.http.request(method, path)
                problem(answer, 405, "method_not_allowed")
                said = set(answer.headers["allow"].split(", "))
                assert said == takes | ({"HEAD"} if "GET" in takes else set())


@pytest.mark.parametrize(
    "path",
    ["/nope", "/v1", "/v1/", "/v1/nope", "/v1/trace/", "//v1/trace", "/docs/../x", "/docs/x"],
)
async def test_a_path_that_is_not_there_is_not_found(path: str) -> None:
    async with running() as web:
        problem(await web.http.get(path), 404, "not_found")


async def test_a_path_is_named_as_the_proxy_passed_it_on() -> None:
    async with running(root_path="/pre") as web:
        absent = problem(await web.http.get("/pre/nope"), 404, "not_found")
        assert absent.detail == "There is nothing at /nope."
        refused = problem(await web.http.get("/pre/v1/trace"), 405, "method_not_allowed")
        assert refused.detail.startswith("/v1/trace takes POST")


async def test_a_long_path_is_quoted_only_in_part() -> None:
    async with running() as web:
        answer = await web.http.get("/" + "x" * 5000)
        assert len(problem(answer, 404, "not_found").model_dump_json()) < 1000


async def test_head_answers_like_get_without_a_body() -> None:
    async with running() as web:
        got, head = await web.http.get("/livez"), await web.http.head("/livez")
        assert head.status_code == 200
        assert head.content == b""
        assert head.headers["content-length"] == got.headers["content-length"]
        lines = [json.loads(line) for line in web.log.getvalue().splitlines()]
        assert [(line["method"], line["route"]) for line in lines] == [
            ("GET", "/livez"),
            ("HEAD", "/livez"),
        ]


async def test_head_of_a_route_that_has_no_get_is_refused() -> None:
    async with running() as web:
        answer = await web.http.head("/v1/trace")
        assert answer.status_code == 405
        assert answer.headers["allow"] == "POST"


async def test_a_bug_is_an_internal_problem_that_says_nothing_of_the_inside() -> None:
    async with running() as web:
        answer = await web.trace({"do": "fail"})
        assert "a bug in the job" not in problem(answer, 500, "internal").model_dump_json()


async def test_where_a_bug_is_stands_in_the_log_with_the_id_and_not_in_the_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running() as web:
        answer = await web.trace({"do": "bug"}, **{"x-request-id": "me-1"})
        assert "f:1" not in problem(answer, 500, "internal").model_dump_json()
        assert "x-bug" not in answer.headers
    [record] = [record for record in caplog.records if record.name == "service.web.exchange"]
    assert record.getMessage() == "a bug, request me-1: unexpected Error at f:1"
    assert record.levelname == "ERROR"


async def test_a_parameter_of_the_wrong_form_is_named_but_not_echoed() -> None:
    async with running() as web:
        answer = await web.http.get("/v1/ops", params={"q": "secret" * 100})
        said = problem(answer, 422, "invalid_request").model_dump_json()
        assert "/query/q" in said
        assert "secret" not in said


def test_every_code_has_one_class_and_every_class_a_code() -> None:
    kinds = list(problems())
    assert [kind.code for kind in kinds] == list(ProblemCode)
    assert all(400 <= kind.status < 600 and kind.title and kind.description for kind in kinds)


@pytest.mark.parametrize("kind", problems(), ids=lambda kind: kind.code)
def test_every_problem_has_its_row_in_the_documents(kind: type[GradtraceError]) -> None:
    row = f"| `{kind.code}` | {kind.status} | {kind.title} | {kind.description} |"
    assert row in PAGE.splitlines()


@pytest.mark.parametrize("code", list(ProblemCode))
async def test_the_type_of_every_problem_answers_with_its_description(code: ProblemCode) -> None:
    kind = next(kind for kind in problems() if kind.code == code)
    async with running() as web:
        described = (await web.http.get(f"/problems/{code}")).json()
        assert described["description"] == kind.description
        assert (described["status"], described["code"]) == (kind.status, code)
        page = await web.http.get(f"/problems/{code}", headers={"accept": "text/html"})
        assert page.headers["content-type"].startswith("text/html")
        assert html.escape(kind.title) in page.text


async def test_the_description_of_a_problem_depends_on_accept_and_says_so() -> None:
    async with running() as web:
        for accept in ("text/html", "application/json"):
            answer = await web.http.get("/problems/cycle", headers={"accept": accept})
            assert answer.headers["vary"] == "accept"


async def test_a_problem_that_there_is_not_is_not_found() -> None:
    async with running() as web:
        problem(await web.http.get("/problems/nope"), 404, "not_found")
        answer = await web.http.get("/problems/cycle", headers={"accept": "image/png"})
        problem(answer, 406, "not_acceptable")
