"""``tracer run`` and ``tracer autolog``: programs that know nothing of tracer are traced, and run as before."""

from __future__ import annotations

import ast
import os
import signal
import socket
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import httpx
import pytest

import tracer
from tests.cli.commands import clean_environment, fails, invoke
from tracer import _autorun
from tracer.cli import run
from tracer.testing import FakeOpenAI

CALL = """
import openai, os, sys
openai.OpenAI().chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "Hi"}])
print("argv", sys.argv[1:], os.getpid())
"""
LIMIT = 60.0  # seconds, for a busy machine
HOOKS = Path(_autorun.__file__).parent


def python_of(version: str) -> str | None:
    """Return an interpreter of this version from pyenv, which has such as tracer does not support."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    return next((str(path) for path in root.glob(f"versions/{version}.*/bin/python")), None)


@pytest.fixture
def environment(server: FakeOpenAI, tmp_path: Path) -> dict[str, str]:
    return {**clean_environment(), **server.env(), "TRACER_TRACKING_URI": f"sqlite:///{tmp_path}/run.db"}


def start(directory: Path, environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        arguments, cwd=directory, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    with process:
        out, err = process.communicate(timeout=LIMIT)
    return process.returncode, out, err


def tracer_run(directory: Path, environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    return start(directory, environment, sys.executable, "-m", "tracer", "run", *arguments)


def traces(directory: Path) -> list[Any]:
    tracer.set_tracking_uri(f"sqlite:///{directory}/run.db")
    return list(tracer.sync.search_traces())


@pytest.mark.parametrize("how", ["program", "file", "module"])
def test_a_program_that_knows_nothing_of_tracer_is_traced(
    how: str, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(CALL)
    ways = {
        "program": ("--", sys.executable, "app.py", "--json", "-x"),
        "file": ("app.py", "--json", "-x"),
        "module": ("-m", "app", "--", "--json", "-x"),
    }
    process = tracer_run(tmp_path, environment, *ways[how])
    code, out, err = ended(process)
    assert (code, out, err) == (0, f"argv ['--json', '-x'] {process.pid}\n", "")
    [trace] = traces(tmp_path)
    assert trace.data.spans[0].outputs["choices"][0]["message"]["content"] == "You said: Hi"


def test_its_exit_code_is_kept_and_its_children_are_traced(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "child.py").write_text(CALL)
    parent = "import subprocess, sys; subprocess.run([sys.executable, 'child.py'], check=True); sys.exit(7)"
    code, _, err = ended(tracer_run(tmp_path, environment, "--", sys.executable, "-c", parent))
    assert (code, err) == (7, "")
    assert len(traces(tmp_path)) == 1


def test_uri_says_where_the_traces_go(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(CALL)
    environment["TRACER_TRACKING_URI"] = "memory://"
    assert ended(tracer_run(tmp_path, environment, "--uri", f"sqlite:///{tmp_path}/run.db", "app.py"))[0] == 0
    assert len(traces(tmp_path)) == 1


def test_a_program_without_openai_does_not_import_tracer(environment: dict[str, str], tmp_path: Path) -> None:
    asked = "import sys; print([name for name in sys.modules if name.startswith(('tracer', 'openai'))])"
    assert ended(tracer_run(tmp_path, environment, "--", sys.executable, "-c", asked)) == (0, "[]\n", "")


def test_the_users_own_sitecustomize_runs_as_well(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "sitecustomize.py").write_text("print('own', __name__)")
    paths = [str(tmp_path / "own"), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    asked = "import sys; print(sys.modules['sitecustomize'].__file__)"
    code, out, err = ended(tracer_run(tmp_path, environment, "--", sys.executable, "-c", asked))
    by_the_command = "own sitecustomize\n"
    assert (code, out, err) == (0, f"{by_the_command}own sitecustomize\n{tmp_path}/own/sitecustomize.py\n", "")


@pytest.mark.parametrize(
    ("own", "told"),
    [
        ("import sitecustomize_of_nobody", "No module named 'sitecustomize_of_nobody'"),
        ("raise ValueError('broken')", "ValueError: broken"),
        ("import sys; sys.exit(9)", "SystemExit: 9"),
    ],
)
def test_a_sitecustomize_of_the_users_that_fails_does_so_as_without_us(
    own: str, told: str, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(own)
    program = (sys.executable, "-c", "print('ran')")
    results = []
    for ours in ([], [str(HOOKS)]):
        found = {**environment, "PYTHONPATH": os.pathsep.join([*ours, str(tmp_path)])}
        code, out, err = ended(start(tmp_path, found, *program))
        results.append((code, out, err.splitlines()[-1]))
    assert results[0] == results[1]
    assert told in results[1][2]


def test_a_start_imports_nothing_else(environment: dict[str, str], tmp_path: Path) -> None:
    """Each Python program that is started pays for what is imported there."""
    asked = "import sys; print(sorted(sys.modules))"
    path = environment.get("PYTHONPATH", "")
    _, before, _ = ended(start(tmp_path, {**environment, "PYTHONPATH": path}, sys.executable, "-c", asked))
    found = {**environment, "PYTHONPATH": os.pathsep.join([str(HOOKS), path])}
    _, after, _ = ended(start(tmp_path, found, sys.executable, "-c", asked))
    assert set(ast.literal_eval(after)) - set(ast.literal_eval(before)) == {"sitecustomize"}


OLD = {version: found for version in ("2.7", "3.6", "3.7", "3.8", "3.9") if (found := python_of(version))}


@pytest.mark.skipif(not OLD, reason="needs a Python that tracer does not support, of pyenv")
@pytest.mark.parametrize("version", OLD)
@pytest.mark.parametrize("own", [True, False], ids=["own sitecustomize", "none"])
def test_a_python_that_is_too_old_notices_nothing(
    version: str, own: bool, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "openai.py").write_text("")
    if own:
        (tmp_path / "sitecustomize.py").write_text("print('own')")
    found = {**environment, "PYTHONPATH": os.pathsep.join([str(HOOKS), str(tmp_path)])}
    code, out, err = ended(start(tmp_path, found, OLD[version], "-B", "-c", "import openai; print('ran')"))
    assert (code, out.split(), err) == (0, ["own", "ran"] if own else ["ran"], "")


@pytest.mark.parametrize("option", ["-S", "-I", "-E"])
def test_a_python_that_looks_at_no_variables_runs_untraced(
    option: str, environment: dict[str, str], tmp_path: Path
) -> None:
    found = {**environment, "PYTHONPATH": str(HOOKS)}
    code, out, err = ended(start(tmp_path, found, sys.executable, option, "-c", "print('ran')"))
    assert (code, out, err) == (0, "ran\n", "")


def test_a_python_without_tracer_says_so_when_it_imports_openai(environment: dict[str, str], tmp_path: Path) -> None:
    venv.create(tmp_path / "other", with_pip=False, symlinks=True)
    (tmp_path / "openai.py").write_text("")
    python = str(tmp_path / "other" / "bin" / "python")
    found = {**environment, "PYTHONPATH": str(HOOKS)}
    assert ended(start(tmp_path, found, python, "-c", "print('ran')")) == (0, "ran\n", "")
    code, out, err = ended(start(tmp_path, found, python, "-c", "import openai; print('ran')"))
    assert (code, out) == (0, "ran\n")
    assert err.endswith(f"the program runs without it: tracer is not installed for this Python, {python}\n")


def test_a_wrong_setting_does_not_keep_the_program_from_running(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(CALL)
    code, out, err = ended(tracer_run(tmp_path, {**environment, "TRACER_SAMPLE_RATE": "many"}, "app.py"))
    assert (code, out[:4]) == (0, "argv")
    assert "tracing could not be switched on; the program runs without it" in err
    assert "TRACER_SAMPLE_RATE must be a number" in err


@pytest.mark.parametrize("own", ["import sys; sys.exit(9)", "autolog = None"])
def test_a_module_of_the_users_that_is_called_tracer_is_not_imported(
    own: str, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "tracer.py").write_text(own)
    (tmp_path / "app.py").write_text(CALL)
    code, out, err = ended(tracer_run(tmp_path.parent, environment, str(tmp_path / "app.py")))
    assert (code, out[:4]) == (0, "argv")
    assert err == (
        "tracing could not be switched on; the program runs without it: the module `tracer` of this program is another "
        "one\n"
    )


def test_a_relative_uri_is_meant_from_where_the_command_is_called(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    source = f"import os; os.chdir('deep')\n{CALL}"
    arguments = ("--uri", "sqlite:///run.db", "--", sys.executable, "-c", source)
    assert ended(tracer_run(tmp_path, environment, *arguments))[0] == 0
    assert len(traces(tmp_path)) == 1


def test_a_server_is_traced_and_gets_its_signals(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "service.py").write_text(
        "import openai\n"
        "client = openai.AsyncOpenAI()\n"
        "async def app(scope, receive, send):\n"
        "    assert scope['type'] == 'http'\n"
        "    answer = await client.responses.create(model='gpt-5', input='Hi')\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': answer.output_text.encode()})\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    process = tracer_run(tmp_path, environment, "-m", "uvicorn", "service:app", "--port", port, "--lifespan", "off")
    with process:
        assert process.stderr is not None
        for line in process.stderr:
            if "Uvicorn running" in line:
                break
        assert httpx.get(f"http://127.0.0.1:{port}/", timeout=LIMIT).text == "You said: Hi"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=LIMIT)
    assert len(traces(tmp_path)) == 1


def test_what_can_not_be_run_is_told() -> None:
    assert "there is no program 'no-such-program' to run" in fails(1, "run", "no-such-program")
    assert "name the program to run: tracer run -- python app.py" in fails(2, "run")


class TestAutolog:
    @pytest.fixture
    def site(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A directory that Python looks into as it does into site-packages."""
        (tmp_path / "site").mkdir()
        monkeypatch.setattr(run, "_hook_path", lambda: tmp_path / "site" / "tracer.pth")
        return tmp_path / "site"

    def traced(self, site: Path, environment: dict[str, str], value: str) -> int:
        source = f"import site; site.addsitedir({str(site)!r})\n{CALL}"
        process = start(site.parent, {**environment, "TRACER_AUTOLOG": value}, sys.executable, "-c", source)
        assert ended(process)[0::2] == (0, "")
        return len(traces(site.parent)) if (site.parent / "run.db").exists() else 0

    def test_the_variable_counts_where_it_is_installed(
        self, site: Path, environment: dict[str, str], tmp_path: Path
    ) -> None:
        assert self.traced(site, environment, "1") == 0
        assert invoke("autolog", "install").out == f"installed {site}/tracer.pth\n"
        assert invoke("autolog", "install").out == f"installed {site}/tracer.pth\n"
        assert self.traced(site, environment, "0") == 0
        assert self.traced(site, environment, "1") == 1
        source = f"import site; site.addsitedir({str(site)!r}); site.addsitedir({str(site)!r})\n{CALL}"
        program = ("--", sys.executable, "-c", source)
        assert ended(tracer_run(tmp_path, {**environment, "TRACER_AUTOLOG": "1"}, *program))[0::2] == (0, "")
        assert len(traces(tmp_path)) == 2
        assert invoke("autolog", "remove", "--json").json == {"removed": f"{site}/tracer.pth"}
        assert self.traced(site, environment, "1") == 2

    def test_nothing_is_said_to_be_removed_that_was_not_there(self, site: Path) -> None:
        assert invoke("autolog", "remove").out == f"nothing to remove: there is no {site}/tracer.pth\n"
        assert invoke("autolog", "remove", "--json").json == {"removed": None}
        invoke("autolog", "install")
        assert invoke("autolog", "remove").out == f"removed {site}/tracer.pth\n"
        assert invoke("autolog", "remove").out.startswith("nothing to remove")

    def test_a_file_that_can_not_be_deleted_is_told(self, site: Path) -> None:
        (site / "tracer.pth").mkdir()
        assert f"{site}/tracer.pth can't be deleted: " in fails(1, "autolog", "remove")

    @pytest.mark.parametrize("value", ["0", "1"])
    def test_a_start_imports_nothing_else(
        self, value: str, site: Path, environment: dict[str, str], tmp_path: Path
    ) -> None:
        source = f"import site, sys; before = set(sys.modules); site.addsitedir({str(site)!r})\n"
        source += "print(set(sys.modules) - before, [type(finder).__name__ for finder in sys.meta_path][0])"
        invoke("autolog", "install")
        process = start(tmp_path, {**environment, "TRACER_AUTOLOG": value}, sys.executable, "-c", source)
        code, out, err = ended(process)
        assert (code, err, out[:5]) == (0, "", "set()")
        assert ("_WaitForOpenai" in out) == (value == "1")

    def test_a_file_that_is_left_behind_does_nothing(
        self, site: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(run, "_DIRECTORY", site / "gone")
        invoke("autolog", "install")
        assert self.traced(site, environment, "1") == 0

    def test_a_place_that_can_not_be_written_is_told(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(run, "_hook_path", lambda: tmp_path / "gone" / "tracer.pth")
        assert "can't be written: No such file or directory" in fails(1, "autolog", "install")
