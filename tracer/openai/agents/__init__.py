"""The OpenAI Agents SDK: its spans, runs and errors in the same tree as model calls and users' own spans.

Importing the SDK takes 2 s of CPU and 45 MB, so neither this module nor ``autolog()`` imports it. If the SDK is
imported already, our processor and patches are installed at once; otherwise as soon as it is imported.
"""

from __future__ import annotations

import sys
import threading

from tracer.openai.agents._options import Options
from tracer.process.import_hook import ImportHook
from tracer.process.imports import imported
from tracer.spans.guard import guarded

__all__ = ["Options", "instrument", "uninstrument"]

SDK_MODULE = "agents.run"  # the last module that we need; it imports the SDK's tracing

_lock = threading.RLock()
_options: Options | None = None  # None: switched off


def instrument(options: Options) -> None:
    """Trace the runs of the Agents SDK from now on, or from its import on. A later call replaces the options."""
    global _options
    with _lock:
        _options = options
        if _is_imported():
            _wire()
        else:
            _hook.add()


def uninstrument() -> None:
    """Put the SDK's own processors and methods back.

    A run that is under way is recorded to its end. The SDK's spans inside it end as abandoned when the SDK drops them.
    """
    global _options
    with _lock:
        _options = None
        _hook.remove()
        wiring = sys.modules.get(f"{__name__}._wiring")
        if wiring is not None:
            wiring.uninstall()


def _is_imported() -> bool:
    """Tell whether the SDK is imported. False while another thread imports it: that thread and we would deadlock."""
    return imported(SDK_MODULE) is not None


def _wire() -> None:
    with _lock:
        if _options is None or not _is_the_sdk():
            return
        from tracer.openai.agents import _wiring  # imports the SDK

        _wiring.install(_options)


def _is_the_sdk() -> bool:
    """Tell the SDK apart from a package of the user's that is also called ``agents``."""
    run, tracing = sys.modules.get(SDK_MODULE), sys.modules.get("agents.tracing")
    return hasattr(run, "AgentRunner") and hasattr(tracing, "TracingProcessor")


_hook = ImportHook(SDK_MODULE, guarded(_wire))
