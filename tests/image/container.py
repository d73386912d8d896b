"""Build the image and run it as a container engine does, with Debian's own tools and no daemon.

The base is a Debian with Python, made from this machine's package sources in place of the official
one; packages come from wherever this machine's pip takes them. buildah builds the Dockerfile as it
is, runc runs the result: read-only root, no capability, no new privileges, limited memory.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from service import __version__
from service.cli.probe import ready
from tests.conftest import missing, require_program
from tests.processes import own_port, wait_until

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "image"
MEMORY_MB = 3072
CLEAN = ("doc", "man", "locale", "info")
CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")


def output(*command: str | Path) -> str:
    """Return what ``command`` prints; raise with what it said where it fails."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(f"{command[0]} failed:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return done.stdout


def buildah(*arguments: str | Path) -> str:
    """Run buildah on a storage of our own and return what it prints."""
    program = require_program("buildah")
    storage = ("--root", FOLDER / "storage", "--runroot", FOLDER / "run")
    return output(program, *storage, *arguments)


def require_tools() -> None:
    """Skip where the image cannot be built or run here."""
    for program in ("buildah", "mmdebstrap", "runc"):
        require_program(program)
    if os.geteuid() != 0:
        missing("root, which building and running an image takes here,")


def build() -> None:
    """Build the image ``gradtrace`` from the Dockerfile."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    if not (FOLDER / "base.tar").exists():
        _make_base()
    mounts = [f"--volume={path}:{path}:ro" for path in _pip_paths()]
    settings = FOLDER / "pip.conf"
    settings.write_text(_pip_settings())
    buildah(
        "build", "--isolation=chroot", "--format=docker", "--network=host", "--build-arg=BASE=base",
        f"--build-arg=VERSION={__version__}",
        f"--volume={settings}:/etc/pip.conf:ro", *mounts, "--tag=gradtrace", ROOT,
    )  # fmt: skip
    buildah("rmi", "--prune")  # what an earlier run built


def _make_base() -> None:
    sources = [path for path in Path("/etc/apt").glob("sources.list*") if path.is_file()]
    sources += Path("/etc/apt/sources.list.d").glob("*.sources")
    sources += Path("/etc/apt/sources.list.d").glob("*.list")
    suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
    unread = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in CLEAN]
    packages = "--include=python3,python3-venv,ca-certificates,usr-is-merged"
    small = ["--variant=minbase", packages, '--aptopt=APT::Install-Recommends "false"', *unread]
    merged = "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"
    tar = FOLDER / "base.tar"
    output("mmdebstrap", *small, merged, suite, tar, *sources)
    container = buildah("from", "scratch").strip()
    buildah("add", "--quiet", container, tar, "/")
    buildah("commit", "--quiet", "--format=docker", "--rm", container, "base")


def _pip_options() -> dict[str, str]:
    """Return the options of this machine's pip, whether they come from files or variables."""
    options = {}
    for line in output(sys.executable, "-m", "pip", "config", "list").splitlines():
        name, _, value = line.partition("=")
        options[name.rpartition(".")[2]] = value.strip("'").replace("\\n", " ")
    return options


def _pip_settings() -> str:
    lines = [f"{name} = {value}" for name, value in _pip_options().items() if name != "cert"]
    return "\n".join(["[global]", *lines, ""])


def _pip_paths() -> list[Path]:
    """Return the local folders and files that pip's options name, and the certificates to trust."""
    words = [word for value in _pip_options().values() for word in value.split()]
    paths = {Path(urlparse(word).path).resolve() for word in words if "/" in word}
    local = {path.parent if path.name == "simple" else path for path in paths if path.exists()}
    return sorted(local | ({CA_BUNDLE} if CA_BUNDLE.exists() else set()))


@contextmanager
def unpacked() -> Iterator[Path]:
    """Yield the image's files."""
    container = buildah("from", "gradtrace").strip()
    try:
        yield Path(buildah("mount", container).strip())
    finally:
        buildah("rm", container)


def configuration() -> dict[str, Any]:
    """Return what the image says of itself: user, command, environment, health check."""
    found: dict[str, Any] = json.loads(buildah("inspect", "--type=image", "gradtrace"))
    config: dict[str, Any] = found["Docker"]["config"]
    return config


@dataclass(frozen=True)
class Container:
    """A running container."""

    name: str
    url: str
    process: subprocess.Popen[bytes]

    def runc(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run ``runc COMMAND NAME ...``."""
        command, *rest = arguments
        whole = [*RUNC, command, self.name, *rest]
        return subprocess.run(whole, capture_output=True, text=True)

    def pids(self) -> list[int]:
        """Return the container's processes, by their ids outside of it."""
        state = json.loads(self.runc("state").stdout)
        first = int(state["pid"])
        return [first, *_descendants(first)]


def _descendants(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            yield child
            yield from _descendants(child)


RUNC = ("runc", f"--root={FOLDER / 'runc'}")


@contextmanager
def running(root: Path, **settings: str) -> Iterator[Container]:
    """Yield a container of the image unpacked at ``root``, gone afterwards."""
    with own_port() as port:
        name = f"gradtrace-{os.getpid()}-{port}"
        bundle = FOLDER / name
        bundle.mkdir()
        environment = {**settings, "GRADTRACE_PORT": str(port)}
        (bundle / "config.json").write_text(json.dumps(_bundle(root, name, environment)))
        with subprocess.Popen([*RUNC, "run", f"--bundle={bundle}", name]) as process:
            container = Container(name, f"http://127.0.0.1:{port}", process)
            try:
                wait_until(lambda: _is_ready(container), "the container is ready")
                yield container
            finally:
                if process.poll() is None:
                    container.runc("kill", "KILL")
                process.wait()
                shutil.rmtree(bundle)


def _is_ready(container: Container) -> bool:
    assert container.process.poll() is None, "the container ended at its start"
    return ready(container.url, quiet=True) == 0


def _bundle(root: Path, name: str, environment: dict[str, str]) -> dict[str, Any]:
    """Return the run-time's configuration: the image's own, and everything taken away."""
    config = configuration()
    user, group = map(int, config["User"].split(":"))
    none: dict[str, list[str]] = {
        kind: [] for kind in ("bounding", "effective", "permitted", "inheritable", "ambient")
    }
    return {
        "ociVersion": "1.0.2",
        "root": {"path": str(root), "readonly": True},
        "process": {
            "user": {"uid": user, "gid": group},
            "args": [*config["Entrypoint"], *config["Cmd"]],
            "env": [*config["Env"], *(f"{key}={value}" for key, value in environment.items())],
            "cwd": config["WorkingDir"],
            "capabilities": none,
            "noNewPrivileges": True,
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            _tmpfs("/dev", "nosuid", "mode=755"),
            _tmpfs("/tmp", "nosuid", "nodev", "mode=1777", "size=64m"),  # noqa: S108 - in the container
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")],
            "cgroupsPath": f"/{name}",
            "resources": {"memory": {"limit": MEMORY_MB * 2**20}, "pids": {"limit": 256}},
        },
    }


def _tmpfs(destination: str, *options: str) -> dict[str, Any]:
    return {
        "destination": destination,
        "type": "tmpfs",
        "source": "tmpfs",
        "options": list(options),
    }
