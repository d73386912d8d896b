"""No request leaves a trace: whatever op has run, the state of the process is what it was."""

from __future__ import annotations

import locale
import os
import random
import signal
import sys
import threading
import warnings
from typing import Any

import numpy as np
import orjson
import torch

from service.engine.catalogue import catalogue
from service.engine.job import JSON
from tests.conftest import long
from tests.engine.asking import ENGINE, leaf, op
from tests.fuzz.corpus import Corpus, Request

SAMPLES = 2
"""Requests for each op that are answered."""

NEVER_ANSWERED = {
    "hash_tensor": "returns uint64, which an answer cannot carry",
    "hspmm": "takes sparse tensors, which no leaf can be",
    "smm": "takes sparse tensors, which no leaf can be",
    "sspaddmm": "takes sparse tensors, which no leaf can be",
}

NEXT = orjson.dumps(
    {
        "leaves": [leaf("x", [[1.5, -2.0], [1e-310, 7.0]], dtype="float64")],
        "ops": [
            op("noise", "rand", size=[2, 2]),
            op("some", "nn.functional.dropout", "x", p=0.5),
            op("wide", "to", "noise", dtype="float64"),
            op("both", "matmul", "some", "wide", retain_grad=True),
            op("small", "div", "both", other=3),
            op("new", "ones", size=[2]),
            op("out", "sum", "small"),
        ],
    }
)
"""A request that would show it, were the state not what it was: random numbers, the default dtype,
denormal numbers, gradients."""


def state() -> dict[str, Any]:
    """Return all that one request could leave behind for the next, by name."""
    return {**_of_torch(), **_of_backends(), **_of_python()}


def _of_torch() -> dict[str, Any]:
    return {
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "grad mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "anomaly mode": (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
        "autocast": (
            torch.is_autocast_enabled("cpu"),
            torch.get_autocast_dtype("cpu"),
            torch.is_autocast_cache_enabled(),
        ),
        "determinism": (
            torch.get_deterministic_debug_mode(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
        ),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "warn always": torch.is_warn_always_enabled(),
        "print options": dict(vars(torch._tensor_str.PRINT_OPTS)),
        "modes": torch._C._len_torch_function_stack(),
        "dispatch modes": torch._C._len_torch_dispatch_stack(),
        "subclasses": torch._C._is_torch_function_enabled(),
        "saved tensors": torch._C._autograd._saved_tensors_hooks_is_enabled(),  # type: ignore[attr-defined]
        "backward threads": torch._C._is_multithreading_enabled(),
        "dual level": torch.autograd.forward_ad._current_level,
        "transforms": torch._C._functorch.peek_interpreter_stack(),
        "denormal numbers": (torch.tensor([1e-310], dtype=torch.float64) * 1).item(),
    }


def _of_backends() -> dict[str, Any]:
    backends = torch.backends
    return {
        "matmul precision": torch.get_float32_matmul_precision(),
        "mkldnn": (
            backends.mkldnn.enabled,
            backends.mkldnn.deterministic,
            backends.mkldnn.allow_tf32,
        ),
        "cudnn": (
            backends.cudnn.enabled,
            backends.cudnn.benchmark,
            backends.cudnn.deterministic,
            backends.cudnn.allow_tf32,
        ),
        "attention": (
            backends.cuda.flash_sdp_enabled(),  # type: ignore[no-untyped-call]
            backends.cuda.math_sdp_enabled(),  # type: ignore[no-untyped-call]
            backends.cuda.mem_efficient_sdp_enabled(),  # type: ignore[no-untyped-call]
        ),
        "einsum": (backends.opt_einsum.enabled, backends.opt_einsum.strategy),
        "quantized": backends.quantized.engine,
        "nnpack": torch._C._get_nnpack_enabled(),
    }


def _of_python() -> dict[str, Any]:
    return {
        "warning filters": list(warnings.filters),
        "warning hook": warnings.showwarning,
        "numpy errors": np.geterr(),
        "numpy random numbers": orjson.dumps(
            np.random.get_state(legacy=False)["state"]["key"],
            option=orjson.OPT_SERIALIZE_NUMPY,
        ),
        "numpy print options": str(np.get_printoptions()),
        "random numbers": random.getstate(),
        "environment": dict(os.environ),
        "directory": os.getcwd(),
        "locale": locale.setlocale(locale.LC_ALL),
        "recursion limit": sys.getrecursionlimit(),
        "signals": [
            signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGFPE)
        ],
        "python threads": set(threading.enumerate()),
    }


def changes(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """Return what is not as it was; a thread that an earlier test left may end at any time."""
    threads = "python threads"
    after = {**after, threads: after[threads] | before[threads]}
    return {key for key in before if after[key] != before[key]}


def answer(body: bytes) -> bytes:
    return ENGINE.trace(JSON, JSON, body).body


def run(request: Request) -> bool:
    """Trace ``request``, then with a backward pass from all that is tracked; was it answered?"""
    forward = ENGINE.trace(JSON, JSON, orjson.dumps(request))
    roots = [
        {"node": node["id"], "gradient": ones(node["shape"], node["dtype"])}
        for node in orjson.loads(forward.body).get("nodes", [])
        if node["op"] is not None and node["requires_grad"]
    ]
    if roots:
        answer(orjson.dumps({**request, "backward": roots}))
    return forward.status == 200


def ones(shape: list[int], dtype: str) -> Any:
    one: Any = [1, 0] if dtype.startswith("complex") else 1
    return [ones(shape[1:], dtype) for _ in range(shape[0])] if shape else one


def test_a_request_leaves_no_state_behind_also_where_it_is_refused() -> None:
    before, told = state(), answer(NEXT)
    for request in (
        {"leaves": [leaf("x", 1.0)], "ops": [op("b", "add", "x", "nope")]},
        {"leaves": [leaf("x", [1.0, 2.0])], "ops": [op("b", "relu", "x")]},
        {"ops": [op("r", "randn", size=[1000])], "backward": []},
    ):
        answer(orjson.dumps(request))
        assert changes(before, state()) == set()
        assert answer(NEXT) == told


@long
def test_no_op_changes_the_state_of_the_process() -> None:
    corpus = Corpus()
    told = answer(NEXT)
    assert b'"nodes"' in told
    answered = dict.fromkeys(catalogue().names, 0)
    for name in catalogue().names:
        for request in corpus.examples(name):
            before = state()
            answered[name] += run(request)
            assert changes(before, state()) == set(), name
            assert answer(NEXT) == told, name
            if answered[name] == SAMPLES:
                break
    assert [name for name, count in answered.items() if not count] == sorted(NEVER_ANSWERED)


def test_the_state_that_is_compared_would_show_a_change() -> None:
    before = state()
    with torch.autograd.set_detect_anomaly(True), torch.autocast("cpu"), np.errstate(all="ignore"):
        after = state()
    assert changes(before, after) == {
        "anomaly mode",
        "autocast",
        "numpy errors",
    }
    assert changes(before, state()) == set()
