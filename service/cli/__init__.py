"""The command line: ``gradtrace``, and ``python -m service``.

Nothing heavy is imported before a command needs it: ``gradtrace --version`` answers at once.
"""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper

STANDARD = {"stdin": "r", "stdout": "w", "stderr": "w"}


def main() -> None:
    """Run the command that the arguments name, then exit with its status."""
    _open_streams()
    from service.cli.commands import app

    app(prog_name="gradtrace")


def _open_streams() -> None:
    """See that there is something to read and write, and that nothing written has no spelling.

    A stream that the caller closed is None to Python, and the next file would take its number. An
    encoding such as ASCII lacks signs that are printed here.
    """
    while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(opened, True)
    os.close(opened)
    for number, (name, mode) in enumerate(STANDARD.items()):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False))
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")
