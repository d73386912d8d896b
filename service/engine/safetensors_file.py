"""Tensors as a safetensors file: eight bytes of header length, a JSON header, the tensors' bytes.

A request has its TraceRequest as JSON text in the metadata and each leaf's tensor under its id; an
answer has ``value/<id>`` and ``grad/<id>``, and the TraceResponse without tensors in the metadata.
The format has no complex128: such a tensor travels as float64 with a last axis of two.

Read and written here rather than by the safetensors package, which copies every tensor twice on the
way out, gives no metadata of a file in memory, and takes a header with a key given twice. Tests
hold both against each other.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby, pairwise
from typing import Any, Final, NamedTuple

import orjson
import torch
from torch import Tensor

from service.contract.problem import BadValue, InvalidJson, InvalidRequest, pointer, quote
from service.contract.request import Include
from service.engine.dtypes import DTYPE_NAMES, DTYPES
from service.engine.json_text import parse_json
from service.engine.read_tensor import tensor_from_bytes
from service.engine.report import Node
from service.engine.write_tensor import raw_bytes

FORMAT_NAMES: Final = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "complex64": "C64",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}
"""The format's name for every dtype of the contract that it has."""

CONTRACT_NAMES: Final = {theirs: ours for ours, theirs in FORMAT_NAMES.items()}

METADATA = "__metadata__"
ALIGNMENT = 8
MAX_HEADER_BYTES = 100_000_000
"""The format's own limit."""

MOST_AXES = 1024
"""Sizes that a tensor may have; with a hundred thousand of them a single op takes half a minute."""

HERE = 0
"""Stands for the value of a leaf whose tensor is in the file."""

SMALL = 1 << 16
"""Bytes up to which a copy is quicker than a piece of its own."""


class Entry(NamedTuple):
    """Where in the data a tensor lies; checked against dtype and shape."""

    name: str
    dtype: str
    shape: list[int]
    begin: int
    end: int


def read_request(
    body: bytes | memoryview, max_elements: int
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the TraceRequest in ``body`` as parsed JSON, and the leaves' tensors by their ids.

    Such leaves get HERE as their value, as a Leaf must have one; nothing else is checked of them.

    Raises:
        InvalidRequest: not a safetensors file, no request in it, a tensor that is no leaf's, or a
            leaf that has a value besides.
        InvalidJson: the request is not JSON.
        BadValue: a dtype that the contract does not have, or a bool that is neither 0 nor 1.
        LimitExceeded: a tensor of more than ``max_elements``.
    """
    metadata, tensors = read_file(body, max_elements)
    if "request" not in metadata:
        raise InvalidRequest(f'the file has no "request" in its {METADATA}')
    request = parse_json(metadata["request"].encode())
    leaves = request.get("leaves") if isinstance(request, dict) else None
    unknown = set(tensors)
    missing: list[tuple[int, str]] = []
    for index, leaf in enumerate(leaves if isinstance(leaves, list) else ()):
        name = leaf.get("id") if isinstance(leaf, dict) else None
        if isinstance(name, str) and name in tensors:
            unknown.discard(name)
            for field in ("value", "value_base64"):
                if leaf.get(field) is not None:
                    raise InvalidRequest(
                        f"the leaf has a tensor in the file and a {field} besides",
                        pointer=pointer("leaves", index, field),
                        node=name,
                    )
            leaf["value"] = HERE
        elif isinstance(name, str) and leaf.get("value") is leaf.get("value_base64") is None:
            missing.append((index, quote(name)))
    if unknown:
        raise InvalidRequest(f"no leaf has the id of the tensor {quote(min(unknown))}")
    for index, name in missing:
        raise InvalidRequest(
            f"the file has no tensor {name}, and the leaf has no value of its own",
            pointer=pointer("leaves", index),
            node=name,
        )
    return request, tensors


def write_answer(
    answer: Mapping[str, Any],
    nodes: Iterable[Node],
    include: Collection[str],
    edges: Sequence[Tensor | None] = (),
) -> list[bytes | memoryview]:
    """Return the file of ``answer``, a TraceResponse without tensors, and the tensors asked for.

    It comes in pieces, as :func:`file_pieces` has it. What an edge contributes is
    ``edge/<its place in the list of edges>``.
    """
    tensors = {f"edge/{place}": grad for place, grad in enumerate(edges) if grad is not None}
    for node in nodes:
        if Include.VALUE in include:
            tensors[f"value/{node.id}"] = node.tensor
        if Include.GRAD in include and node.grad is not None:
            tensors[f"grad/{node.id}"] = node.grad
    response = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    return file_pieces(tensors, {"response": response})


def read_file(
    body: bytes | memoryview, max_elements: int
) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Return the metadata and the tensors of a file; errors as :func:`read_request`.

    The tensors must cover the data without a gap or an overlap, as the format wants it.
    """
    raw = memoryview(body)
    length = int.from_bytes(raw[:8], "little")
    start = 8 + length
    if len(raw) < 8 or length > MAX_HEADER_BYTES or start > len(raw):
        raise InvalidRequest("this is no safetensors file: its header is longer than it")
    header = _header(raw[8:start])
    metadata = header.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(m, str) for m in metadata.values()):
        raise InvalidRequest(f"the file's {METADATA} is not an object of strings")
    entries = [_entry(name, said) for name, said in header.items()]
    ends = sorted([(0, 0), *((entry.begin, entry.end) for entry in entries)])
    gap = any(end != begin for (_, end), (begin, _) in pairwise(ends))
    if gap or ends[-1][1] != len(raw) - start:
        raise InvalidRequest("the file's tensors do not cover its data without gap and overlap")
    return metadata, {
        entry.name: _tensor(raw[start + entry.begin : start + entry.end], entry, max_elements)
        for entry in entries
    }


