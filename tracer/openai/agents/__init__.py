"""The OpenAI Agents SDK: its spans, runs and errors in the same tree as model calls and users' own spans.

Importing the SDK takes 2 s of CPU and 45 MB, so it is neither imported here nor by ``autolog()``: what it needs is
installed at once if the SDK is imported already, else the moment that it is.
"""

from __future__ import annotations

import sys
import threading

from tracer.openai.agents._lazy import ImportHook
from tracer.openai.agents._options import Options

__all__ = ["Options", "instrument", "uninstrument"]

SDK_MODULE = "agents.run"  # the last that we need; it has imported the SDK's tracing

_lock = threading.RLock()
_options: Options | None = None  # None: switched off


def instrument(options: Options) -> None:
    """Trace the runs of the Agents SDK from now on, or from its import on; called again, take the new options."""
    global _options
    with _lock:
        _options = options
        if _is_imported():
            _wire()
        else:
            _hook.add()


def uninstrument() -> None:
    """Put the SDK's own processors and methods back.

    A run that is under way is recorded to its end; the SDK's spans in it are abandoned when the SDK lets go of them.
    """
    global _options
    with _lock:
        _options = None
        _hook.remove()
        wiring = sys.modules.get(f"{__name__}._wiring")
        if wiring is not None:
            wiring.uninstall()


def _is_imported() -> bool:
    """Tell whether the SDK is there. Not while another thread imports it: it would wait for us, and we for it."""
    module = sys.modules.get(SDK_MODULE)
    return module is not None and not getattr(module.__spec__, "_initializing", False)


def _wire() -> None:
    with _lock:
        if _options is None or not _is_the_sdk():
            return
        from tracer.openai.agents import _wiring  # imports the SDK

        _wiring.install(_options)


def _is_the_sdk() -> bool:
    """Tell the SDK from a package of the user's that is called ``agents`` too."""
    run, tracing = sys.modules.get(SDK_MODULE), sys.modules.get("agents.tracing")
    return hasattr(run, "AgentRunner") and hasattr(tracing, "TracingProcessor")


_hook = ImportHook(SDK_MODULE, _wire)
