"""The command line, run as a person runs it: its output and exit codes.

In the complete run each command is a process of its own; elsewhere most are calls in this one,
which saves the seconds that each process takes to import what it needs.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from typer.testing import CliRunner

from service import __version__
from service.cli.commands import app
from service.cli.conformity import differences
from service.cli.demo import LESSON, running
from service.contract.problem import (
    PROBLEM_MEDIA_TYPE,
    Draining,
    GradtraceError,
    NotFound,
    Unauthorized,
)
from tests.answering import answer_of, answering
from tests.conftest import REQUIRE_ALL, long
from tests.golden import CASES
from tests.processes import PATIENCE_S, own_port, wait_until

SEED = CASES["seed_retained"]["request"]
AS_A_USER = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"} | {
    "PYTHONPATH": str(Path(__file__).parents[1])
}
"""Output waits in a buffer, as it does unless a variable says otherwise."""
SCRIPT = (
    "import torch\n"
    "a = torch.ones(2, 2, requires_grad=True)\n"
    "b = a + 2\nc = b ** 2\nout = c.sum()\nout.backward()\n"
)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running() as address:
        yield address


def gradtrace(
    *arguments: str, stdin: str = "", **settings: str
) -> subprocess.CompletedProcess[str]:
    alone = {"GRADTRACE_WORKERS": "1", "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    quiet = alone | {f"GRADTRACE_{name}": settings[name] for name in settings}
    command = [sys.executable, "-m", "service", *arguments]
    if REQUIRE_ALL:
        return subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            env=os.environ | quiet,
            timeout=PATIENCE_S,
        )
    done = CliRunner().invoke(
        app, arguments, stdin, quiet, catch_exceptions=False, prog_name="gradtrace"
    )
    return subprocess.CompletedProcess(command, done.exit_code, done.stdout, done.stderr)


def as_a_user(
    *arguments: str | bytes,
    stdout: Any = subprocess.PIPE,
    cwd: Path | None = None,
    env: dict[str, str] = AS_A_USER,
) -> subprocess.CompletedProcess[bytes]:
    """Run the command in a process of its own, in every run."""
    command = [sys.executable, "-m", "service", *arguments]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, cwd=cwd, env=env)


def unboxed(text: str) -> str:
    """Return what is in a box, on one line."""
    return " ".join(text.replace("│", " ").split())


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """Return what is in the box of wrong usage, on one line."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return unboxed(done.stderr)


def problem_of(error: GradtraceError) -> str:
    return error.problem().model_dump_json()


REFUSED = answer_of(problem_of(Unauthorized("No.")), PROBLEM_MEDIA_TYPE, "401 Unauthorized")


def written(path: Path, graph: object) -> str:
    path.write_text(json.dumps(graph))
    return str(path)


def test_the_version_is_said_without_importing_torch_or_fastapi() -> None:
    code = (
        "import sys\n"
        "from service.cli import main\n"
        "sys.argv = ['gradtrace', '--version']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'torch', 'fastapi', 'numpy', 'pydantic', 'httpx'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == f"gradtrace {__version__}\n", done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_service_that_is_told_to_stop_while_it_is_imported_ends_at_once(
    tmp_path: Path, number: signal.Signals
) -> None:
    """As the first process of a container it gets no signal that it does not handle."""
    begun = tmp_path / "begun"
    slow = f"import pathlib, time\npathlib.Path({str(begun)!r}).touch()\ntime.sleep(600)\n"
    (tmp_path / "typer.py").write_text(slow)
    slowly = AS_A_USER | {"PYTHONPATH": os.pathsep.join([str(tmp_path), AS_A_USER["PYTHONPATH"]])}
    command = [sys.executable, "-P", "-m", "service", "serve"]
    with subprocess.Popen(command, env=slowly, stderr=subprocess.PIPE) as process:
        try:
            wait_until(begun.exists, "it is being imported")
            process.send_signal(number)
            assert process.wait(PATIENCE_S) == 0
            assert process.stderr is not None
            assert process.stderr.read() == b""
        finally:
            process.kill()


def test_the_lesson_is_traced_by_a_service_that_is_gone_afterwards() -> None:
    done = gradtrace("demo")
    assert done.returncode == 0, done.stderr
    c = next(line for line in done.stdout.splitlines() if line.startswith("c "))
    assert "[[9.0, 9.0], [9.0, 9.0]]" in c
    assert "None" in c
    assert "not_retained" in c
    assert "retain_grad" in c.split("not_retained")[1], "the note says what to change"


