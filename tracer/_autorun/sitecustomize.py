"""Runs when Python starts, and switches tracing on as soon as the program has imported openai.

``tracer run`` puts this directory on ``PYTHONPATH``, where Python's `site` module looks for a ``sitecustomize``; the
processes that the program starts inherit it. ``tracer autolog install`` has Python run this file where
``TRACER_AUTOLOG`` is set. OpenTelemetry's ``opentelemetry-instrument`` and ddtrace's ``ddtrace-run`` work like the
former.

A program that never imports openai does not import tracer either, and nothing here may keep a program from starting.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

_HERE = Path(__file__).resolve().parent


def _switch_on() -> None:
    try:
        spec = importlib.util.find_spec("tracer")
        if spec is None or spec.origin is None or Path(spec.origin).resolve().parent != _HERE.parent:
            _report("the module `tracer` of this program is another one")
            return
        import tracer

        tracer.autolog()
    except Exception as error:
        _report(error)


def _report(reason: object) -> None:
    logging.getLogger("tracer").error("tracing could not be switched on; the program runs without it: %s", reason)


def _load(name: str, path: Path) -> ModuleType:
    spec: Any = importlib.util.spec_from_file_location(name, path)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _wait_for_openai() -> None:
    if "openai" in sys.modules:
        _switch_on()
    elif "_tracer_import_hook" not in sys.modules:  # `tracer run` where `tracer autolog install` was called, too
        hook = _load("_tracer_import_hook", _HERE.parent / "process" / "import_hook.py")
        hook.ImportHook("openai", _switch_on).add()


def _run_the_hidden_one() -> None:
    """Run the ``sitecustomize`` that Python would have found without us, and take its directory's place."""
    sys.path[:] = [entry for entry in sys.path if not entry or Path(entry).resolve() != _HERE]
    spec = PathFinder.find_spec("sitecustomize", sys.path)
    if spec is not None and spec.loader is not None:
        sys.modules["sitecustomize"] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)


try:
    _wait_for_openai()
except Exception as error:
    _report(error)
if __name__ == "sitecustomize":
    _run_the_hidden_one()
