"""The documents say what the code does: their commands are run, their tables compared."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import BaseModel
from typer.main import get_command

from service.cli.commands import app
from service.cli.demo import running
from service.contract.request import DType, Include, Leaf, Op, Root, TraceRequest
from service.contract.response import (
    Edge,
    GradStatus,
    Health,
    NodeTrace,
    OpDescription,
    TraceResponse,
)
from service.web.protocol import connection_limit
from service.web.server import openapi_document
from tests.conftest import long, require_program
from tests.processes import PATIENCE_S

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
ADDRESS = "http://127.0.0.1:8000"
BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INSTALLED = ("--old-file=.venv/.installed", "--old-file=.venv/.tools-installed")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running() as address:
        yield address


@pytest.fixture
def http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=PATIENCE_S) as client:
        yield client


def text(name: str) -> str:
    return (ROOT / name).read_text()


def blocks(name: str, kind: str) -> list[str]:
    return [body for title, body in BLOCK.findall(text(name)) if title == kind]


def section(page: str, heading: str) -> str:
    """Return the part of ``page`` under ``heading``, up to the next one."""
    _, _, rest = text(page).partition(f"\n{heading}\n")
    assert rest, f"{page} has no heading {heading}"
    return re.split(r"^#+ ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def first_column(part: str) -> list[str]:
    """Return the code words in the first column of the tables in ``part``."""
    rows = re.findall(r"^\| (`.*?) \|", part, re.MULTILINE)
    return [word for row in rows for word in re.findall(r"`([^`]+)`", row)]


def names(model: type[BaseModel]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}


def test_make_trace_prints_what_the_readme_shows() -> None:
    make = require_program("make")
    done = subprocess.run(
        [make, *INSTALLED, "trace", f"BIN={shlex.quote(str(Path(sys.executable).parent))}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "MAKEFLAGS": ""},
    )
    assert done.returncode == 0, done.stderr
    printed = [line.split() for line in done.stdout.splitlines()]
    for line in blocks("README.md", "text")[0].splitlines():
        words = line.split()
        assert words in [other[: len(words)] for other in printed]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_make_target_that_is_named_is_there(page: Path) -> None:
    targets = set(
        re.findall(r"\bmake ([a-z]+)\b(?!s)", "".join(re.findall(r"`[^`]+`", page.read_text())))
    )
    for target in targets:
        done = subprocess.run(
            [require_program("make"), "--dry-run", *INSTALLED, target],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr


def test_curl_gets_the_answer_that_the_readme_shows(url: str) -> None:
    commands = [block for block in blocks("README.md", "sh") if block.startswith("curl")]
    answers = blocks("README.md", "json")
    assert len(commands) == len(answers) > 0
    for command, answer in zip(commands, answers, strict=True):
        words = shlex.split(command.replace(ADDRESS, url))
        words[0] = require_program("curl")
        got = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)
        shown = json.loads(answer)
        assert re.match(r"\d+\.\d+\.\d+", shown.pop("torch_version"))
        got.pop("torch_version")
        assert got == shown


@pytest.mark.parametrize("page", ["README.md", "docs/engines.md"])
def test_python_examples_run(url: str, page: str) -> None:
    for example in blocks(page, "python"):
        script = example.replace(ADDRESS, url)
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", script], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("kind", "program", "file"),
    [
        ("python", [sys.executable], "engine.py"),
        ("javascript", ["node"], "engine.mjs"),
        ("go", ["go", "run"], "engine.go"),
    ],
)
def test_an_engine_of_ones_own_agrees_with_pytorch(
    url: str, tmp_path: Path, kind: str, program: list[str], file: str
) -> None:
    require_program(program[0])
    (tmp_path / file).write_text(blocks("docs/engines.md", kind)[-1].replace(ADDRESS, url))
    command = [*program, str(tmp_path / file)]
    caches = {"GOCACHE": str(tmp_path / "cache"), "GOFLAGS": "-mod=mod", "GO111MODULE": "off"}
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **caches}, capture_output=True, text=True
    )
    assert done.stdout == "both gradients agree\n", done.stderr


def test_the_tour_of_the_code_names_every_room() -> None:
    named = set(re.findall(r"[a-z_.]+", section("CONTRIBUTING.md", "## Where things are")))
    rooms = {path.name for path in (ROOT / "service").iterdir() if path.suffix in ("", ".py")}
    assert {room for room in rooms if not room.startswith("__")} <= named


def test_the_readme_lists_every_command() -> None:
    listed = re.findall(r"`gradtrace ([a-z-]+)", section("README.md", "## On the command line"))
    shown = {
        command.name or command.callback.__name__
        for command in app.registered_commands
        if not command.hidden and command.callback
    }
    assert set(listed) == shown


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_the_documents_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_status_has_a_row() -> None:
    assert first_column(text("docs/statuses.md")) == [str(status) for status in GradStatus]


@pytest.mark.parametrize(
    ("heading", "model"),
    [
        ("## The request", TraceRequest),
        ("### Leaves", Leaf),
        ("### Ops", Op),
        ("### Roots", Root),
        ("### Edges", Edge),
        ("### Health", Health),
    ],
)
def test_every_field_has_a_row_in_the_contract(heading: str, model: type[BaseModel]) -> None:
    assert set(first_column(section("docs/contract.md", heading))) == names(model)


def test_every_field_of_the_answer_has_a_row_in_the_contract() -> None:
    part = section("docs/contract.md", "## The answer")
    assert set(first_column(part)) == names(TraceResponse) | names(NodeTrace)
    whole = text("docs/contract.md")
    assert all(f"`{name}`" in whole for name in names(OpDescription))


@pytest.mark.parametrize("words", [DType, Include])
def test_every_word_of_an_enumeration_is_in_the_contract(words: type[StrEnum]) -> None:
    assert all(f"`{word}`" in text("docs/contract.md") for word in words)


def test_every_route_is_in_the_contract() -> None:
    whole = text("docs/contract.md")
    documented = set(
        re.findall(r"(/[a-z0-9/{}._-]*)(?=[`,?]| with)", whole.replace("<code>", "{code}"))
    )
    for path in openapi_document()["paths"]:
        assert path in documented, f"{path} is not in docs/contract.md"


def test_every_route_of_the_contract_is_there(http: httpx.Client) -> None:
    rows = "".join(
        re.findall(r"^\| (`(?:GET|POST) .*?) \|", text("docs/contract.md"), re.MULTILINE)
    )
    named = {path.partition("?")[0] for path in re.findall(r"(?<=[` ])(/[^`,\s]*)", rows)}
    assert {"/v1/trace", "/v1/traces", "/", "/readyz"} <= named
    for path in named:
        found = http.get(path.replace("{name}", "pow"))
        assert found.status_code in (200, 405), path


def test_the_contract_is_right_about_the_ops_that_are_listed(http: httpx.Client) -> None:
    listed = {op["name"] for op in http.get("/v1/ops").json()["ops"]}
    exact = {op["name"] for op in http.get("/v1/ops?q=aten").json()["ops"]}
    assert not any(name.startswith("aten.") for name in listed)
    assert "aten.add.Tensor" in exact


def test_the_contract_is_right_about_gradients_of_what_was_not_used(http: httpx.Client) -> None:
    attrs: dict[str, bool] = {}
    leaves = [{"id": name, "value": 2, "requires_grad": True} for name in ("x", "unused")]
    ops = [
        {"id": "y", "op": "exp", "inputs": ["x"]},
        {"id": "g", "op": "autograd.grad", "inputs": ["y", "unused"], "attrs": attrs},
    ]
    graph = {"leaves": leaves, "ops": ops, "backward": []}
    assert http.post("/v1/trace", json=graph).json()["code"] == "op_failed"
    attrs["materialize_grads"] = True
    assert traced(http, graph)["g:0"]["value"] == 0


def test_the_contract_is_right_about_blank_lines(http: httpx.Client) -> None:
    graph = '{"leaves": [{"id": "a", "value": 1}], "backward": []}'
    kind = {"content-type": "application/x-ndjson"}
    answer = http.post("/v1/traces", content=f"\n{graph}\n\n \nx\n{graph}", headers=kind)
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["index"] for line in lines] == [0, 1, 2]
    assert ["trace" in line for line in lines] == [True, False, True]


def test_the_pages_say_how_many_connections_there_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    for files, connections in ((300, 64), (1024, 1024 - 256), (2**20, 10_000)):
        monkeypatch.setattr("resource.getrlimit", lambda _, files=files: (files, files))
        assert connection_limit() == connections
    for page in ("docs/settings.md", "docs/operations.md"):
        assert re.search(r"less 256, (but )?64 at least and 10,000 at most", text(page))


def test_every_page_is_in_the_sites_contents() -> None:
    listed = re.findall(r"^ +- ([a-z]+\.md)$", text("mkdocs.yml"), re.MULTILINE)
    assert sorted(listed) == [page.name for page in PAGES if page.parent.name == "docs"]


def graphs() -> list[dict[str, Any]]:
    return [json.loads(block) for block in blocks("docs/tutorial.md", "json trace")]


def traced(http: httpx.Client, graph: dict[str, Any]) -> dict[str, Any]:
    answer = http.post("/v1/trace", json=graph)
    assert answer.status_code == 200, answer.text
    return {node["id"]: node for node in answer.json()["nodes"]}


def test_the_tutorial_says_what_the_service_answers(http: httpx.Client) -> None:
    leaf, plain, retained, nothing, nan, higher = (traced(http, graph) for graph in graphs())
    assert leaf["a"]["grad_status"] == "accumulated"
    assert plain["a"]["grad"] == [[6, 6], [6, 6]]
    assert {plain[name]["grad_status"] for name in ("b", "c", "out")} == {"not_retained"}
    assert retained["out"]["grad"] == 1
    assert retained["c"]["grad"] == [[1, 1], [1, 1]]
    assert retained["b"]["grad"] == retained["a"]["grad"] == [[6, 6], [6, 6]]
    assert nothing["mask"]["grad_status"] == "non_differentiable"
    assert nothing["k"]["grad_status"] == "constant"
    assert nothing["spare"]["grad_status"] == "not_on_path"
    assert nan["x"]["grad"][0] == "NaN"
    assert nan["out"]["value"] == 2
    assert higher["d1:0"]["value"] == higher["d2:0"]["value"] == 12
    assert higher["x"]["grad"] == 6


def test_the_page_for_engines_says_what_the_service_answers(http: httpx.Client) -> None:
    roots, higher = (traced(http, json.loads(block)) for block in blocks("docs/engines.md", "json"))
    assert roots["x"]["grad"] == [6, 4]
    assert higher["d2:0"]["value"] == 12
    assert higher["x"]["grad"] == 6
    half = {"leaves": [{"id": "x", "value": 65504, "dtype": "float16"}], "backward": []}
    assert "65500.0" in http.post("/v1/trace", json=half).text


def test_many_graphs_are_posted_as_the_page_for_engines_says(url: str) -> None:
    require_program("curl")
    command = next(block for block in blocks("docs/engines.md", "sh") if "curl" in block)
    done = subprocess.run(["sh", "-c", command.replace(ADDRESS, url)], capture_output=True)
    trace, problem = (json.loads(line) for line in done.stdout.splitlines())
    assert trace["trace"]["nodes"][0]["grad"] == 1
    assert problem["problem"]["code"] == "bad_value"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_is_shown_is_there_with_its_options(page: Path) -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    shell = "\n".join(blocks(str(page.relative_to(ROOT)), "sh"))
    for line in re.findall(r"^gradtrace (.*)$", shell, re.MULTILINE):
        name, *words = shlex.split(line.partition(">")[0])
        known = {option for parameter in commands[name].params for option in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= known, line


@long
def test_the_site_is_built_with_a_picture_of_every_graph(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pictures = sorted((tmp_path / "pictures").glob("tutorial-*.svg"))
    assert len(pictures) == len(graphs())
    page = (tmp_path / "tutorial" / "index.html").read_text()
    for picture in pictures:
        assert picture.read_text().startswith("<svg")
        assert f"pictures/{picture.name}" in page