def test_a_table_in_a_pipe_is_plain_text_with_a_line_for_every_node(
    url: str, tmp_path: Path
) -> None:
    done = gradtrace("trace", written(tmp_path / "seed.json", SEED), "--url", url)
    assert done.returncode == 0, done.stderr
    heading, *rows = done.stdout.splitlines()
    assert heading.split() == ["id", "op", "shape", "value", "gradient", "status"]
    assert [row.split()[0] for row in rows] == ["a", "b", "c", "out"]
    assert "\x1b" not in done.stdout
    assert "[[6.0, 6.0], [6.0, 6.0]]" in rows[0]


def on_a_terminal(*arguments: str) -> str:
    """Return what ``gradtrace`` writes where a person sits in front of it."""
    ours, theirs = pty.openpty()
    clean = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    environment = {**clean, "TERM": "xterm-256color", "COLUMNS": "120"}
    command = [sys.executable, "-m", "service", *arguments]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        written = b""
        try:
            while chunk := os.read(ours, 4096):
                written += chunk
        except OSError:
            pass  # the terminal's other end is closed
        os.close(ours)
    assert process.returncode == 0, written
    return written.decode()


def test_a_terminal_gets_colours_and_a_progress_bar(url: str, tmp_path: Path) -> None:
    file = written(tmp_path / "seed.json", CASES["seed_not_backward"]["request"])
    shown = on_a_terminal("trace", file, "--url", url)
    assert "\x1b[" in shown
    assert "no_backward" in shown
    lines_of(tmp_path / "many.ndjson", 5)
    target = str(tmp_path / "answers.ndjson")
    bar = on_a_terminal("trace", str(tmp_path / "many.ndjson"), "--output", target, "--url", url)
    assert "5/5" in bar


def test_standard_input_and_the_answer_as_json(url: str) -> None:
    done = gradtrace("trace", "-", "--json", "--url", url, stdin=json.dumps(SEED))
    nodes = json.loads(done.stdout)["nodes"]
    assert [node["grad_status"] for node in nodes] == ["accumulated", *["retained"] * 3]


def test_a_service_answers_what_the_local_worker_answers(url: str, tmp_path: Path) -> None:
    file = written(tmp_path / "seed.json", SEED)
    there = gradtrace("trace", file, "--json", "--url", url)
    here = gradtrace("trace", file, "--json")
    assert there.stdout == here.stdout != ""


def test_base64_requests_are_shown_as_numbers_in_the_table(url: str, tmp_path: Path) -> None:
    file = written(tmp_path / "seed.json", {**SEED, "encoding": "base64", "include": ["stats"]})
    assert "[[6.0, 6.0], [6.0, 6.0]]" in gradtrace("trace", file, "--url", url).stdout


def test_health_and_notes_are_added_to_what_is_asked(url: str, tmp_path: Path) -> None:
    graph = {
        "leaves": [{"id": "x", "value": 0, "requires_grad": True}],
        "ops": [{"id": "y", "op": "sqrt", "inputs": ["x"]}],
    }
    done = gradtrace("trace", written(tmp_path / "nan.json", graph), "--health", "--url", url)
    assert done.returncode == 0, done.stderr
    assert "health" in done.stdout
    assert "Infinity" in done.stdout
    shown = gradtrace("trace", str(tmp_path / "nan.json"), "--json", "--notes", "--url", url)
    assert all(node["note"] for node in json.loads(shown.stdout)["nodes"])


def test_a_picture_is_written(url: str, tmp_path: Path) -> None:
    picture = tmp_path / "seed.svg"
    file = written(tmp_path / "seed.json", SEED)
    assert gradtrace("trace", file, "--svg", str(picture), "--url", url).returncode == 0
    assert picture.read_text().startswith("<svg")


def test_a_problem_is_readable_on_standard_error_and_exits_with_1(tmp_path: Path) -> None:
    graph = {"ops": [{"id": "y", "op": "relux"}]}
    done = gradtrace("trace", written(tmp_path / "bad.json", graph))
    assert done.returncode == 1
    assert done.stdout == ""
    assert "unknown_op" in done.stderr
    assert "/ops/0/op" in done.stderr
    assert "relu" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("text", ['{"leaves": [{"id": "a", "value": NaN}]}', '{"a": 1, "a": 1}'])
