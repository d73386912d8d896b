"""The commands, their arguments and their exit codes: 0, 1 for a problem, 2 for wrong usage.

Each command gathers its arguments, asks a source (:mod:`service.cli.source`) and shows the answer.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from service import __version__

app = typer.Typer(
    name="gradtrace",
    help="The value and the gradient of every node of a graph, computed by PyTorch.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Url = Annotated[
    str | None, typer.Option(help="Ask this service. Default: compute here, in a worker process.")
]
Key = Annotated[
    str | None,
    typer.Option(envvar="GRADTRACE_KEY", help="The service's bearer key.", show_envvar=True),
]
Graph = Annotated[
    Path, typer.Argument(help="A .json or .py file; - for a graph as JSON on standard input.")
]

MODEL = ".pt2"


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gradtrace {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    pass


def _usage(message: str) -> NoReturn:
    """Stop with exit code 2: the command cannot be meant like this."""
    raise typer.BadParameter(message)


def _expect(file: Path, *, twice: bool = False) -> None:
    """Stop where ``file`` cannot be read, or not ``twice`` as it has to be; - is standard input.

    What is read once may come through a pipe, such as <(command).
    """
    there = file.is_file() if twice else file.exists() and not file.is_dir()
    if str(file) != "-" and not there:
        _usage(f"there is no file {file}")


def _run(work: Coroutine[Any, Any, int | None]) -> None:
    """Run ``work``; print a problem readably on standard error and exit with 1."""
    from service.cli.failures import shown

    with shown():
        code = asyncio.run(work)
    raise typer.Exit(code or 0)


def _refuse(given: dict[str, bool], reason: str) -> None:
    """Stop where one of the options is given, rather than ignore it."""
    for option, there in given.items():
        if there:
            _usage(f"{option} {reason}")


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Computing processes.")
    ] = None,
) -> None:
    """Start the service. Settings come from GRADTRACE_* variables; the options override them."""
    from service.cli.environment import settings
    from service.web.server import serve as start

    raise typer.Exit(start(settings(host=host, port=port, workers=workers)))


@app.command()
def trace(
    file: Annotated[
        Path,
        typer.Argument(
            help="A .json, .ndjson or .py file; - for a graph as JSON on standard input."
        ),
    ],
    url: Url = None,
    key: Key = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as it came.")] = False,
    svg: Annotated[Path | None, typer.Option(help="Write the picture of the graph here.")] = None,
    health: Annotated[bool, typer.Option(help="Say what looks unhealthy, and where.")] = False,
    notes: Annotated[bool, typer.Option(help="Explain each gradient status in words.")] = False,
    output: Annotated[Path | None, typer.Option(help=".ndjson: write the answers here.")] = None,
    resume: Annotated[
        bool, typer.Option(help=".ndjson: go on behind the last whole line of --output.")
    ] = False,
) -> None:
    """Trace the graph (.json) or script (.py) in FILE and print its table.

    Of a stream of graphs (.ndjson) the answers are printed, a line each.
    """
    stream = file.suffix == ".ndjson"
    _expect(file, twice=stream)
    if file.suffix == MODEL:
        _usage(f"make a graph of it first: gradtrace from-export {file} > graph.json")
    if stream:
        from service.cli.stream import trace_lines

        shown = {"--svg": svg is not None, "--health": health, "--notes": notes}
        _refuse(shown, "is for one graph, not for a stream of them")
        if resume and output is None:
            _usage("--resume needs --output")
        if output is not None and output.exists() and not resume:
            _usage(f"{output} is there already: --resume goes on behind its last line")
        if output is not None and output.exists() and output.samefile(file):
            _usage("--output is the very file that is read")
        _run(trace_lines(file, output, url, key))
    streamed = {"--output": output is not None, "--resume": resume}
    _refuse(streamed, "is for .ndjson files; --json prints the answer to one graph")
    from service.cli.graph import View, trace_graph

    _run(trace_graph(file, url, key, View(as_json, svg, health, notes)))


@app.command()
def ops(
    name: Annotated[str | None, typer.Argument(help="An op to describe.")] = None,
    search: Annotated[str, typer.Option("--search", "-q", help="Words to look for.")] = "",
    url: Url = None,
    key: Key = None,
) -> None:
    """List the ops of the catalogue, or describe one with its signatures."""
    from service.cli.catalogue import describe_op, list_ops

    for words in (name or "", search):
        if not words.isprintable():  # bytes that are no UTF-8 among them
            _usage(f"{words!r} cannot be looked for")
    if name is not None:
        _refuse({"--search": bool(search)}, "looks through all ops, not in one")
    _run(list_ops(search, url, key) if name is None else describe_op(name, url, key))


@app.command()
def openapi(
    output: Annotated[Path | None, typer.Option(help="Write it here.")] = None,
) -> None:
    """Print the OpenAPI document."""
    from service.cli.failures import shown
    from service.web.server import openapi_document

    text = json.dumps(openapi_document(), indent=2, ensure_ascii=False) + "\n"
    with shown():
        if output is None:
            sys.stdout.write(text)
        else:
            output.write_text(text, encoding="utf-8")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A .py file; - for a script on standard input.")],
    url: Url = None,
    key: Key = None,
) -> None:
    """Turn a Python script into the graph that it means; nothing is executed."""
    _expect(file)
    from service.cli.graph import import_python

    _run(import_python(file, url, key))


@app.command()
def export(file: Graph, url: Url = None, key: Key = None) -> None:
    """Turn a graph into a stand-alone Python script that prints the same numbers."""
    _expect(file)
    from service.cli.graph import export_python

    _run(export_python(file, url, key))


@app.command("from-export")
def from_export(
    model: Annotated[Path, typer.Argument(help="A .pt2 file that torch.export.save wrote.")],
) -> None:
    """Turn an exported PyTorch model into a graph. Only for files that you trust."""
    if not model.is_file():
        _usage(f"there is no file {model}")
    if model.suffix != MODEL:
        _usage(f"PyTorch loads exported models only from files that end in {MODEL}")
    from service.cli.failures import shown
    from service.cli.graph import model_graph

    with shown():
        sys.stdout.write(model_graph(model))


@app.command()
def conform(
    url: Annotated[str, typer.Argument(help="The service to hold against the golden cases.")],
    key: Key = None,
) -> None:
    """Hold a service that speaks the contract against the golden cases."""
    from service.cli.conformity import conform as check

    _run(check(url, key))


@app.command()
def health(
    url: Annotated[str | None, typer.Option(help="Default: the address of the settings.")] = None,
) -> None:
    """Exit with 0 where the service is ready, with 1 and the reason where it is not."""
    from service.cli.probe import ready

    raise typer.Exit(ready(url))


@app.command(hidden=True)
def demo() -> None:
    """Start a service, trace the lesson's graph, print the table, stop the service."""
    from service.cli.demo import demonstrate
    from service.cli.environment import settings
    from service.cli.failures import shown

    settings(workers=1)
    with shown():
        demonstrate()
