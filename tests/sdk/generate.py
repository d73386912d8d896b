"""Makes the clients of ``sdk/`` from ``openapi/openapi.json``, and checks each strictly.

    tools     the generators, installed into sdk/tools and sdk/typescript (this needs the network)
    generate  one folder a language; what is up to date is left alone
    check     mypy --strict, tsc --strict, go vet and build, javac -Xlint

``make sdk`` runs all three; the tests run the last two.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
OPENAPI = ROOT / "openapi"
DOCUMENT = OPENAPI / "openapi.json"
SDK = ROOT / "sdk"
TOOLS = SDK / "tools"
SETTINGS = {".json", ".yaml", ".txt", ".mustache"}
PACKAGE = {
    "python": SDK / "python",
    "typescript": SDK / "typescript",
    "go": SDK / "go",
    "java": SDK / "java",
}


class Failed(Exception):
    """A generator or a compiler said no; the text is what it said."""


class Language(NamedTuple):
    """How one client is made."""

    programs: tuple[str, ...]
    """System programs that it needs."""
    generate: Callable[[Path], None]
    check: Callable[[Path], None]


def run(command: Sequence[str | Path], cwd: Path = ROOT, **environment: str) -> str:
    """Run ``command`` and return what it printed; raise Failed with all it said otherwise."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise Failed(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def jar() -> Path:
    """Return openapi-generator itself: one jar, with Jackson in it."""
    return next(TOOLS.glob("lib/*/site-packages/openapi_generator_cli/openapi-generator.jar"))


def install_tools() -> None:
    """Install the generators at their pinned versions, where they are not there yet."""
    wanted = _digest(OPENAPI / "generators.txt")
    if not _is_stamped(TOOLS, wanted):
        run([sys.executable, "-m", "venv", TOOLS])
        run([TOOLS / "bin/pip", "install", "--quiet", "-r", OPENAPI / "generators.txt"])
        _stamp(TOOLS, wanted)
    package = PACKAGE["typescript"]
    modules = package / "node_modules"
    wanted = _digest(OPENAPI / "package.json")
    if shutil.which("npm") and not _is_stamped(modules, wanted):
        package.mkdir(parents=True, exist_ok=True)
        shutil.copy(OPENAPI / "package.json", package)
        run(["npm", "install", "--no-audit", "--no-fund", "--no-package-lock"], cwd=package)
        _stamp(modules, wanted)


def has_tools(language: str) -> bool:
    """Tell whether the generator of ``language`` is installed."""
    modules = PACKAGE["typescript"] / "node_modules"
    return _stamp_of(modules if language == "typescript" else TOOLS).exists()


def make(language: str) -> Path:
    """Generate and check the client of ``language`` if it is not up to date; return its folder.

    Raises:
        Failed: the generator refuses the document, or the compiler what was generated.
    """
    folder = PACKAGE[language]
    settings = [path for path in sorted(OPENAPI.rglob("*")) if path.suffix in SETTINGS]
    wanted = _digest(*settings, Path(__file__))
    if not _is_stamped(folder, wanted):
        LANGUAGES[language].generate(folder)
        LANGUAGES[language].check(folder)
        _stamp(folder, wanted)
    return folder


def _python(folder: Path) -> None:
    config = OPENAPI / "openapi-python-client.yaml"
    program = TOOLS / "bin/openapi-python-client"
    where: list[str | Path] = [
        "--path",
        DOCUMENT,
        "--config",
        config,
        "--output-path",
        folder,
        "--overwrite",
    ]
    run([program, "generate", *where])


def _check_python(folder: Path) -> None:
    type_check_python("gradtrace_client", folder)


def type_check_python(what: str | Path, folder: Path) -> None:
    """Hold ``what`` in ``folder`` against mypy at its strictest."""
    alone: list[str | Path] = ["--config-file", os.devnull, "--cache-dir", folder / ".mypy_cache"]
    run([sys.executable, "-m", "mypy", "--strict", *alone, what], cwd=folder)


def _typescript(folder: Path) -> None:
    program = folder / "node_modules/.bin/openapi-typescript"
    run([program, DOCUMENT, "--default-non-nullable=false", "--output", folder / "schema.d.ts"])


def _check_typescript(folder: Path) -> None:
    type_check(folder, folder / "schema.d.ts")


def type_check(folder: Path, source: Path, *options: str | Path) -> None:
    """Compile ``source`` with everything strict; with no more ``options`` nothing is written."""
    strict = ["--strict", "--exactOptionalPropertyTypes", "--noUncheckedIndexedAccess"]
    module = ["--module", "nodenext", "--target", "es2022", "--types", "node"]
    compiler = folder / "node_modules/.bin/tsc"
    run([compiler, *strict, *module, *(options or ["--noEmit"]), source], cwd=folder)


def _from_jar(language: str, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    config = OPENAPI / f"openapi-generator-{language}.yaml"
    run(["java", "-jar", jar(), "generate", "-i", DOCUMENT, "-c", config, "-o", folder])


def _go(folder: Path) -> None:
    _from_jar("go", folder)
    run(["gofmt", "-w", "."], cwd=folder)


def _check_go(folder: Path) -> None:
    run(["go", "vet", "./..."], cwd=folder, **OFFLINE)
    run(["go", "build", "./..."], cwd=folder, **OFFLINE)


def _java(folder: Path) -> None:
    _from_jar("java", folder)


def _check_java(folder: Path) -> None:
    sources = sorted((folder / "src/main/java").rglob("*.java"))
    compile_java(sources, folder / "classes", jar())


def compile_java(sources: Sequence[Path], classes: Path, *libraries: Path) -> None:
    """Compile ``sources`` into ``classes``; a warning is an error."""
    path = os.pathsep.join(map(str, libraries))
    # What is deprecated depends on the Jackson that is there, which is newer than the generator's.
    strict = ["-Xlint:all,-deprecation", "-proc:none", "-Werror"]
    run(["javac", *strict, "-d", classes, "-cp", path, *sources])


OFFLINE = {"GOPROXY": "off", "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local"}
LANGUAGES = {
    "python": Language((), _python, _check_python),
    "typescript": Language(("node",), _typescript, _check_typescript),
    "go": Language(("java", "go"), _go, _check_go),
    "java": Language(("java", "javac"), _java, _check_java),
}


def _digest(*paths: Path) -> str:
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in paths)).hexdigest()


def _stamp_of(folder: Path) -> Path:
    return folder / ".made-of"


def _is_stamped(folder: Path, digest: str) -> bool:
    stamp = _stamp_of(folder)
    return stamp.exists() and stamp.read_text() == digest


def _stamp(folder: Path, digest: str) -> None:
    _stamp_of(folder).write_text(digest)