def test_text_that_is_not_json_is_refused_by_the_service_itself(url: str, text: str) -> None:
    done = gradtrace("trace", "-", "--url", url, stdin=text)
    assert done.returncode == 1
    assert "invalid_json" in done.stderr


@pytest.mark.parametrize(
    "graph",
    [
        '{"leaves": [{"id": "a", "value": 1e400}]}',
        '{"leaves": [{"id": "a", "value": 1}], "include": ["bogus"]}',
        '{"leaves": [{"id": "a", "value": 1}], "encoding": "xml"}',
        "[" * 100_000,
        '{"leaves": ' * 900,
    ],
    ids=["1e400", "include", "encoding", "deep", "deep objects"],
)
def test_what_is_refused_is_refused_in_the_same_words_for_the_table(url: str, graph: str) -> None:
    table = gradtrace("trace", "-", "--url", url, stdin=graph)
    as_json = gradtrace("trace", "-", "--json", "--url", url, stdin=graph)
    assert table.returncode == as_json.returncode == 1
    assert table.stderr == as_json.stderr
    assert table.stderr.startswith("gradtrace: ")


def test_notes_are_added_to_an_answer_that_asks_for_nothing_else(url: str) -> None:
    graph = {"leaves": [{"id": "a", "value": 1}], "backward": [], "include": []}
    done = gradtrace("trace", "-", "--json", "--notes", "--url", url, stdin=json.dumps(graph))
    (node,) = json.loads(done.stdout)["nodes"]
    assert "note" in node
    assert not {"value", "grad"} & set(node)


@pytest.mark.parametrize(
    ("name", "options"),
    [("windows.json", []), ("windows.json", ["--json"]), ("windows.ndjson", [])],
)
def test_a_graph_may_begin_with_a_byte_order_mark(
    url: str, tmp_path: Path, name: str, options: list[str]
) -> None:
    file = tmp_path / name
    file.write_text(json.dumps(SEED), encoding="utf-8-sig")
    done = gradtrace("trace", str(file), *options, "--url", url)
    assert done.returncode == 0, done.stderr


def test_a_graph_may_come_through_a_pipe(url: str, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    threading.Thread(target=pipe.write_text, args=[json.dumps(SEED)], daemon=True).start()
    done = gradtrace("trace", str(pipe), "--url", url)
    assert "[[6.0, 6.0], [6.0, 6.0]]" in done.stdout, done.stderr


@pytest.mark.parametrize("command", [["ops"], ["trace", "seed.json"]], ids=" ".join)
def test_a_reader_who_has_seen_enough_is_told_nothing(
    url: str, tmp_path: Path, command: list[str]
) -> None:
    """As with ``gradtrace ops | head -1``."""
    written(tmp_path / "seed.json", SEED)
    reader, writer = os.pipe()
    os.close(reader)
    done = as_a_user(*command, "--url", url, cwd=tmp_path, stdout=writer)
    os.close(writer)
    assert done.stderr == b""
    assert done.returncode == 1


@pytest.mark.parametrize("options", [[], ["--json"]], ids=str)
def test_a_full_disk_is_told_in_one_line(url: str, tmp_path: Path, options: list[str]) -> None:
    file = written(tmp_path / "seed.json", SEED)
    with Path("/dev/full").open("wb") as full:
        done = as_a_user("trace", file, "--url", url, *options, stdout=full)
    assert done.stderr == b"gradtrace: [Errno 28] No space left on device\n"
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("closed", "where"), [("1>&-", "there"), ("2>&-", "here"), ("0<&- 1>&- 2>&-", "there")]
)
def test_a_closed_stream_is_no_reason_to_fail(
    url: str, tmp_path: Path, closed: str, where: str
) -> None:
    asked = ["--url", url] if where == "there" else []
    file = written(tmp_path / "seed.json", SEED)
    command = [sys.executable, "-m", "service", "trace", file, *asked]
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", *command], env=AS_A_USER, capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_sign_that_the_output_has_no_spelling_for_is_escaped(url: str, tmp_path: Path) -> None:
    graph = {"leaves": [{"id": "x", "value": [1.5] * 50}], "backward": []}
    file = written(tmp_path / "long.json", graph)
    ascii_only = AS_A_USER | {"PYTHONIOENCODING": "ascii"}
    done = as_a_user("trace", file, "--url", url, env=ascii_only)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b" 1\\u2026 " in done.stdout


