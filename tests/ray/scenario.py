"""A day of a cluster, told as JSON: two nodes on this machine, one application, what happened.

    unshare --net --pid --fork --kill-child --mount-proc \\
      sh -c 'ip link set lo up && exec python -m tests.ray.scenario REPORT'

It is run by test_cluster.py, in namespaces of its own. Nothing is judged here.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import ray
from ray import serve
from ray.cluster_utils import Cluster
from ray.serve import Application
from ray.serve.config import HTTPOptions, ProxyLocation

from service.ray import build
from service.ray.application import Arguments
from service.ray.replicas import Replicas
from tests.processes import descendants

HOST, PORT = "127.0.0.1", 8000
URL = f"http://{HOST}:{PORT}"
QUEUE = 12
SETTINGS = {
    "GRADTRACE_WORKERS": "1",
    "GRADTRACE_QUEUE": str(QUEUE),
    "GRADTRACE_TIME_LIMIT_S": "10",
    "GRADTRACE_LOG": "json",
}
SEED = {
    "leaves": [{"id": "a", "value": [[1, 1], [1, 1]], "requires_grad": True}],
    "ops": [
        {"id": "b", "op": "add", "inputs": ["a"], "attrs": {"other": 2}},
        {"id": "c", "op": "pow", "inputs": ["b"], "attrs": {"exponent": 2}},
        {"id": "out", "op": "sum", "inputs": ["c"]},
    ],
}
CONNECTIONS = 8
LOAD = 500
PATIENCE_S = 60.0


def work(size: int, times: int) -> dict[str, Any]:
    """Return a graph of ``times`` products of square matrices, with a small answer."""
    ops: list[dict[str, Any]] = [{"id": "m0", "op": "ones", "attrs": {"size": [size, size]}}]
    ops += [
        {"id": f"m{k}", "op": "matmul", "inputs": [f"m{k - 1}", "m0"]} for k in range(1, times + 1)
    ]
    ops += [{"id": "out", "op": "sum", "inputs": [f"m{times}"]}]
    return {"ops": ops, "backward": [], "include": []}


SMALL_WORK = work(160, 20)
LONG_WORK = work(400, 60)
ENDLESS_WORK = work(2000, 2000)


def start_cluster(application: Application) -> None:
    """Start a cluster of two nodes with the application on it; nothing else fits on the first.

    The second node joins once the ingress and the first replica have filled the head: Ray spreads
    what it places, and might else put the ingress where the second replica has to go.
    Nothing stops the cluster but the end of the namespace, which ends every process in it at once.
    """
    room: dict[str, Any] = {"object_store_memory": 100 * 2**20, "node_ip_address": HOST}
    head = {"num_cpus": 2, "include_dashboard": False, **room}
    nodes = Cluster(initialize_head=True, head_node_args=head)
    ray.init(address=nodes.address, log_to_driver=False)
    serve.start(
        proxy_location=ProxyLocation.HeadOnly, http_options=HTTPOptions(host=HOST, port=PORT)
    )
    serve.run(application)
    nodes.add_node(num_cpus=1, **room)


class Story:
    """What is done to the application, one method a chapter; each adds to the report."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self.report: dict[str, Any] = {}
        self.compute = serve.get_deployment_handle(Replicas.DEPLOYMENT, "default")

    async def trace(self, graph: dict[str, Any]) -> httpx.Response:
        return await self.client.post("/v1/trace", json=graph)

    async def replicas(self) -> list[dict[str, Any]]:
        return await asyncio.to_thread(lambda: self.compute.broadcast("report").results())

    async def until_replicas(self, wanted: int) -> list[dict[str, Any]]:
        """Wait, a minute at most, until Ray runs ``wanted`` replicas; return those there are.

        The handle hears of a replica a moment after the controller: both have to know it.
        """
        end = time.monotonic() + PATIENCE_S
        while True:
            states = serve.status().applications["default"].deployments["Compute"].replica_states
            running = {str(state): n for state, n in states.items() if n} == {"RUNNING": wanted}
            there = await self.replicas()
            if (running and len(there) == wanted) or time.monotonic() > end:
                return there
            await asyncio.sleep(0.2)

    async def golden(self) -> None:
        command = [sys.executable, "-m", "service", "conform", URL]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
        self.report["golden"] = {"code": done.returncode, "said": done.stdout + done.stderr}

    async def problem(self) -> None:
        answer = await self.trace({"ops": [{"id": "x", "op": "no_such_op"}]})
        self.report["problem"] = seen(answer)

    async def scale_up(self) -> None:
        self.report["replicas_before"] = await self.replicas()
        scaled = asyncio.create_task(self.until_replicas(2))
        answers = await busy(lambda: self.trace(SMALL_WORK), scaled)
        self.report["while_scaling_up"] = answers
        self.report["replicas_under_load"] = scaled.result()

    async def stream(self) -> None:
        before = {each["pid"]: each["answered"] for each in await self.replicas()}
        lines = "".join(json.dumps(SMALL_WORK) + "\n" for _ in range(60))
        kind = {"content-type": "application/x-ndjson"}
        answer = await self.client.post("/v1/traces", content=lines, headers=kind)
        after = {each["pid"]: each["answered"] for each in await self.replicas()}
        parsed = [json.loads(line) for line in answer.text.splitlines()]
        self.report["stream"] = {
            "indices": [line["index"] for line in parsed],
            "traces": sum("trace" in line for line in parsed),
            "answered": [after[pid] - before.get(pid, 0) for pid in after],
        }

    async def kill_a_replica(self) -> None:
        victim = (await self.replicas())[0]
        numbers = iter(range(LOAD))
        codes: Counter[str] = Counter()
        killed: asyncio.Task[None] | None = None
        long_answers = 0

        async def kill() -> None:
            """Kill the victim while one of its workers computes."""
            while long_answers < CONNECTIONS or not computes(victim["pid"]):
                await asyncio.sleep(0.005)
            os.kill(victim["pid"], signal.SIGKILL)

        async def one_client() -> None:
            nonlocal killed, long_answers
            for number in numbers:
                if number == LOAD // 5:
                    killed = asyncio.create_task(kill())
                # All have long work to do until one of them is killed at it.
                is_long = killed is not None and not killed.done()
                graph = LONG_WORK if is_long else SMALL_WORK
                codes[outcome(await attempt(self.trace(graph)))] += 1
                long_answers += is_long

        await asyncio.gather(*(one_client() for _ in range(CONNECTIONS)))
        assert killed is not None
        await asyncio.wait_for(killed, PATIENCE_S)
        there = await self.until_replicas(2)
        metrics = (await self.client.get("/metrics")).text
        self.report["kill"] = {
            "victim": victim["pid"],
            "outcomes": codes,
            "pids_after": [each["pid"] for each in there],
            "retries": metric(metrics, "gradtrace_retries_total"),
        }

    async def overload(self) -> None:
        asked = [attempt(self.trace(LONG_WORK)) for _ in range(3 * QUEUE)]
        answers = await asyncio.gather(*asked)
        refused = [answer for answer in answers if outcome(answer) == "429"]
        self.report["overload"] = {
            "outcomes": Counter(map(outcome, answers)),
            "refused": seen(refused[0]) if refused else None,
        }

    async def time_limit(self) -> None:
        self.report["time_limit"] = seen(await self.trace(ENDLESS_WORK))
        self.report["after_time_limit"] = (await self.trace(SEED)).status_code

    async def client_goes(self) -> None:
        async def abandoned() -> int:
            return sum(each["abandoned"] for each in await self.replicas())

        before = await abandoned()
        pids = [each["pid"] for each in await self.replicas()]
        asked = asyncio.create_task(self.trace(ENDLESS_WORK))
        async with asyncio.timeout(PATIENCE_S):
            while not any(map(computes, pids)):
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.2)
        asked.cancel()
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end and await abandoned() == before:
            await asyncio.sleep(0.05)
        self.report["abandoned"] = await abandoned() - before

    async def scale_down(self) -> None:
        self.report["replicas_at_rest"] = await self.until_replicas(1)
        self.report["at_rest"] = (await self.trace(SEED)).status_code


