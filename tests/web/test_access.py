from __future__ import annotations

import json

import pytest

from tests.web.harness import JSON, problem, routes, running

pytestmark = pytest.mark.anyio
KEYS = "first-key, second-key"


@pytest.mark.parametrize("root_path", ["", "/prefix"])
async def test_everything_under_v1_asks_for_a_key_and_nothing_else_does(root_path: str) -> None:
    async with running(api_keys=KEYS, root_path=root_path) as web:
        for path, takes in routes(web):
            for prefix in {"", root_path}:
                answer = await web.http.request(min(takes), prefix + path)
                assert (answer.status_code == 401) == path.startswith("/v1/")
        for path in ("/v1", "/v1/", "/v1/nope", "/v1/../v1/trace", "/%761/trace", "/v1%2Ftrace"):
            answer = await web.http.post(path)
            assert answer.status_code == 401, path
            assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("sent", ["Bearer first-key", "Bearer second-key", "bearer  first-key "])
async def test_every_key_opens(sent: str) -> None:
    async with running(api_keys=KEYS) as web:
        assert (await web.trace({}, authorization=sent)).status_code == 200


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        ("", "Send a key"),
        ("Bearer", "not one of those"),
        ("Bearer ", "not one of those"),
        ("Bearer first", "not one of those"),
        ("Bearer first-key,", "not one of those"),
        ("Basic first-key", "not of the form"),
        ("first-key", "not of the form"),
    ],
)
async def test_nothing_else_opens_and_the_problem_says_why(sent: str, why: str) -> None:
    async with running(api_keys=KEYS) as web:
        found = problem(await web.trace({}, authorization=sent), 401, "unauthorized")
    assert why in found.detail


async def test_a_key_in_latin_1_is_refused_and_breaks_nothing() -> None:
    async with running(api_keys=KEYS) as web:
        headers = {b"authorization": b"Bearer f\xefrst-key", b"content-type": b"application/json"}
        answer = await web.http.post("/v1/trace", content=b"{}", headers=headers)
        problem(answer, 401, "unauthorized")


@pytest.mark.parametrize("root_path", ["", "/prefix"])
@pytest.mark.parametrize(
    ("method", "path", "route"),
    [
        ("POST", "/v1/trace", "/v1/trace"),
        ("GET", "/v1/trace", "/v1/trace"),
        ("HEAD", "/v1/ops", "/v1/ops"),
        ("GET", "/v1/ops/add", "/v1/ops/{name}"),
        ("POST", "/v1/nope", "unknown"),
    ],
)
async def test_a_refusal_is_noted_under_the_route_that_was_asked_for(
    method: str, path: str, route: str, root_path: str
) -> None:
    async with running(api_keys=KEYS, root_path=root_path) as web:
        answer = await web.http.request(method, root_path + path)
        assert answer.status_code == 401
        assert json.loads(web.log.getvalue())["route"] == route
        counted = f'{{method="{method}",route="{route}",status="401"}} 1.0'
        assert counted in (await web.http.get("/metrics")).text


async def test_no_key_is_ever_logged() -> None:
    async with running(api_keys=KEYS) as web:
        await web.trace({}, authorization="Bearer first-key")
        await web.trace({}, authorization="Bearer wrong-key")
        assert "-key" not in web.log.getvalue()


async def test_without_keys_all_may_enter() -> None:
    async with running() as web:
        assert (await web.trace({})).status_code == 200


PREFLIGHT = {
    "origin": "https://one.example",
    "access-control-request-method": "POST",
    "access-control-request-headers": "content-type,authorization",
}


async def test_cross_origin_calls_are_off_unless_set() -> None:
    async with running() as web:
        answer = await web.http.options("/v1/trace", headers=PREFLIGHT)
        problem(answer, 405, "method_not_allowed")
        answer = await web.trace({}, origin="https://one.example")
        assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_the_origins_that_are_set_may_call_and_ask_first_without_a_key() -> None:
    origins = "https://one.example,https://two.example"
    async with running(cors_origins=origins, api_keys=KEYS) as web:
        asked = await web.http.options("/v1/trace", headers=PREFLIGHT)
        assert asked.status_code == 200
        assert asked.headers["access-control-allow-origin"] == "https://one.example"
        answer = await web.trace({}, origin="https://two.example")
        assert answer.status_code == 401
        assert answer.headers["access-control-allow-origin"] == "https://two.example"
        foreign = await web.trace({}, origin="https://three.example")
        assert "access-control-allow-origin" not in foreign.headers


@pytest.mark.parametrize(
    ("header", "value", "refused"),
    [
        ("origin", "https://three.example", "origin"),
        ("access-control-request-method", "PUT", "method"),
        ("access-control-request-headers", "x-foo", "headers"),
    ],
)
async def test_what_is_refused_to_an_origin_that_asks_first_is_a_problem(
    header: str, value: str, refused: str
) -> None:
    async with running(cors_origins="https://one.example") as web:
        answer = await web.http.options("/v1/trace", headers={**PREFLIGHT, header: value})
        said = problem(answer, 400, "invalid_request")
        assert said.detail == f"Disallowed CORS {refused}."
        assert answer.headers["access-control-allow-methods"] == "GET, POST"
        assert "Origin" in answer.headers["vary"]
        allowed = answer.headers.get("access-control-allow-origin")
        assert allowed == (None if header == "origin" else "https://one.example")
        assert json.loads(web.log.getvalue())["code"] == "invalid_request"


async def test_every_answer_tells_browsers_what_it_is_not() -> None:
    async with running() as web:
        for answer in (
            await web.trace({}),
            await web.http.get("/livez"),
            await web.http.get("/docs"),
            await web.http.get("/nope"),
            await web.http.post("/v1/trace", content=b"{", headers=JSON),
        ):
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["x-frame-options"] == "DENY"
            policies = answer.headers.get_list("content-security-policy")
            assert len(policies) == 1
            assert policies[0].startswith("default-src 'none'")
            assert "unsafe" not in policies[0]
