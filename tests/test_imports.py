"""Imports run one way through the house, and the web process stays without torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SERVICE = ROOT / "service"

MAY_IMPORT = {
    "contract": set(),
    "settings": set(),
    "playground": set(),
    "engine": {"contract"},
    "picture": {"contract"},
    "client": {"contract"},
    "workers": {"contract"},
    "translate": {"contract", "engine"},
    "web": {"contract", "settings", "workers"},
    "jobs": {"contract", "engine", "picture", "translate"},
    "ray": {"contract", "settings", "workers", "web"},
    "cli": {"client", "contract", "settings", "translate", "web", "workers"},
    "__main__": {"cli"},
}
"""Room of the house -> the rooms whose modules it may import; the version is everybody's."""

MAY_IMPORT_TORCH = {"engine", "translate", "jobs", "client"}
MAY_KNOW_OF_HTTP = {"web", "client", "cli", "ray"}
"""Rooms that may import a web framework, server or client."""
HTTP = {"fastapi", "starlette", "uvicorn", "httpx", "httptools"}


def modules() -> dict[str, Path]:
    """Return every module of the service by its dotted name."""
    found = {}
    for path in SERVICE.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield what is imported anywhere in ``tree``, as a module's name where it is one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else node.module


def imports_of(path: Path) -> set[str]:
    return set(imported(ast.parse(path.read_text())))


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_every_room_is_on_the_plan() -> None:
    assert {room(name) for name in MODULES} - {""} == set(MAY_IMPORT)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_no_arrow_runs_back(name: str) -> None:
    own = room(name)
    rooms = {room(other) for other in imports_of(MODULES[name]) if other.startswith("service.")}
    assert rooms - {own} <= MAY_IMPORT.get(own, set())


@pytest.mark.parametrize("name", sorted(MODULES))
def test_torch_and_http_stay_in_their_rooms(name: str) -> None:
    packages = {other.partition(".")[0] for other in imports_of(MODULES[name])}
    assert "torch" not in packages or room(name) in MAY_IMPORT_TORCH
    assert not packages & HTTP or room(name) in MAY_KNOW_OF_HTTP


def test_the_contract_needs_pydantic_alone() -> None:
    for name, path in MODULES.items():
        if room(name) == "contract":
            packages = {other.partition(".")[0] for other in imports_of(path)}
            assert packages - sys.stdlib_module_names <= {"pydantic", "service"}, name


class WithoutTypes(ast.NodeTransformer):
    """Leaves out what is imported for annotations alone, and never when the program runs."""

    def visit_If(self, node: ast.If) -> ast.AST | None:
        known = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return None if known else node


def run_time_imports(path: Path) -> set[str]:
    return set(imported(WithoutTypes().visit(ast.parse(path.read_text()))))


def test_no_imports_form_a_cycle() -> None:
    order = TopologicalSorter(
        {
            name: {other for other in run_time_imports(path) if other in MODULES} - {name}
            for name, path in MODULES.items()
        }
    )
    assert len(list(order.static_order())) == len(MODULES)


def test_the_web_process_never_imports_torch() -> None:
    script = (
        "import sys\n"
        "from service.settings import Settings\n"
        "from service.web.server import Server, pool_options, openapi_document\n"
        "from service.workers.pool import Pool\n"
        "settings = Settings(port=0)\n"
        "Server(settings, Pool(pool_options(settings)))\n"
        "openapi_document()\n"
        "heavy = {'torch', 'numpy', 'safetensors', 'service.engine', 'service.jobs'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout == "[]\n"