@pytest.mark.parametrize("arguments", [[b"\xff"], [b"-q", b"\xff"]])
def test_words_that_are_no_text_are_wrong_usage(arguments: list[bytes]) -> None:
    done = as_a_user("ops", *arguments)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("HTTP_PROXY", "foo://x:1", "Unknown scheme for proxy URL"),
        ("ALL_PROXY", "socks5://x:1", "socksio"),
        ("GRADTRACE_KEY", "\udcff", "surrogates"),
    ],
)
def test_what_no_client_can_be_made_with_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    monkeypatch.setenv(name, value)
    done = gradtrace("ops", "add", "--url", "http://gradtrace.invalid")
    assert done.returncode == 1
    assert done.stderr.startswith("gradtrace: no client for http://gradtrace.invalid: ")
    assert told in done.stderr


def test_control_signs_of_an_answer_do_not_reach_the_terminal() -> None:
    found = {"ops": [{"name": "add\x1b]0;title\x07", "summary": "\x9b2J\r\n"}]}
    with answering(answer_of(json.dumps(found))) as (url, _):
        done = gradtrace("ops", "--url", url)
    assert done.stdout.splitlines()[1] == r"add\x1b]0;title\x07  \x9b2J\r\n"


def test_a_zero_keeps_its_sign_on_its_way_to_a_service(url: str, tmp_path: Path) -> None:
    (tmp_path / "zero.json").write_text('{"leaves":[{"id":"x","value":[-0,-0.0,0]}],"backward":[]}')
    done = gradtrace("trace", str(tmp_path / "zero.json"), "--url", url)
    assert "[-0.0, -0.0, 0.0]" in done.stdout


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://127.0.0.1:80000", "Invalid port: '80000'"),
        (
            "127.0.0.1:8000",
            "'127.0.0.1:8000' does not begin with http:// or https:// and a host",
        ),
    ],
)
def test_an_address_that_is_none_is_told_why(url: str, told: str) -> None:
    done = gradtrace("ops", "--url", url)
    assert done.returncode == 1
    assert done.stderr == f"gradtrace: no answer from a Gradtrace service: {told}\n"


def test_a_service_that_is_not_there_exits_with_1() -> None:
    with own_port() as port:
        url = f"http://127.0.0.1:{port}"
        done = gradtrace("ops", "--url", url)
    assert done.returncode == 1
    told = f"gradtrace: no answer from a Gradtrace service at {url}: nothing listens there\n"
    assert done.stderr == told


def test_who_needs_a_key_is_told_how_to_give_it() -> None:
    with answering(REFUSED) as (url, _):
        done = gradtrace("ops", "--url", url)
    assert done.returncode == 1
    assert done.stderr.endswith("--key, or the variable GRADTRACE_KEY, takes the key\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["trace", "there-is-no-such-file.json"],
        ["import", "there-is-no-such-file.py"],
        ["export", "there-is-no-such-file.json"],
        ["export", "/"],
        ["trace"],
        ["serve", "--port", "70000"],
        ["serve", "--workers", "0"],
        ["nonsense"],
        ["trace", "pyproject.toml", "--nonsense"],
        ["ops", "pow", "--search", "power"],
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    refusal(gradtrace(*arguments))


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve"],
        ["trace", "seed.json"],
        ["trace", "seed.ndjson"],
        ["import", "seed.json"],
        ["export", "seed.json"],
        ["ops"],
        ["health"],
        ["demo"],
    ],
    ids=" ".join,
)
def test_a_bad_setting_is_named_as_the_variable_that_it_is(
    arguments: list[str], tmp_path: Path
) -> None:
    command = [each.replace("seed", f"{tmp_path}/seed") for each in arguments]
    for kind in ("json", "ndjson"):
        written(tmp_path / f"seed.{kind}", SEED)
    told = refusal(gradtrace(*command, QUEUE="many", API_KEYS="open sesame"))
    assert "GRADTRACE_QUEUE: must be a whole number" in told
    assert "GRADTRACE_API_KEYS: a key is printable ASCII without spaces" in told
    assert "pydantic" not in told
    assert "sesame" not in told


