"""The OpenAI instrumentor: ``tracer.openai.autolog()``.

Importing this module imports nothing of the openai package; `autolog` does.
"""

from __future__ import annotations

from tracer._exceptions import ConfigurationError, MissingDependencyError
from tracer._runtime import runtime
from tracer.capture.argument_checks import check_bool
from tracer.interpret.cost import load_table
from tracer.openai import agents
from tracer.spans.executors import propagate_to_threads

__all__ = ["autolog"]


def autolog(
    *,
    disable: bool = False,
    capture_content: bool | None = None,
    disable_openai_agent_tracer: bool = True,
    stream_usage: bool = False,
    propagate: bool = False,
    capture_audio: bool = False,
) -> None:
    """Trace every call made through the ``openai`` package from now on, or stop.

    Sees clients, resources and bound methods that exist already, Azure and module-level clients, subclasses,
    ``create``, ``parse``, ``stream``, ``with_raw_response`` and ``with_streaming_response``, sync and async. Users
    still get the SDK's own objects, and the server still gets the same bytes. Calling it again replaces the options.

    Args:
        disable: Put the classes back as they were. Streams that are still running are recorded to their end.
        capture_content: False stores structure, model, usage and times, and no text. None: as
            ``tracer.configure(capture_content=…)`` says.
        disable_openai_agent_tracer: For the Agents SDK: remove its own processor, which posts traces to OpenAI, while
            tracing is on. Processors that you added stay. False: our processor is added beside it.
        stream_usage: Ask for usage in chat streams (``stream_options.include_usage``), which changes the request:
            the stream then ends with a chunk whose ``choices`` are empty. Off unless asked for.
        propagate: Send a W3C ``traceparent`` header along, unless the caller set one. Off unless asked for: some
            gateways reject unknown headers.
        capture_audio: Store the audio of Realtime sessions, too. When off, only the number of its bytes and its
            transcripts are stored. With ``capture_content=False``, nothing of the audio is stored.

    Raises:
        ConfigurationError: An option has the wrong type, or a ``TRACER_…`` environment variable can't be understood.
    """
    for name, value in (
        ("disable", disable),
        ("disable_openai_agent_tracer", disable_openai_agent_tracer),
        ("stream_usage", stream_usage),
        ("propagate", propagate),
        ("capture_audio", capture_audio),
    ):
        check_bool(name, value)
    if capture_content is not None and not isinstance(capture_content, bool):
        raise ConfigurationError(f"capture_content must be True, False or None, got {capture_content!r}")
    try:
        from tracer.openai import _patch  # imports openai
    except ModuleNotFoundError as error:
        if error.name != "openai":
            raise
        raise MissingDependencyError("tracer.openai.autolog()", package="openai", extra="all") from error
    if disable:
        _patch.uninstrument()
        agents.uninstrument()
        propagate_to_threads(False)
        return
    runtime.check_environment()  # so that a wrong setting is reported here, by the call that sets things up
    runtime.warm_up()
    propagate_to_threads(runtime.settings.propagate_to_threads)
    load_table()  # not in the worker: loading there would delay the user's event loop
    _patch.instrument(
        _patch.Options(
            capture_content=capture_content,
            stream_usage=stream_usage,
            propagate=propagate,
            capture_audio=capture_audio,
        )
    )
    agents.instrument(agents.Options(capture_content=capture_content, replace_exporter=disable_openai_agent_tracer))
