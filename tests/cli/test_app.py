"""The command as a whole: help, errors, pipes, missing extras, and what it costs to start."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import click
import pytest

import tracer
from tests.cli.commands import PYTHON, clean_environment, execute, fails, invoke, record, start
from tracer.cli._app import app

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs/cli.md").read_text()
CONTRACT = (
    "demo", "ui", "stats", "doctor", "db upgrade", "db vacuum", "db check", "traces list", "traces show",
    "traces tail", "traces export", "traces delete", "traces prune", "copy", "import mlflow", "import phoenix",
    "import langfuse", "run", "autolog install", "autolog remove",
    "serve token create", "serve token list", "serve token revoke",
)  # fmt: skip


def commands(group: click.Group = app, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def test_the_commands_are_those_of_the_contract() -> None:
    assert {name for name, _ in commands()} == set(CONTRACT)


@pytest.mark.parametrize(
    ("name", "command"), list(commands()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_each_command_is_explained(name: str, command: click.Command) -> None:
    assert command.help
    assert f"## tracer {name}\n" in PAGE
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
            assert f"`{parameter.opts[0]}`" in PAGE, f"docs/cli.md lacks {parameter.opts[0]} of {name}"
    needed = {"--json"} if name == "copy" else {"--json", "--uri"}  # it has two URIs, as arguments
    assert needed <= {option for parameter in command.params for option in parameter.opts}
    assert invoke(*name.split(), "--help").out.startswith(f"Usage: tracer {name} [OPTIONS]")


def test_groups_show_their_commands() -> None:
    assert invoke("--help").out.startswith("Usage: tracer [OPTIONS] COMMAND")
    for group in ((), ("traces",), ("db",)):
        ended = invoke(*group)
        assert (ended.code, ended.out) == (2, "")
        assert "Commands:" in ended.err
    assert invoke("--version").out == f"tracer, version {metadata.version('openai-tracer')}\n"


def test_unknown_command_and_option_say_so() -> None:
    assert "No such command 'trace'" in fails(2, "trace")
    assert "No such option" in fails(2, "stats", "--jsn")


def test_script_and_module_are_the_same_command() -> None:
    assert '[project.scripts]\ntracer = "tracer.cli:main"\n' in (ROOT / "pyproject.toml").read_text()
    asked = "import sys; from tracer.cli import main; sys.argv = ['tracer', '--help']; main()"
    by_script = subprocess.run([*PYTHON, "-c", asked], capture_output=True, text=True, check=True)
    by_module = subprocess.run([*PYTHON, "-m", "tracer", "--help"], capture_output=True, text=True, check=True)
    assert by_script.stdout == by_module.stdout != ""


def test_help_imports_nothing_that_is_slow() -> None:
    source = """
import sys
from tracer.cli import main
try:
    main(["--help"])
except SystemExit:
    pass
print([name for name in ("rich", "openai", "aiosqlite", "starlette", "lark") if name in sys.modules])
"""
    ended = subprocess.run([*PYTHON, "-c", source], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("lacking", "arguments", "extra"),
    [
        ("click", ["--help"], "cli"),
        ("rich", ["stats"], "cli"),
        ("uvicorn", ["demo"], "testing"),
        ("starlette", ["ui"], "ui"),
        ("uvicorn", ["ui"], "ui"),
        ("starlette", ["serve"], "server"),
        ("uvicorn", ["serve"], "server"),
    ],
)
def test_a_missing_extra_is_named(lacking: str, arguments: list[str], extra: str, tmp_path: Path) -> None:
    source = f"import sys; sys.modules[{lacking!r}] = None; from tracer.cli import main; main({arguments!r})"
    ended = subprocess.run(
        [sys.executable, "-c", source],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.count("\n") == 1
    assert f"needs the package '{lacking}" in ended.stderr
    assert ended.stderr.rstrip().endswith(f"pip install 'openai-tracer[{extra}]'")


@pytest.mark.parametrize(
    "arguments", [("list", "--limit", "300"), ("show", "last"), ("show", "last", "--json"), ("export",)], ids=" ".join
)
def test_a_reader_that_has_seen_enough_is_no_error(uri: str, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    for index in range(200):
        record(f"{index}" + "x" * 2_000)
    with tracer.start_span("big"):
        for index in range(200):
            record(f"{index}" + "x" * 2_000)
    tracer.sync.flush()
    process = start(tmp_path, "traces", *arguments, "--uri", uri)
    assert process.stdout is not None
    assert process.stderr is not None
    with process, process.stdout, process.stderr:
        assert process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


# "demo", "copy" and "import" make a database, "ui" and "serve" may make one; "doctor" only reports; "run" needs none
MAY_MAKE = ("demo", "copy", "import", "ui", "serve", "doctor", "run", "autolog")


@pytest.mark.parametrize("name", [name for name in CONTRACT if name.split()[0] not in MAY_MAKE])
def test_without_a_database_nothing_is_made(name: str, tmp_path: Path) -> None:
    more = {"show": ["last"], "delete": ["last", "--yes"], "prune": ["--keep", "1"], "export": ["last"]}
    line = fails(1, *name.split(), *more.get(name.split()[-1], []), "--uri", f"sqlite:///{tmp_path}/none.db")
    assert f"there is no {tmp_path}/none.db; name the database with --uri" in line
    assert not list(tmp_path.glob("none*"))


def test_default_database_is_the_working_directorys(tmp_path: Path) -> None:
    ended = execute(tmp_path, "stats", "--json")
    assert ended.code == 1
    error = json.loads(ended.err)["error"]
    assert error["code"] == "failed"
    assert f"there is no {tmp_path}/tracer.db" in error["message"]


BLOCK = re.compile(r"^```console\n(.*?)^```", re.DOTALL | re.MULTILINE)


def test_examples_of_the_page_run_and_print_what_it_says(tmp_path: Path) -> None:
    blocks = BLOCK.findall(PAGE)
    assert len(blocks) >= 8
    our_own = f'python() {{ "{sys.executable}" "$@"; }}; tracer() {{ python -W error -m tracer "$@"; }};'
    for block in blocks:
        for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
            ended = subprocess.run(
                ["bash", "-c", f"{our_own} {command}"],
                cwd=tmp_path,
                env=clean_environment(),
                capture_output=True,
                text=True,
                check=False,
            )
            assert (ended.returncode, ended.stderr) == (0, ""), command
            pattern = re.sub("…", ".*", re.escape(shown.rstrip("\n")))
            assert re.search(pattern, ended.stdout, re.DOTALL), f"{command}\nprints\n{ended.stdout}and not\n{shown}"