def computes(pid: int) -> bool:
    """Whether one of the workers of a replica is running now."""
    return any(process.state == "R" for process in descendants(pid, "gradtrace-work"))


async def attempt(asked: Awaitable[httpx.Response]) -> httpx.Response | Exception:
    try:
        return await asked
    except httpx.TransportError as error:
        return error


def outcome(answer: httpx.Response | Exception) -> str:
    return str(answer.status_code) if isinstance(answer, httpx.Response) else repr(answer)


def seen(answer: httpx.Response | Exception) -> dict[str, Any]:
    assert isinstance(answer, httpx.Response)
    return {
        "status": answer.status_code,
        "type": answer.headers["content-type"],
        "retry_after": answer.headers.get("retry-after"),
        "body": answer.json(),
    }


def metric(text: str, name: str) -> float:
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


async def busy(
    ask: Callable[[], Awaitable[httpx.Response]], until: asyncio.Task[Any]
) -> dict[str, int]:
    """Keep ``CONNECTIONS`` requests under way until ``until`` is done; count the outcomes."""
    codes: Counter[str] = Counter()

    async def one_client() -> None:
        while not until.done():
            codes[outcome(await attempt(ask()))] += 1

    await asyncio.gather(*(one_client() for _ in range(CONNECTIONS)))
    return codes


async def tell() -> dict[str, Any]:
    """Run all chapters in order and return the report."""
    async with httpx.AsyncClient(base_url=URL, timeout=PATIENCE_S) as client:
        story = Story(client)
        for chapter in (
            story.golden,
            story.problem,
            story.scale_up,
            story.stream,
            story.kill_a_replica,
            story.overload,
            story.time_limit,
            story.client_goes,
            story.scale_down,
        ):
            began = time.monotonic()
            await chapter()
            took = time.monotonic() - began
            print(f"{chapter.__name__}: {took:.1f} s", file=sys.stderr, flush=True)
        return story.report


def main() -> None:
    os.environ.update(SETTINGS)
    growth = {"upscale_delay_s": 0.5, "downscale_delay_s": 4, "look_back_period_s": 10.5}
    start_cluster(build(Arguments(max_replicas=2, **growth)))
    Path(sys.argv[1]).write_text(json.dumps(asyncio.run(tell())))
    os._exit(0)


if __name__ == "__main__":
    main()