def test_an_option_overrides_a_bad_variable_and_is_named_where_it_is_bad_itself() -> None:
    told = refusal(gradtrace("serve", "--workers", "1025", WORKERS="0"))
    assert "--workers" in told
    assert "GRADTRACE_WORKERS" in refusal(gradtrace("serve", WORKERS="0"))
    told = refusal(gradtrace("serve", "--workers", "1", WORKERS="0", PORT="x"))
    assert "GRADTRACE_WORKERS" not in told


def test_a_graph_is_traced_under_the_largest_settings(tmp_path: Path) -> None:
    year = str(365 * 24 * 60 * 60)
    done = gradtrace(
        "trace",
        written(tmp_path / "seed.json", SEED),
        TIME_LIMIT_S=year,
        TORCH_THREADS="1024",
        MEMORY_LIMIT_MB=str(10**9),
        MAX_NODES=str(10**9),
        MAX_ELEMENTS=str(10**15),
        MAX_RESULT_ELEMENTS=str(10**15),
    )
    assert done.returncode == 0, done.stderr
    assert "[[6.0, 6.0], [6.0, 6.0]]" in done.stdout


@pytest.mark.parametrize(
    ("file", "options"),
    [
        ("one.json", ["--output", "answers"]),
        ("one.json", ["--resume"]),
        ("one.py", ["--output", "answers"]),
        ("many.ndjson", ["--svg", "picture"]),
        ("many.ndjson", ["--health"]),
        ("many.ndjson", ["--notes"]),
    ],
)
def test_an_option_that_does_not_apply_is_refused(
    tmp_path: Path, file: str, options: list[str]
) -> None:
    lines_of(tmp_path / file, 1)
    told = refusal(gradtrace("trace", str(tmp_path / file), *options))
    assert f"{options[0]} is for" in told


def test_the_help_says_what_standard_input_is_read_as() -> None:
    for command in ("trace", "export"):
        told = unboxed(gradtrace(command, "--help").stdout)
        assert "- for a graph as JSON on standard input" in told
    told = unboxed(gradtrace("import", "--help").stdout)
    assert "A .py file; - for a script on standard input" in told
    assert "json" not in told


@pytest.mark.parametrize("command", ["trace", "import", "export"])
def test_a_script_that_is_not_utf_8_is_refused_in_words(
    url: str, tmp_path: Path, command: str
) -> None:
    script = tmp_path / "bin.py"
    script.write_bytes(b"\xff\xfe")
    done = gradtrace(command, str(script), "--url", url)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "bin.py is not UTF-8" in done.stderr


def test_a_script_may_begin_with_a_byte_order_mark(url: str, tmp_path: Path) -> None:
    script = tmp_path / "windows.py"
    script.write_text(SCRIPT, encoding="utf-8-sig")
    done = gradtrace("trace", str(script), "--url", url)
    assert "[[6.0, 6.0], [6.0, 6.0]]" in done.stdout, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["openapi", "--output", "/nonexistent/file"],
        ["openapi", "--output", "/"],
        ["trace", "one.json", "--svg", "/nonexistent/file"],
        ["trace", "one.ndjson", "--output", "/nonexistent/file"],
        ["trace", "one.ndjson", "--output", "/", "--resume"],
    ],
    ids=" ".join,
)
def test_a_file_that_cannot_be_written_is_no_traceback(
    url: str, tmp_path: Path, arguments: list[str]
) -> None:
    command = [each.replace("one", f"{tmp_path}/one") for each in arguments[:2]] + arguments[2:]
    for kind in ("json", "ndjson"):
        lines_of(tmp_path / f"one.{kind}", 1)
    where = [] if command[0] == "openapi" else ["--url", url]
    done = gradtrace(*command, *where)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("gradtrace: [Errno ")


def test_ops_are_found_and_described(url: str) -> None:
    found = gradtrace("ops", "--search", "softmax", "--url", url)
    assert any(line.startswith("softmax") for line in found.stdout.splitlines())
    one = gradtrace("ops", "pow", "--url", url)
    assert one.stdout.startswith("pow\n")
    assert "exponent" in one.stdout


