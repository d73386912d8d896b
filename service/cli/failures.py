"""What goes wrong, as a person reads it on standard error; the exit code is 1."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import typer

from service.client import UnexpectedAnswer
from service.contract.problem import GradtraceError, ProblemCode

REASONS: dict[type[Exception], str] = {
    httpx.ReadTimeout: "it was silent for too long",
    httpx.WriteTimeout: "it did not take the request in time",
    httpx.ConnectTimeout: "it could not be reached in time",
    httpx.ReadError: "the connection was lost before the answer was there",
    httpx.WriteError: "the connection was lost before the request was sent",
}
"""What httpx has no words for."""


@contextmanager
def shown() -> Iterator[None]:
    """Turn a problem, or a service that is not there, into a message and exit code 1.

    Standard output is flushed here: where that fails at exit only, Python tells of it in its own
    way and exits with 120.

    Raises:
        BrokenPipeError: whoever read the output, such as ``head``, has seen enough; the command
            line ends for it in silence.
    """
    try:
        yield
        sys.stdout.flush()
    except GradtraceError as error:
        sys.stderr.write(readable(error))
    except (UnexpectedAnswer, httpx.HTTPError, httpx.InvalidURL) as error:
        sys.stderr.write(f"gradtrace: no answer from {_asked(error)}: {_said(error)}\n")
    except BrokenPipeError:
        raise
    except OSError as error:
        sys.stderr.write(f"gradtrace: {error}\n")
        _drop_unwritten()
    else:
        return
    raise typer.Exit(1)


def _said(error: Exception) -> str:
    if isinstance(error, httpx.ConnectError) and isinstance(_first(error), ConnectionRefusedError):
        return "nothing listens there"
    return str(error) or REASONS.get(type(error)) or type(error).__name__


def _first(error: BaseException) -> BaseException:
    """Return the error that ``error`` began with."""
    while (earlier := error.__cause__ or error.__context__) is not None:
        error = earlier
    return error


def _asked(error: Exception) -> str:
    """Return who was asked, with the address where the error knows it."""
    try:
        url = error.request.url if isinstance(error, httpx.RequestError) else None
    except RuntimeError:  # it belongs to no request
        url = None
    return (
        f"a Gradtrace service at {url.scheme}://{url.netloc.decode()}"
        if url
        else "a Gradtrace service"
    )


def _drop_unwritten() -> None:
    """Give up what standard output does not take, as on a full disk: the exit would try again."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def readable(error: GradtraceError) -> str:
    """Return what is wrong and where, a line each."""
    lines = [f"gradtrace: {error.title} ({error.code})"]
    for one in error.errors:
        place = one.pointer or "the request"
        node = f", node {one.node}" if one.node else ""
        lines.append(f"  {place}{node}: {one.message}")
    if error.code == ProblemCode.UNAUTHORIZED:
        lines.append("  --key, or the variable GRADTRACE_KEY, takes the key")
    return "\n".join(lines) + "\n"
