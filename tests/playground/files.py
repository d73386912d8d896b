"""The files of the page, for the tests of the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import service.playground

STATIC = Path(service.playground.__file__).parent / "static"
EXAMPLES: list[dict[str, Any]] = json.loads((STATIC / "examples.json").read_text())
