"""The image, built and run for real."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from service import __version__
from service.cli.conformity import differences
from service.client import Client
from service.contract.problem import MemoryLimit
from tests.conformance.exceptions import NOT_EXPRESSIBLE, PARTLY
from tests.conformance.figures import all_figures
from tests.golden import CASES
from tests.image import container
from tests.image.container import Container
from tests.processes import PATIENCE_S, wait_until

MOST_MB = 800
SLOW = {
    "leaves": [{"id": "x", "value": 1.0, "requires_grad": True}],
    "ops": [
        {"id": "m", "op": "randn", "attrs": {"size": [1500, 1500]}},
        {"id": "y", "op": "mul", "inputs": ["m", "x"]},
        {"id": "s", "op": "linalg.svdvals", "inputs": ["y"]},
        {"id": "out", "op": "sum", "inputs": ["s"]},
    ],
    "include": ["grad"],
}
HUNGRY = {
    "ops": [
        {"id": "a", "op": "ones", "attrs": {"size": [1024, 1024, 64]}},
        *({"id": f"b{k}", "op": "add", "inputs": ["a"], "attrs": {"other": k}} for k in range(20)),
    ],
    "backward": [],
    "include": [],
}


@pytest.fixture(scope="module")
def files() -> Iterator[Path]:
    container.require_tools()
    container.build()
    with container.unpacked() as folder:
        yield folder


@pytest.fixture(scope="module")
def served(files: Path) -> Iterator[Container]:
    limits = {"GRADTRACE_MEMORY_LIMIT_MB": "512", "GRADTRACE_TIME_LIMIT_S": str(PATIENCE_S)}
    with container.running(files, GRADTRACE_WORKERS="1", **limits) as it:
        yield it


def size(path: Path) -> int:
    """Return the bytes of a folder on disk, a file with several names counted once."""
    seen = {}
    for folder, _, names in os.walk(path):
        for name in names:
            stat = os.lstat(os.path.join(folder, name))
            seen[stat.st_ino] = stat.st_blocks * 512
    return sum(seen.values())


def test_it_takes_no_more_room_than_promised(files: Path) -> None:
    megabytes = size(files) / 1e6
    print(f"the image takes {megabytes:.0f} MB unpacked")
    assert megabytes <= MOST_MB


def test_it_says_how_it_is_run(files: Path) -> None:
    config: dict[str, Any] = container.configuration()
    assert config["User"] == "10001:10001"
    assert config["StopSignal"] == "SIGTERM"
    assert config["Entrypoint"] == ["gradtrace"]
    assert config["Cmd"] == ["serve"]
    assert config["Healthcheck"]["Test"] == ["CMD", "gradtrace", "health"]
    assert "GRADTRACE_HOST=0.0.0.0" in config["Env"]
    assert config["Labels"]["org.opencontainers.image.version"] == __version__
    assert config["Labels"]["org.opencontainers.image.licenses"] == "MIT"


def test_nothing_is_in_it_that_does_not_run(files: Path) -> None:
    (packages,) = files.glob("opt/gradtrace/lib/python3*/site-packages")
    for name in ("pip", "pytest", "torch/include", "torch/test", "tests"):
        assert not (packages / name).exists()
    assert not (files / "src").exists()
    assert (packages / "service" / "cli" / "golden" / "statuses.json").exists()


@pytest.mark.parametrize("name", sorted(CASES))
def test_it_passes_the_golden_cases(served: Container, name: str) -> None:
    with Client(served.url) as client:
        nodes = client.trace(CASES[name]["request"]).nodes
    found = [node.model_dump(mode="json") for node in nodes]
    assert list(differences(CASES[name]["nodes"], found)) == []


def test_every_op_works_in_it(served: Container) -> None:
    kind = {"content-type": "application/json"}
    with httpx.Client(base_url=served.url, headers=kind, timeout=PATIENCE_S) as http:

        def ask(body: bytes) -> tuple[int, bytes]:
            answer = http.post("/v1/trace", content=body)
            return answer.status_code, answer.content

        ops = list(all_figures(torch.float64, ask, 1))
    assert len(ops) > 500
    broken = {one.name: one.why[:2] for one in ops if not one.passes}
    assert set(broken) <= {*NOT_EXPRESSIBLE, *PARTLY}, broken


def test_none_of_its_processes_has_any_right(served: Container) -> None:
    pids = served.pids()
    assert len(pids) >= 2, "the service and at least one worker"
    for pid in pids:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        status = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
        assert set(status["Uid"]) == {"10001"}
        assert status["NoNewPrivs"] == ["1"]
        for kind in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"):
            assert int(status[kind][0], 16) == 0


def test_its_root_is_read_only(served: Container) -> None:
    root = Path(f"/proc/{served.pids()[0]}/mountinfo").read_text().splitlines()
    options = next(line.split()[5] for line in root if line.split()[4] == "/")
    assert "ro" in options.split(",")


def test_its_health_check_works(served: Container) -> None:
    test: list[str] = container.configuration()["Healthcheck"]["Test"][1:]
    assert served.runc("exec", *test).returncode == 0
    wrong = served.runc("exec", *test, "--url", "http://127.0.0.1:1")
    assert wrong.returncode == 1


def test_an_exported_model_is_read_in_it(served: Container) -> None:
    class Model(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(x).sum()

    exported = torch.export.export(Model(), (torch.ones(2),))
    torch.export.save(exported, f"/proc/{served.pids()[0]}/root/tmp/model.pt2")
    done = served.runc("exec", "gradtrace", "from-export", "/tmp/model.pt2")  # noqa: S108 - in the container
    assert done.returncode == 0, done.stderr
    assert [op["op"] for op in json.loads(done.stdout)["ops"]][:1] == ["aten.relu.default"]


def test_a_graph_that_takes_too_much_memory_is_refused_and_the_next_is_answered(
    served: Container,
) -> None:
    with Client(served.url) as client:
        with pytest.raises(MemoryLimit):
            client.trace(HUNGRY)
        assert client.trace(CASES["seed_retained"]["request"]).nodes


def test_sigterm_drains_it(files: Path) -> None:
    answers: list[int] = []
    enough = threading.Event()
    limits = {f"GRADTRACE_{name}": str(PATIENCE_S) for name in ("DRAIN_S", "TIME_LIMIT_S")}
    with (
        container.running(files, GRADTRACE_WORKERS="1", **limits) as it,
        httpx.Client(base_url=it.url, timeout=PATIENCE_S) as http,
    ):

        def ask() -> None:
            """Ask again where an answer was there before anybody saw that it was computed."""
            while not enough.is_set():
                answers.append(http.post("/v1/trace", json=SLOW).status_code)

        def computes() -> bool:
            return 'gradtrace_workers{state="busy"} 1.0' in http.get("/metrics").text

        asking = threading.Thread(target=ask)
        asking.start()
        wait_until(computes, "it computes")
        enough.set()
        it.process.terminate()
        asking.join()
        assert it.process.wait() == 0
    assert set(answers) == {200}
