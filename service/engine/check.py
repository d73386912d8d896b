"""Parsed JSON is a TraceRequest, or a problem that says where it is none."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from service.contract.problem import (
    MAX_ERRORS,
    InvalidRequest,
    ProblemCode,
    ProblemError,
    pointer,
    quote,
)
from service.contract.request import TraceRequest
from service.engine.form_words import words_for
from service.engine.json_text import node_at
from service.engine.long_values import spell_out
from service.engine.quick_check import is_well_formed


def count_nodes(request: Any) -> int:
    """Return the number of leaves and ops of ``request``, parsed JSON of whatever form."""
    count = 0
    if isinstance(request, dict):
        for part in (request.get("leaves"), request.get("ops")):
            if isinstance(part, list):
                count += len(part)
    return count


def check_request(request: Any, *, ops_checked: bool = False) -> None:
    """Raise InvalidRequest where ``request``, parsed JSON, is not a TraceRequest.

    Args:
        request: of whatever form.
        ops_checked: whether the same ops were found to be right before.
    """
    if is_well_formed(request, ops_checked=ops_checked):
        return
    spell_out(request, numbers=False)
    try:
        TraceRequest.model_validate(request)
    except ValidationError as error:
        raise invalid_request(error, request) from None


def invalid_request(error: ValidationError, document: Any) -> InvalidRequest:
    """Return what pydantic found in ``document`` as a problem, a pointer and node for each."""
    found = error.errors(include_url=False, include_context=False)
    errors = [
        ProblemError(
            pointer=pointer(*(quote(part, 100) for part in one["loc"])),
            code=ProblemCode.INVALID_REQUEST,
            message=quote(words_for(one["type"], one["msg"], one["loc"], one["input"]), 300),
            node=node_at(document, one["loc"]),
        )
        for one in found[:MAX_ERRORS]
    ]
    first = errors[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return InvalidRequest(f"{first.pointer or 'the body'}: {first.message}{more}", errors=errors)
