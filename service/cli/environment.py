"""The settings of a command; one that is refused is wrong usage, exit code 2."""

from __future__ import annotations

from typing import Any

import typer
from pydantic import ValidationError

from service.settings import Settings


def settings(**given: Any) -> Settings:
    """Return the settings in force: what is ``given``, and not None, before GRADTRACE_* variables.

    Raises:
        typer.BadParameter: a variable makes no sense; the message names it and says why.
    """
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise typer.BadParameter(_complaint(error)) from None


def _complaint(refused: ValidationError) -> str:
    """Return a line for each variable; never its value, which may be a key."""
    prefix = Settings.model_config["env_prefix"]
    return "\n".join(
        f"{prefix}{str(one['loc'][0]).upper()}: {one['msg'].removeprefix('Value error, ')}"
        for one in refused.errors(include_url=False, include_input=False)
    )