def test_an_op_that_is_not_there_is_not_found_here_and_at_a_service(url: str) -> None:
    there = gradtrace("ops", "powx", "--url", url)
    here = gradtrace("ops", "powx")
    assert there.returncode == here.returncode == 1
    assert there.stderr == here.stderr
    assert "(not_found)" in here.stderr
    assert "near names: pow" in here.stderr


def test_the_openapi_document_is_printed_or_written(tmp_path: Path) -> None:
    printed = gradtrace("openapi").stdout
    assert json.loads(printed)["openapi"].startswith("3.1")
    assert gradtrace("openapi", "--output", str(tmp_path / "o.json")).returncode == 0
    assert (tmp_path / "o.json").read_text() == printed


def test_a_script_becomes_a_graph_and_a_graph_a_script(url: str, tmp_path: Path) -> None:
    script = tmp_path / "lesson.py"
    script.write_text(SCRIPT)
    graph = gradtrace("import", str(script), "--url", url)
    assert [op["id"] for op in json.loads(graph.stdout)["ops"]][-3:] == ["b", "c", "out"]
    assert "[[6.0, 6.0], [6.0, 6.0]]" in gradtrace("trace", str(script), "--url", url).stdout
    back = gradtrace("export", written(tmp_path / "lesson.json", LESSON), "--url", url)
    assert "import torch" in back.stdout
    run = subprocess.run([sys.executable, "-c", back.stdout], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    bad = tmp_path / "bad.py"
    bad.write_text("import os\nos.remove('x')\n")
    refused = gradtrace("import", str(bad), "--url", url)
    assert refused.returncode == 1
    assert "line" in refused.stderr


@long
def test_an_exported_model_becomes_a_graph(url: str, tmp_path: Path) -> None:
    model = tmp_path / "model.pt2"
    code = (
        "import sys, torch\n"
        "layer = torch.nn.Linear(3, 1)\n"
        "torch.export.save(torch.export.export(layer, (torch.ones(2, 3),)), sys.argv[1])\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, str(model)], check=True)
    graph = gradtrace("from-export", str(model))
    assert graph.returncode == 0, graph.stderr
    (tmp_path / "model.json").write_text(graph.stdout)
    shown = gradtrace("trace", str(tmp_path / "model.json"), "--url", url)
    weight = next(line for line in shown.stdout.splitlines() if line.startswith("weight"))
    assert "[[2.0, 2.0, 2.0]]" in weight
    assert "accumulated" in weight


def test_what_is_no_exported_model_is_refused_in_words(tmp_path: Path) -> None:
    assert "files that end in .pt2" in refusal(gradtrace("from-export", "pyproject.toml"))
    (tmp_path / "text.pt2").write_text("no archive")
    refused = gradtrace("from-export", str(tmp_path / "text.pt2"))
    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr


def test_who_traces_an_exported_model_is_told_how(tmp_path: Path) -> None:
    (tmp_path / "m.pt2").write_bytes(b"")
    assert "gradtrace from-export" in refusal(gradtrace("trace", str(tmp_path / "m.pt2")))


@long
def test_a_damaged_exported_model_is_refused_in_words(tmp_path: Path) -> None:
    with ZipFile(tmp_path / "other.pt2", "w") as other:
        other.writestr("readme", "an archive of something else")
    with ZipFile(tmp_path / "half.pt2", "w") as half:
        half.writestr("half/archive_format", "pt2")
    for damaged in ("other.pt2", "half.pt2"):
        refused = gradtrace("from-export", str(tmp_path / damaged))
        assert refused.returncode == 1
        assert f"{damaged} cannot be" in refused.stderr


def test_a_conforming_service_passes_the_golden_cases(url: str) -> None:
    done = gradtrace("conform", url)
    assert done.returncode == 0, done.stdout
    assert f"{len(CASES)} of {len(CASES)} golden cases hold" in done.stdout


@pytest.mark.parametrize(
    ("dtype", "expected", "got"),
    [
        ("float32", ["NaN", 1.0], [None, 1.0]),
        ("bfloat16", ["NaN", 1.0], [None, 1.0]),
        ("float32", ["NaN", 1.0], ["nan", 1.0]),
        ("float64", ["Infinity"], ["inf"]),
        ("float64", [1.0], ["1.0"]),
        ("float64", [1.0], [True]),
        ("int64", [1, 0], [True, False]),
        ("bool", [True, False], [1, 0]),
        ("float32", ["Infinity"], [3.4028234663852886e38]),
        ("float16", ["-Infinity"], [-70000]),
        ("bfloat16", ["Infinity"], [3.3895313892515355e38]),
        ("float64", [0.0], [-0.0]),
    ],
)
def test_a_number_that_is_said_in_another_way_does_not_conform(
    dtype: str, expected: list[Any], got: list[Any]
) -> None:
    node = {"id": "x", "dtype": dtype, "value": expected}
    assert list(differences([node], [node])) == []
    assert list(differences([node], [{**node, "value": got}])) != []


def test_an_answer_without_what_is_null_does_not_conform() -> None:
    node = {"id": "x", "dtype": "float32", "value": 1.0, "grad": None}
    without = {name: value for name, value in node.items() if name != "grad"}
    assert list(differences([node], [without])) == ["x.grad: None expected, and it is not there"]


def test_what_answers_something_else_is_no_traceback(tmp_path: Path) -> None:
    file = written(tmp_path / "seed.json", SEED)
    with answering(answer_of('{"hello": []}')) as (url, _):
        for command in (["trace", file], ["ops"], ["ops", "pow"]):
            done = gradtrace(*command, "--url", url)
            assert done.returncode == 1
            assert done.stderr.startswith("gradtrace: no answer from a Gradtrace service"), done
        done = gradtrace("conform", url)
        assert done.returncode == 1
        assert "0 of" in done.stdout
    for broken in ("[" * 100_000, '{"nodes": [{"id": %s}]}' % ("9" * 400)):
        with answering(answer_of(broken)) as (url, _):
            assert "0 of" in gradtrace("conform", url).stdout


TRACE = '{"index":0,"trace":{}}\n'
DRAINING = f'{{"index":1,"problem":{problem_of(Draining("Goodbye."))}}}\n'


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (REFUSED, "(unauthorized)"),
        (answer_of(problem_of(NotFound("No.")), PROBLEM_MEDIA_TYPE, "404 No"), "(not_found)"),
        (answer_of(TRACE + DRAINING, "application/x-ndjson"), "(draining)"),
        (answer_of(TRACE, "application/x-ndjson"), "2 lines were sent, 1 came back"),
    ],
    ids=["a wrong key", "another service", "a service that shuts down", "an answer too few"],
)
def test_a_stream_that_is_refused_as_a_whole_stops_and_can_be_resumed(
    url: str, tmp_path: Path, answer: str, said: str
) -> None:
    file, output = tmp_path / "many.ndjson", tmp_path / "answers.ndjson"
    lines_of(file, 2)
    command = ["trace", str(file), "--output", str(output), "--resume", "--url"]
    with answering(answer) as (other, _):
        done = gradtrace(*command, other)
    assert done.returncode == 1
    assert said in done.stderr
    assert gradtrace(*command, url).returncode == 0
    assert [json.loads(line)["index"] for line in output.read_text().splitlines()] == [0, 1]