def _header(text: memoryview) -> dict[str, Any]:
    try:
        header = parse_json(text)
    except (InvalidJson, BadValue, InvalidRequest) as error:
        raise InvalidRequest(f"the file's header is not valid JSON: {error.detail}") from None
    if not isinstance(header, dict):
        raise InvalidRequest("the file's header is not a JSON object")
    return header


def _entry(name: str, said: Any) -> Entry:
    if not isinstance(said, dict) or said.keys() != {"dtype", "shape", "data_offsets"}:
        raise InvalidRequest(
            f"the tensor {quote(name)} is not described by dtype, shape and data_offsets"
        )
    theirs, shape, offsets = said["dtype"], said["shape"], said["data_offsets"]
    if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
        raise InvalidRequest(f"shape or data_offsets of the tensor {quote(name)} are no sizes")
    if len(shape) > MOST_AXES:
        raise InvalidRequest(f"the tensor {quote(name)} has more than {MOST_AXES} axes")
    dtype = CONTRACT_NAMES.get(theirs) if isinstance(theirs, str) else None
    if dtype is None:
        raise BadValue(
            f"the tensor {quote(name)} has the dtype {quote(theirs)}; "
            f"there are: {', '.join(CONTRACT_NAMES)}"
        )
    begin, end = offsets
    if max(shape, default=0) >= 2**63:
        raise BadValue(f"no tensor can have the shape {quote(shape)}, that of {quote(name)}")
    size = math.prod(shape) * DTYPES[dtype].itemsize
    if end - begin != size:
        needs = size if size < 2**63 else "2^63 or more"
        raise InvalidRequest(
            f"the tensor {quote(name)} has {quote(end - begin)} bytes where dtype and shape need "
            f"{needs}"
        )
    return Entry(name, dtype, shape, begin, end)


def _are_sizes(said: Any) -> bool:
    return isinstance(said, list) and all(type(size) is int and size >= 0 for size in said)


def _tensor(raw: memoryview, entry: Entry, max_elements: int) -> Tensor:
    try:
        return tensor_from_bytes(raw, entry.shape, entry.dtype, max_elements)
    except BadValue as error:
        detail = f"the tensor {quote(entry.name)}: {error.detail}"
        raise BadValue(detail, node=quote(entry.name)) from None


def write_file(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Return ``tensors``, of any dtype of the contract, and ``metadata`` as a file."""
    return b"".join(file_pieces(tensors, metadata))


def file_pieces(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> list[bytes | memoryview]:
    """Return the bytes of :func:`write_file` in pieces; a large tensor's are its own memory.

    The widest dtypes come first, so that every tensor is aligned.
    """
    header: dict[str, Any] = {METADATA: metadata}
    parts: list[bytes | memoryview] = []
    end = 0
    for name in sorted(tensors, key=lambda name: -tensors[name].dtype.itemsize):
        tensor = tensors[name]
        shape = [*tensor.shape]
        if tensor.dtype == torch.complex128:
            dtype, shape = "float64", [*shape, 2]
        else:
            dtype = DTYPE_NAMES[tensor.dtype]
        raw = raw_bytes(tensor)
        begin, end = end, end + len(raw)
        header[name] = {
            "dtype": FORMAT_NAMES[dtype],
            "shape": shape,
            "data_offsets": [begin, end],
        }
        parts.append(raw)
    text = orjson.dumps(header)
    text += b" " * (-len(text) % ALIGNMENT)
    return _joined([len(text).to_bytes(8, "little"), text, *parts])


def _joined(parts: Iterable[bytes | memoryview]) -> list[bytes | memoryview]:
    """Return ``parts``, neighbours that are small joined into one."""
    pieces: list[bytes | memoryview] = []
    for small, run in groupby(parts, key=lambda part: len(part) < SMALL):
        together = list(run)
        pieces += [b"".join(together)] if small else together
    return pieces
