"""Runs when Python starts, and switches tracing on as soon as the program has imported openai.

``tracer run`` puts this directory on ``PYTHONPATH``, where Python's `site` module looks for a ``sitecustomize``; the
processes that the program starts inherit it. ``tracer autolog install`` has Python run this file where
``TRACER_AUTOLOG`` is set. OpenTelemetry's ``opentelemetry-instrument`` and ddtrace's ``ddtrace-run`` work like the
former.

Every Python program pays for this file, so until openai is imported it imports nothing that Python had not imported
before. A program that never imports openai does not import tracer either, and nothing here may keep a program from
starting. Programs of older Pythons, which tracer does not support, run this file as well and must notice nothing. So
its syntax is one that Python 2 reads, too, and has no annotations.
"""

import os
import sys

_HERE = os.path.dirname(os.path.realpath(__file__))
_OLDEST = (3, 10)


class _WaitForOpenai(object):  # noqa: UP004  Python 2
    """A finder that finds nothing. At the import of openai, `ImportHook` takes its place: it costs more to import."""

    def find_spec(self, name, path=None, target=None):
        if name != "openai":
            return None
        try:
            sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not self]
            hook = _import_hook()
            hook.add()
        except Exception as error:
            _report(error)
            return None
        return hook.find_spec(name, path, target)


def _import_hook():
    """Return the hook, from its file: not by importing tracer, which may be another one in this program."""
    from importlib.machinery import SourceFileLoader

    name, path = "_tracer_import_hook", os.path.join(os.path.dirname(_HERE), "process", "import_hook.py")
    module = type(sys)(name)
    SourceFileLoader(name, path).exec_module(module)
    return module.ImportHook("openai", _switch_on)


def _switch_on():
    try:
        import importlib.util

        spec = importlib.util.find_spec("tracer")
        if spec is None:
            _report("tracer is not installed for this Python, " + sys.executable)
        elif os.path.realpath(os.path.dirname(spec.origin or "")) != os.path.dirname(_HERE):
            _report("the module `tracer` of this program is another one")
        else:
            import tracer

            tracer.autolog()
    except Exception as error:
        _report(error)


def _report(reason):
    import logging

    logging.getLogger("tracer").error("tracing could not be switched on; the program runs without it: %s", reason)


def _wait():
    if sys.version_info < _OLDEST:
        return
    if "openai" in sys.modules:
        _switch_on()
    elif not any(type(finder).__name__ == _WaitForOpenai.__name__ for finder in sys.meta_path):
        sys.meta_path.insert(0, _WaitForOpenai())  # once, also where `tracer run` starts what `install` had prepared


def _run_the_hidden_one():
    """Run the ``sitecustomize`` that Python would have found without us: as Python does, and in our place."""
    sys.path[:] = [entry for entry in sys.path if not entry or os.path.realpath(entry) != _HERE]
    ours = sys.modules.pop("sitecustomize")
    try:
        __import__("sitecustomize")
    except ImportError as error:
        if str(error).replace("'", "") != "No module named sitecustomize":  # there is one, and it misses something
            raise
    finally:
        sys.modules.setdefault("sitecustomize", ours)


try:
    _wait()
except Exception as error:
    _report(error)
if __name__ == "sitecustomize":
    _run_the_hidden_one()
