"""Write constraints.txt: the exact version of everything that is installed in this environment.

``make pins`` calls it after a dependency was added or brought up to date by hand. A local version
such as PyTorch's ``+cpu`` is left out: which build is taken is the wheel index's business.
"""

from __future__ import annotations

from importlib.metadata import distributions
from pathlib import Path

FILE = Path(__file__).parents[1] / "constraints.txt"
HEADING = "# Exact versions of everything that is installed here and in the image; see `make pins`."
NOT_OURS = {"gradtrace", "pip"}


def pins() -> list[str]:
    """Return ``name==version`` of every installed distribution, in alphabetical order."""
    found = {one.metadata["Name"].lower(): one.version for one in distributions()}
    return [
        f"{name}=={version.partition('+')[0]}"
        for name, version in sorted(found.items())
        if name not in NOT_OURS
    ]


if __name__ == "__main__":
    FILE.write_text("\n".join([HEADING, *pins(), ""]))
