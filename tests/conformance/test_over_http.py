"""A part of the database the whole way: over HTTP, through a worker process, and back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx
import torch

from tests.conformance.exceptions import NOT_EXPRESSIBLE, UNSTEADY
from tests.conformance.figures import Figures, differentiable_ops, figures_of
from tests.conftest import long
from tests.web.harness import JSON, served

EVERY = 9
"""Every so many ops are asked, with their first two samples."""


@long
def test_ops_answer_over_http_what_the_direct_call_does() -> None:
    ops = differentiable_ops(torch.float64)[::EVERY]

    def run(url: str) -> list[Figures]:
        torch.set_num_threads(1)
        with httpx.Client(base_url=url, headers=JSON, timeout=60) as client:

            def ask(body: bytes) -> tuple[int, bytes]:
                answer = client.post("/v1/trace", content=body)
                return answer.status_code, answer.content

            return [figures_of(op, torch.float64, ask, 2) for op in ops]

    with served("service.jobs:create") as server, ThreadPoolExecutor(1) as pool:
        figures = pool.submit(run, server.url).result()
    known = {*NOT_EXPRESSIBLE, *UNSTEADY}
    assert [one for one in figures if not one.exact and one.name not in known] == []
    assert sum(one.samples for one in figures) > len(ops)
