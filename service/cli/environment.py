"""The settings of a command; one that is refused is wrong usage, exit code 2."""

from __future__ import annotations

from typing import Any

import typer

from service.settings import Settings, SettingsRefused, from_environment


def settings(**given: Any) -> Settings:
    """Return the settings in force: what is ``given``, and not None, before GRADTRACE_* variables.

    Raises:
        typer.BadParameter: a variable makes no sense; the message names it and says why.
    """
    try:
        return from_environment(**given)
    except SettingsRefused as error:
        raise typer.BadParameter(str(error)) from None
