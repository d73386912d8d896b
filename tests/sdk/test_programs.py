"""The programs of openapi/README.md, compiled strictly and run against a real service.

Each prints the same: the seed graph, a null gradient that is null, a NaN gradient, a float64 tensor
by base64 read back exactly, and a problem with its type.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

from tests.conftest import missing, require_program
from tests.sdk.generate import (
    LANGUAGES,
    OFFLINE,
    OPENAPI,
    compile_java,
    has_tools,
    jar,
    make,
    run,
    type_check,
    type_check_python,
)

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
BLOCKS: dict[str, str] = dict(BLOCK.findall((OPENAPI / "README.md").read_text()))


def sdk(language: str) -> Path:
    """Return the folder of the client of ``language``, generated and checked."""
    for program in LANGUAGES[language].programs:
        require_program(program)
    if not has_tools(language):
        missing(f"the generator for {language} (make sdk)")
    return make(language)


def program(folder: Path, name: str, language: str) -> Path:
    """Write the README's program as ``name`` into ``folder`` and return its path."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(BLOCKS[language])
    return path


def plain(printed: str) -> list[str]:
    """Return the lines of ``printed`` as JSON writes numbers: 6 for 6.0, and no spaces in lists."""
    return re.sub(r"\.0\b", "", printed).replace(", ", ",").splitlines()


def says_what_the_readme_says(printed: str) -> bool:
    assert plain(printed) == BLOCKS["text"].splitlines()
    return True


def test_python(url: str) -> None:
    folder = sdk("python")
    path = program(folder, "program.py", "python")

    type_check_python(path.name, folder)
    printed = run([sys.executable, path], cwd=folder, GRADTRACE_URL=url)

    assert says_what_the_readme_says(printed)


def test_typescript(url: str) -> None:
    folder = sdk("typescript")
    path = program(folder, "program.ts", "typescript")

    type_check(folder, path, "--outDir", folder)
    printed = run(["node", folder / "program.js"], GRADTRACE_URL=url)

    assert says_what_the_readme_says(printed)


def test_go(url: str) -> None:
    folder = sdk("go")
    path = program(folder / "program", "main.go", "go")

    run(["go", "vet", "./program"], cwd=folder, **OFFLINE)
    run(["go", "build", "-o", "program/program", "./program"], cwd=folder, **OFFLINE)
    printed = run([path.parent / "program"], GRADTRACE_URL=url)

    assert says_what_the_readme_says(printed)
    assert not run(["gofmt", "-l", path])


def test_java(url: str) -> None:
    folder = sdk("java")
    path = program(folder / "program", "Program.java", "java")
    libraries = [jar(), folder / "classes"]

    compile_java([path], path.parent, *libraries)
    where = os.pathsep.join(map(str, [path.parent, *libraries]))
    printed = run(["java", "-cp", where, "Program"], GRADTRACE_URL=url)

    assert says_what_the_readme_says(printed)


def test_curl(url: str) -> None:
    require_program("curl")

    answer = json.loads(run(["sh", "-c", BLOCKS["sh"]], GRADTRACE_URL=url))

    nodes = {node["id"]: node for node in answer["nodes"]}
    assert nodes["out"]["value"] == 36
    assert nodes["a"]["grad"] == [[6, 6], [6, 6]]
    assert nodes["b"]["grad"] is None
