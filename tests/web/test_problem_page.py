from __future__ import annotations

from pathlib import Path

import pytest

from service.contract.problem import ProblemCode, problems

PAGE = (Path(__file__).parents[2] / "docs" / "problems.md").read_text()


def test_every_code_has_one_class_and_every_class_a_code() -> None:
    kinds = list(problems())
    assert [kind.code for kind in kinds] == list(ProblemCode)
    assert all(400 <= kind.status < 600 and kind.title and kind.description for kind in kinds)


@pytest.mark.parametrize("kind", problems(), ids=lambda kind: kind.code)
def test_every_problem_has_its_row_in_the_documents(kind: type) -> None:
    row = f"| `{kind.code}` | {kind.status} | {kind.title} | {kind.description} |"  # type: ignore[attr-defined]
    assert row in PAGE.splitlines()
