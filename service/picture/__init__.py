"""The picture of a trace: layout, SVG and Graphviz text.

A request and its answer, both as parsed JSON, become one drawing that depends on nothing else::

    svg(request, response)
      graph.read        who is there, who uses whom, where NaN and inf begin
      summary.collapse  above 300 nodes: one card for each namespace
      layout.place      layers, order, coordinates
      draw.document     cards, edges, key, title and description
"""

from service.picture.dot import graphviz
from service.picture.draw import svg
from service.picture.summary import MAX_NODES

__all__ = ["MAX_NODES", "graphviz", "svg"]
