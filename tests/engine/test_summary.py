from __future__ import annotations

import pytest

from service.engine.catalogue import catalogue
from service.engine.summary import plain_math, summary_of


def test_a_summary_is_the_first_sentence_in_plain_text() -> None:
    doc = (
        "add(input, *,\n    out=None) -> Tensor\n\nAdds :attr:`other` to `it <http://x>`_. Twice.\n"
    )
    assert summary_of(doc) == "Adds other to it."
    assert summary_of("") == summary_of(None) == ""


@pytest.mark.parametrize(
    ("latex", "plain"),
    [
        (r"\text{Sigmoid}(x) = \frac{1}{1 + \exp(-x)}", "Sigmoid(x) = 1 / (1 + exp(-x))"),
        (r"\left\lceil \frac{\text{a} - b}{2} \right\rceil with", "⌈(a - b) / 2 ⌉ with"),
        (r"\text{input}_{i} \neq 2^{n}, V_{n}^{\ast}", "input_i ≠ 2^n, V_n^*"),
        (r"{{\text{{base}}}}^{{\text{{end}}}}", "base^end"),
        (r"\alpha * \text{negative\_slope}", "α * negative_slope"),  # noqa: RUF001
    ],
)
def test_formulas_are_plain(latex: str, plain: str) -> None:
    assert plain_math(latex) == plain


def test_no_summary_has_markup() -> None:
    found = catalogue()
    summaries = [found.find(name).summary for name in found.names]
    assert [
        text for text in summaries if any(sign in text for sign in ("\\", "{", "`", ":math:"))
    ] == []
