"""The command line: ``gradtrace``, and ``python -m service``.

Nothing heavy is imported before a command needs it: ``gradtrace --version`` answers at once.
"""

from __future__ import annotations

import os
import signal
import sys
from io import TextIOWrapper

STANDARD = {"stdin": "r", "stdout": "w", "stderr": "w"}


def main() -> None:
    """Run the command that the arguments name, then exit with its status."""
    if sys.argv[1:2] == ["serve"]:
        _end_when_told()
    _open_streams()
    from service.cli.commands import app

    app(prog_name="gradtrace")


def _end_when_told() -> None:
    """End with 0 at a signal to stop, until the server takes them: nothing has been served.

    To the first process of a container no signal comes that it does not handle, and importing the
    server takes a while, so this is for the time until then.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))


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
