"""Installing into the Agents SDK and removing again: the processor, the SDK's exporter, two methods that run agents.

This module imports the SDK, so it is imported only once the SDK is.
"""

from __future__ import annotations

import logging
from typing import Any

from agents.run import AgentRunner
from agents.tracing import processors as sdk_processors
from agents.tracing import setup as sdk_setup
from agents.tracing.provider import DefaultTraceProvider

from tracer.openai.agents import _runs
from tracer.openai.agents._options import Options
from tracer.openai.agents._processor import TracerProcessor

__all__ = ["install", "uninstall"]

logger = logging.getLogger("tracer")

_processor = TracerProcessor()
_taken_away: tuple[Any, ...] | None = None  # the SDK's own processors; None: nothing was taken away
_patched: dict[str, tuple[Any, Any]] = {}  # name: (what was there, what we put there)


def install(options: Options) -> None:
    """Register our processor and patch the runner. If this is done already, only take the new options."""
    _processor.options = options
    _put_back_own()
    if options.replace_exporter:
        _take_own_away()
    provider = sdk_setup.get_trace_provider()
    if _processor not in _registered(provider):
        provider.register_processor(_processor)
    for name, wrap in (("run", _runs.wrap_run), ("run_streamed", _runs.wrap_run_streamed)):
        current = AgentRunner.__dict__.get(name)
        if current is not None and name not in _patched:
            _patched[name] = current, wrap(current, _processor)
            setattr(AgentRunner, name, _patched[name][1])


def uninstall() -> None:
    """Undo `install`. Another library's wrappers around our methods stay, and ours below do nothing."""
    _processor.options = None
    provider = sdk_setup.GLOBAL_TRACE_PROVIDER
    if provider is not None:
        _put_back_own()
        _set(provider, tuple(other for other in _registered(provider) if other is not _processor))
    for name, (original, ours) in list(_patched.items()):
        if AgentRunner.__dict__.get(name) is ours:
            setattr(AgentRunner, name, original)
            del _patched[name]


def _take_own_away() -> None:
    """Take the processors that post to OpenAI out of the list; those that a user added stay."""
    global _taken_away
    provider = sdk_setup.GLOBAL_TRACE_PROVIDER
    if provider is None:
        # The SDK's tracing is not set up yet. Set up here without the default processor, it needs no HTTP client: that
        # saves 0.25 s of CPU.
        sdk_setup.set_trace_provider(DefaultTraceProvider())
        _taken_away = ()
        return
    own = tuple(other for other in _registered(provider) if _posts_to_openai(other))
    if own:
        _taken_away = own
        _set(provider, tuple(other for other in _registered(provider) if other not in own))


def _put_back_own() -> None:
    """Put back what `_take_own_away` took, unless the user has meanwhile replaced the whole list, ours included."""
    global _taken_away
    taken, _taken_away = _taken_away, None
    provider = sdk_setup.GLOBAL_TRACE_PROVIDER
    if taken is None or provider is None or _processor not in _registered(provider):
        return
    present = _registered(provider)
    back = taken or (sdk_processors.default_processor(),)
    _set(provider, (*(own for own in back if own not in present), *present))


def _posts_to_openai(processor: Any) -> bool:
    exporter = getattr(processor, "_exporter", None)
    return isinstance(exporter, sdk_processors.BackendSpanExporter)


def _registered(provider: Any) -> tuple[Any, ...]:
    """Return a provider's processors, which the SDK can only set, not return; none for a provider of the user's own."""
    return tuple(getattr(getattr(provider, "_multi_processor", None), "_processors", ()))


def _set(provider: Any, processors: tuple[Any, ...]) -> None:
    if processors != _registered(provider):
        provider.set_processors(list(processors))