def test_health_says_whether_the_service_is_ready(url: str) -> None:
    assert gradtrace("health", "--url", url).returncode == 0
    assert gradtrace("health", "--url", f"{url}/").returncode == 0
    port = url.rpartition(":")[2]
    assert gradtrace("health", HOST="0.0.0.0", PORT=port).returncode == 0  # noqa: S104
    assert gradtrace("health", HOST="127.0.0.2", PORT=port).returncode == 1
    with own_port() as free:
        for bad in (f"127.0.0.1:{free}", "127.0.0.1:abc", "a b", ""):
            gone = gradtrace("health", "--url", f"http://{bad}")
            assert gone.returncode == 1
            assert gone.stderr.startswith(
                f"gradtrace: no answer from http:{'//' * bool(bad)}{bad}/readyz: "
            )
            assert "urlopen" not in gone.stderr


def lines_of(path: Path, count: int) -> list[str]:
    graph = {"leaves": [{"id": "x", "value": 1.5, "requires_grad": True}]}
    lines = [json.dumps({**graph, "seed": seed}) for seed in range(count)]
    path.write_text("\n".join(lines) + "\n")
    return lines


@pytest.mark.parametrize("where", ["service", "here"])
def test_a_stream_is_answered_line_by_line_in_order(url: str, tmp_path: Path, where: str) -> None:
    file = tmp_path / "many.ndjson"
    lines = lines_of(file, 700)
    lines[5] = '{"ops": []}'
    file.write_text("\n".join(lines))
    done = gradtrace("trace", str(file), *(["--url", url] if where == "service" else []))
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["index"] for answer in answers] == list(range(700))
    assert [index for index, answer in enumerate(answers) if "problem" in answer] == [5]
    assert answers[5]["problem"]["code"] == "invalid_request"
    assert done.returncode == 1
    assert "1 of 700" in done.stderr


