"""The Graphviz text is a graph of every node and every use, whatever the words in it."""

from __future__ import annotations

import subprocess

from service.picture import graphviz
from tests.conftest import require_program
from tests.picture.answers import chain, golden


def test_every_node_and_use_is_there() -> None:
    text = graphviz(*golden("seed_leaf_only"))
    assert text.startswith("digraph gradtrace {\n")
    assert text.endswith("}\n")
    assert text.count(" -> ") == 3
    assert '"a" [label="a  leaf\\n[2, 2] float32\\nvalue [[1, 1], [1, 1]]\\ngrad' in text
    assert "null: not retained" in text
    assert text == graphviz(*golden("seed_leaf_only"))


def test_quotes_backslashes_and_line_ends_stay_inside_their_string() -> None:
    request, response = chain(["x", "out"])
    response["nodes"][1]["op"] = 'a"; b [x="\\\r\n'
    assert 'a\\"; b [x=\\"\\\\ \\n' in graphviz(request, response)


def test_a_large_graph_is_not_summarised() -> None:
    assert graphviz(*chain([f"n{index}" for index in range(1_000)])).count(" -> ") == 999


def test_graphviz_itself_reads_it() -> None:
    dot = require_program("dot")
    request, response = golden("softmax_cross_entropy")
    response["nodes"][0]["note"] = 'quoted "note" \\ with \\" all'
    drawn = subprocess.run(
        [dot, "-Tplain"], input=graphviz(request, response), text=True, capture_output=True
    )
    assert drawn.returncode == 0, drawn.stderr
