"""The picture of a trace: layout, SVG and Graphviz text."""
