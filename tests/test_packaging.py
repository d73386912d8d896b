"""What is released: wheel and sdist, built and installed as a stranger would."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from service import __version__
from tests.conftest import long
from tests.golden import FOLDER

ROOT = Path(__file__).parents[1]
SITE = next(path for path in map(Path, sys.path) if path.name == "site-packages")


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    done = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheel and sdist; the build backend is the one that is installed here, so no network."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    return folder


@pytest.fixture(scope="module")
def installed(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel; its dependencies are those that are installed here."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    (wheel,) = dist.glob("*.whl")
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel)
    (packages,) = folder.glob("lib/python*/site-packages")
    linked = [path for path in SITE.iterdir() if "gradtrace" not in path.name.lower()]
    for path in linked:
        if not (packages / path.name).exists() and path.suffix != ".pth":
            (packages / path.name).symlink_to(path)
    return folder


def test_the_wheel_holds_the_package_and_its_data(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    assert f"-{__version__}-" in wheel.name
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.partition("/")[0] for name in names} == {
        "service",
        f"gradtrace-{__version__}.dist-info",
    }
    assert "service/py.typed" in names
    for case in FOLDER.glob("*.json"):
        assert f"service/cli/golden/{case.name}" in names
    files = {path for path in (ROOT / "service").rglob("*") if path.is_file()}
    sources = {str(path.relative_to(ROOT)) for path in files if path.parent.name != "__pycache__"}
    assert sources <= names


def test_the_sdist_holds_what_the_wheel_is_built_of(dist: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "service/cli/commands.py"} <= names
    assert "tests/conformance/golden/statuses.json" in names


def test_the_descriptions_are_fit_for_an_index(dist: Path) -> None:
    run(sys.executable, "-m", "twine", "check", "--strict", *dist.iterdir())


@long
def test_the_installed_command_works_from_anywhere(installed: Path, tmp_path: Path) -> None:
    command = installed / "bin" / "gradtrace"
    assert run(command, "--version", cwd=tmp_path) == f"gradtrace {__version__}\n"
    assert "not_retained" in run(command, "demo", cwd=tmp_path)
    code = "import service, sys; sys.stdout.write(service.__file__)"
    where = run(installed / "bin" / "python", "-c", code, cwd=tmp_path)
    assert where.startswith(str(installed)), "the wheel is used, not the source tree"


@long
def test_the_installed_golden_cases_are_found(installed: Path, tmp_path: Path) -> None:
    code = "from service.cli.conformity import golden_cases; print(*sorted(golden_cases()))"
    found = run(installed / "bin" / "python", "-c", code, cwd=tmp_path).split()
    assert found == sorted(path.stem for path in FOLDER.glob("*.json"))


def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


def pins(file: str) -> dict[str, str]:
    lines = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", (ROOT / file).read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in lines}


def test_every_dependency_is_pinned_exactly() -> None:
    constraints = pins("constraints.txt")
    assert constraints["torch"] == "2.13.0"
    extras = project()["optional-dependencies"].values()
    for requirement in map(Requirement, [*project()["dependencies"], *chain(*extras)]):
        if requirement.name != project()["name"]:
            version = constraints[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version), requirement
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert all(re.fullmatch(r"(#.*|[A-Za-z0-9._-]+==[^\s+]+)", line) for line in lines)


def test_the_image_takes_the_same_versions_each_with_its_hash() -> None:
    constraints, locked = pins("constraints.txt"), pins("deploy/requirements.lock")
    assert locked.items() <= constraints.items()
    wanted = {canonicalize_name(Requirement(name).name) for name in project()["dependencies"]}
    assert wanted - {"torch"} <= set(locked)
    text = (ROOT / "deploy" / "requirements.lock").read_text()
    assert all(
        "--hash=sha256:" in entry for entry in re.split(r"^(?=\w)", text, flags=re.MULTILINE)[1:]
    )
