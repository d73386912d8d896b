"""What a worker can be asked to do, asked without a worker."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest

from service.engine.catalogue import catalogue
from service.jobs import create
from service.picture import MAX_NODES, svg

EXPORT = {"job": "export_python", "content-type": "application/json", "accept": "text/x-python"}


def export(request: dict[str, Any]) -> tuple[int, str]:
    answer = create({})(EXPORT, json.dumps(request).encode())
    return answer.status, answer.body.decode()


@pytest.mark.parametrize(
    ("leaf", "place"),
    [
        ({"value": ""}, "/leaves/0/value"),
        ({"value": [1, "x"]}, "/leaves/0/value/1"),
        ({"value": 300, "dtype": "uint8"}, "/leaves/0/value"),
        ({"value_base64": "AA==", "shape": [2]}, "/leaves/0/value_base64"),
    ],
)
def test_a_leaf_that_cannot_be_traced_is_not_exported(leaf: dict[str, Any], place: str) -> None:
    status, body = export({"leaves": [{"id": "a", **leaf}], "backward": []})
    problem = json.loads(body)
    assert (status, problem["code"]) == (422, "bad_value")
    assert problem["errors"][0]["pointer"] == place


@pytest.mark.parametrize("gradient", ["x", ["NaN", {}]])
def test_a_gradient_that_is_no_number_is_not_exported(gradient: Any) -> None:
    leaf = {"id": "a", "value": 1.0, "requires_grad": True}
    status, body = export({"leaves": [leaf], "backward": [{"node": "a", "gradient": gradient}]})
    problem = json.loads(body)
    assert (status, problem["code"]) == (422, "bad_value")
    assert problem["errors"][0] | {"message": ""} == {
        "pointer": "/backward/0/gradient",
        "code": "bad_value",
        "message": "",
        "node": "a",
    }


def test_a_long_leaf_and_a_long_gradient_are_exported() -> None:
    numbers = [float(number) for number in range(50_000)]
    leaf = {"id": "a", "value": numbers, "requires_grad": True}
    status, script = export({"leaves": [leaf], "backward": [{"node": "a", "gradient": numbers}]})
    assert status == 200
    assert script.count("49999.0") == 2


def test_an_integer_beyond_64_bits_is_imported_where_pytorch_wants_a_float() -> None:
    script = "import torch\nx = torch.nn.functional.layer_norm(torch.ones(2), (2,), eps=2**70)"
    headers = {"job": "import_python", "content-type": "application/json"}
    answer = create({})(headers, json.dumps({"source": script}).encode())
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert json.loads(answer.body)["ops"][1]["attrs"]["eps"] == 2**70


@pytest.mark.parametrize("job", ["import_python", "trace", "traces"])
def test_a_bug_is_told_by_its_kind_and_place_and_never_by_what_it_says(
    job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise KeyError("secret value")

    monkeypatch.setattr("service.jobs.from_python", broken)
    monkeypatch.setattr("service.engine.job.run_forward", broken)
    body = {"source": ""} if job == "import_python" else {"leaves": [{"id": "a", "value": 1}]}
    headers = {"job": job, "content-type": "application/json", "accept": "application/json"}
    answer = create({})(headers, json.dumps(body).encode())
    assert answer.headers["x-bug"].startswith("unexpected KeyError at broken:")
    assert "secret" not in answer.headers["x-bug"]
    assert "secret" not in answer.body.decode()
    assert json.loads(answer.body).get("problem", json.loads(answer.body))["code"] == "internal"


def test_a_picture_draws_an_output_that_only_another_signature_names() -> None:
    """`max` of a tensor alone has one output without a name, `max` with dim has two with names."""
    request = {
        "leaves": [{"id": "x", "value": [1, 2]}],
        "ops": [
            {"id": "m", "op": "max", "inputs": ["x"], "attrs": {"dim": 0}},
            {"id": "r", "op": "add", "inputs": ["m:indices"], "attrs": {"other": 1}},
        ],
        "backward": [],
    }
    headers = {"job": "trace", "accept": "text/vnd.graphviz"}
    assert '"m:1" -> "r"' in create({})(headers, json.dumps(request).encode()).body.decode()


def test_no_op_has_two_sets_of_names_for_its_outputs() -> None:
    """A picture would not know which a reference means."""
    for found in catalogue().search(""):
        signatures = catalogue().find(found.name).signatures
        assert len({names for one in signatures if any(names := one.outputs)}) <= 1


@pytest.mark.parametrize("count", [3, MAX_NODES - 1, MAX_NODES])
def test_a_picture_is_that_of_the_whole_answer(count: int) -> None:
    ops = [{"id": f"b{k % 3}.n{k}", "op": "mul", "inputs": ["x", "x"]} for k in range(count)]
    request = {
        "leaves": [{"id": "x", "value": [1.0, "NaN"], "requires_grad": True}],
        "ops": [*ops, {"id": "y", "op": "sum", "inputs": [ops[-1]["id"]]}][-count:],
        "retain_grad": True,
    }
    whole = request | {"include": ["value", "grad", "stats", "notes"]}
    headers = {"job": "trace", "content-type": "application/json"}
    handle = create({})
    drawn = handle(headers | {"accept": "image/svg+xml"}, json.dumps(request).encode())
    answer = handle(headers | {"accept": "application/json"}, json.dumps(whole).encode())
    assert drawn.body.decode() == svg(request, json.loads(answer.body))


PICTURES = ["image/svg+xml", "text/vnd.graphviz"]


def picture(request: dict[str, Any], accept: str) -> str:
    headers = {"job": "trace", "content-type": "application/json", "accept": accept}
    answer = create({})(headers, json.dumps(request).encode())
    assert answer.status == 200, answer.body
    return answer.body.decode()


@pytest.mark.parametrize("shape", [[601], [3, 700], [700, 3], [40, 1, 40], [2, 0, 900], [5000, 0]])
@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_a_picture_shows_a_large_tensor_as_one_made_of_all_its_elements(
    shape: list[int], dtype: str
) -> None:
    value = [0.5, -2.0] if dtype == "complex64" else 0.5
    request = {
        "leaves": [{"id": "s", "value": value, "requires_grad": True, "dtype": dtype}],
        "ops": [
            {"id": "r", "op": "randn", "attrs": {"size": shape, "dtype": dtype}},
            {"id": "y", "op": "mul", "inputs": ["r", "s"], "retain_grad": True},
            {"id": "z", "op": "sum", "inputs": ["y"]},
            {"id": "a", "op": "abs", "inputs": ["z"]},
        ],
        "include": ["value", "grad", "stats", "notes", "edges"],
    }
    headers = {"job": "trace", "content-type": "application/json", "accept": "application/json"}
    whole = json.loads(create({})(headers, json.dumps(request).encode()).body)
    assert picture(request, PICTURES[0]) == svg(request, whole)


@pytest.mark.parametrize("accept", PICTURES)
def test_a_picture_of_a_graph_of_large_tensors_needs_no_room_for_their_text(accept: str) -> None:
    request = {
        "ops": [
            {"id": "a", "op": "zeros", "attrs": {"size": [3000, 3000]}, "requires_grad": True},
            {"id": "s", "op": "sum", "inputs": ["a"]},
        ],
        "include": ["edges"],
    }
    assert "contributes [[1, 1, 1" in picture(request, accept)
    assert "size 3000" in picture(request, accept)


@pytest.mark.parametrize("accept", PICTURES)
def test_a_picture_of_a_tensor_of_very_many_axes_is_drawn(accept: str) -> None:
    request = {
        "ops": [
            {"id": "v", "op": "ones", "attrs": {"size": [1] * 1100}, "requires_grad": True},
            {"id": "s", "op": "sum", "inputs": ["v"]},
        ],
        "include": ["edges"],
    }
    drawn = picture(request, accept)
    assert "value 1 to 1" in drawn
    assert "v → s (self) contributes size 1" in drawn


def test_a_picture_shows_a_contribution_at_the_output_through_which_it_came() -> None:
    request = {
        "leaves": [{"id": "x", "value": [[0.0, 1.0], [2.0, 3.0]], "requires_grad": True}],
        "ops": [
            {"id": "t", "op": "unbind", "inputs": ["x"]},
            {"id": "s", "op": "sum", "inputs": ["t:1"]},
        ],
        "include": ["edges"],
    }
    drawn = picture(request, PICTURES[1])
    assert '"x" -> "t:0" [label="",' in drawn
    assert '"x" -> "t:1" [label="[[0, 0], [1, 1]]",' in drawn


def test_a_picture_and_health_agree_on_where_a_nan_of_gradients_starts() -> None:
    leaves = [{"id": i, "value": [v], "requires_grad": True} for i, v in (("x", 0.0), ("w", 1.0))]
    two = [("p", "p0", "x"), ("r", "r0", "m")]
    request = {
        "leaves": leaves,
        "ops": [
            {"id": "d", "op": "detach", "inputs": ["x"]},
            {"id": "m", "op": "mul", "inputs": ["d", "w"], "retain_grad": True},
            *({"id": root, "op": "sqrt", "inputs": [of]} for root, _, of in two),
            *({"id": no, "op": "mul", "inputs": [of], "attrs": {"other": 0}} for of, no, _ in two),
            {"id": "o", "op": "add", "inputs": ["p0", "r0"]},
            {"id": "out", "op": "sum", "inputs": ["o"]},
        ],
    }
    drawn = picture(request, PICTURES[1])
    starts = re.findall(r'"(\w+)" \[label="[^"]*NaN in grad starts here', drawn)
    assert sorted(starts) == ["m", "x"]


def test_a_picture_of_very_many_nodes_counts_a_use_of_several_outputs_once() -> None:
    ops = [{"id": f"b.n{k}", "op": "neg", "inputs": ["b.u:0"]} for k in range(MAX_NODES)]
    request = {
        "leaves": [{"id": "a.x", "value": [[1.0]] * 10, "requires_grad": True}],
        "ops": [{"id": "b.u", "op": "unbind", "inputs": ["a.x"]}, *ops],
        "backward": [],
    }
    drawn = picture(request, PICTURES[0])
    assert "a → b: 1 use<" in drawn


def test_a_line_over_which_no_gradient_comes_is_thin() -> None:
    request = {
        "leaves": [{"id": "x", "value": [1.0, 2.0], "requires_grad": True}],
        "ops": [
            {"id": "p", "op": "softmax", "inputs": ["x"], "attrs": {"dim": 0}},
            {"id": "s", "op": "sum", "inputs": ["x"]},
        ],
    }
    drawn = picture(request, PICTURES[0])
    width = {
        way: float(re.search(rf"<title>{way}</title><path[^>]*stroke-width=.([0-9.]+)", drawn)[1])  # type: ignore[index]
        for way in ("x → p", "x → s")
    }
    assert width["x → p"] < width["x → s"]


@pytest.mark.parametrize("accept", ["image/svg+xml", "text/vnd.graphviz"])
def test_a_picture_of_a_magnitude_beyond_float64_is_drawn(accept: str) -> None:
    """Statistics have a smallest magnitude then, and no largest."""
    value = [[1.7e308, 1.7e308], *[[1, 0]] * 6]
    request = {"dtype": "complex128", "leaves": [{"id": "z", "value": value}], "backward": []}
    drawn = create({})({"job": "trace", "accept": accept}, json.dumps(request).encode())
    assert drawn.status == 200
    assert "value 7 elements" in drawn.body.decode()


def test_a_worker_imports_nothing_at_the_first_gradient_that_it_is_given() -> None:
    """It would take half a second of the request, and be done again in each worker."""
    script = """
import json, sys
from service.jobs import create
from service.picture import MAX_NODES, svg
handle = create({"alone": 1})
leaves = [{"id": "x", "value": [1, 2], "requires_grad": True}]
outputs = {"grad_outputs": {"ref": "x"}}
ops = [
    {"id": "y", "op": "neg", "inputs": ["x"]},
    {"id": "g", "op": "autograd.grad", "inputs": ["y", "x"], "attrs": outputs},
]
before = set(sys.modules)
for root in ({"node": "y", "gradient": [1, 1]}, {"node": "y", "gradient": [1, 2]}):
    request = {"leaves": leaves, "ops": ops, "backward": [root], "include": ["health", "edges"]}
    assert handle({"job": "trace"}, json.dumps(request).encode()).status == 200
print(len(set(sys.modules) - before))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert int(done.stdout) < 10
