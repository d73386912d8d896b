"""Gradtrace: the value and the gradient of every node of a graph, and why one is missing."""

__version__ = "0.1.0"
