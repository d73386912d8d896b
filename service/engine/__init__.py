"""Torch without HTTP: bytes become a request, a plan, a run, a report, and bytes again."""
