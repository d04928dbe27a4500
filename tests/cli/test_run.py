"""``tracer run`` and ``tracer autolog``: programs that know nothing of tracer are traced, and run as before."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

import tracer
from tests.cli.commands import clean_environment, fails, invoke
from tracer.cli import run
from tracer.testing import FakeOpenAI

CALL = """
import openai, os, sys
openai.OpenAI().chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "Hi"}])
print("argv", sys.argv[1:], os.getpid())
"""
LIMIT = 60.0  # seconds, for a busy machine


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
        assert self.traced(site, environment, "0") == 0
        assert self.traced(site, environment, "1") == 1
        source = f"import site; site.addsitedir({str(site)!r}); site.addsitedir({str(site)!r})\n{CALL}"
        program = ("--", sys.executable, "-c", source)
        assert ended(tracer_run(tmp_path, {**environment, "TRACER_AUTOLOG": "1"}, *program))[0::2] == (0, "")
        assert len(traces(tmp_path)) == 2
        assert invoke("autolog", "remove", "--json").json == {"removed": f"{site}/tracer.pth"}
        assert self.traced(site, environment, "1") == 2
        assert invoke("autolog", "remove").code == 0

    def test_a_file_that_is_left_behind_does_nothing(
        self, site: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(run, "_DIRECTORY", site / "gone")
        invoke("autolog", "install")
        assert self.traced(site, environment, "1") == 0

    def test_a_place_that_can_not_be_written_is_told(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(run, "_hook_path", lambda: tmp_path / "gone" / "tracer.pth")
        assert "can't be written: No such file or directory" in fails(1, "autolog", "install")
