"""The command line: ``gradtrace``, and ``python -m service``.

Nothing heavy is imported before a command needs it: ``gradtrace --version`` answers at once.
"""

from __future__ import annotations


def main() -> None:
    """Run the command that the arguments name, then exit with its status."""
    from service.cli.commands import app

    app(prog_name="gradtrace")