def test_a_stopped_stream_goes_on_behind_its_last_whole_line(url: str, tmp_path: Path) -> None:
    file, output = tmp_path / "many.ndjson", tmp_path / "answers.ndjson"
    lines_of(file, 20)
    whole = gradtrace("trace", str(file), "--output", str(output), "--url", url)
    assert whole.returncode == 0, whole.stderr
    answers = output.read_bytes()
    ends = [place for place, sign in enumerate(answers) if sign == ord("\n")]
    output.write_bytes(answers[: ends[11] + 9])
    again = gradtrace("trace", str(file), "--output", str(output), "--url", url)
    assert again.returncode == 2, "an answer is never overwritten"
    resumed = gradtrace("trace", str(file), "--output", str(output), "--resume", "--url", url)
    assert resumed.returncode == 0, resumed.stderr
    assert output.read_bytes() == answers


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"my precious notes", "the end of"),
        (b"a note\n", "line 1 of"),
        (b'{"index":0,"trace":{}}\n{"index":2,"trace":{}}\n', "line 2 of"),
        (b'{"index":0,"trace":{}}\n{"index":2,"tr', "the end of"),
        (b"".join(b'{"index":%d,"trace":{}}\n' % index for index in range(4)), "has 4 answers"),
    ],
)
def test_a_file_that_holds_anything_but_answers_is_left_as_it_is(
    tmp_path: Path, text: bytes, told: str
) -> None:
    file, output = tmp_path / "many.ndjson", tmp_path / "notes.txt"
    lines_of(file, 3)
    output.write_bytes(text)
    done = gradtrace(
        "trace", str(file), "--output", str(output), "--resume", "--url", "http://[::1]:1"
    )
    assert done.returncode == 1
    assert told in done.stderr
    assert output.read_bytes() == text


def test_a_stream_is_not_written_over_itself_nor_by_two_runs(tmp_path: Path) -> None:
    file, output = tmp_path / "many.ndjson", tmp_path / "answers.ndjson"
    lines_of(file, 3)
    told = refusal(gradtrace("trace", str(file), "--output", str(file), "--resume"))
    assert "the very file that is read" in told
    with output.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        done = gradtrace("trace", str(file), "--output", str(output), "--resume")
    assert done.returncode == 1
    assert f"another run writes to {output}" in done.stderr


@pytest.mark.parametrize(
    "answer",
    [
        '{"index":0,"problem":{"code":"of_tomorrow"}}',
        '{"index":0,"problem":{"ty',
        '{"index":0,"trace":{"no',
        "[]",
    ],
)
def test_an_answer_of_a_stream_that_is_none_is_no_traceback(tmp_path: Path, answer: str) -> None:
    lines_of(tmp_path / "one.ndjson", 1)
    output = tmp_path / "answers"
    with answering(answer_of(answer + "\n", "application/x-ndjson")) as (url, _):
        done = gradtrace("trace", f"{tmp_path}/one.ndjson", "--output", str(output), "--url", url)
    assert done.returncode == 1
    assert done.stderr.startswith("gradtrace: no answer from a Gradtrace service: status 200")
    assert output.read_bytes() == b""


def test_a_line_that_was_refused_before_a_resume_counts(url: str, tmp_path: Path) -> None:
    file, output = tmp_path / "many.ndjson", tmp_path / "answers.ndjson"
    lines = lines_of(file, 3)
    file.write_text('{"ops": []}\n' + lines[1] + "\n")
    gradtrace("trace", str(file), "--output", str(output), "--url", url)
    file.write_text('{"ops": []}\n' + "\n".join(lines[1:]) + "\n")
    resumed = gradtrace("trace", str(file), "--output", str(output), "--resume", "--url", url)
    assert resumed.returncode == 1
    assert "1 of 3 lines were refused" in resumed.stderr
