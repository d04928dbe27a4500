"""Exceptions in words: stack trace, event attributes, status description. For the worker, as it reads source files."""

from __future__ import annotations

import linecache
import textwrap
from typing import Any

from tracer import _semconv as sc
from tracer.assembly._privacy import Privacy
from tracer.capture.records import Failure
from tracer.redact import api_keys

__all__ = ["describe_failure", "error_attributes", "exception_attributes", "format_failure", "left_out_of"]


def format_failure(failure: Failure) -> str:
    """Return the text that Python would print, causes first. Reads source files, so not for the caller's thread."""
    parts = []
    if failure.cause is not None:
        link = (
            "The above exception was the direct cause of the following exception:"
            if failure.explicit
            else "During handling of the above exception, another exception occurred:"
        )
        parts = [format_failure(failure.cause), "", link, ""]
    if failure.frames:
        parts.append("Traceback (most recent call last):")
        parts.extend(_format_frame(*frame) for frame in failure.frames)
    parts.append(f"{failure.type}: {failure.message}" if failure.message else failure.type)
    for number, member in enumerate(failure.members, 1):
        parts += ["", textwrap.indent(f"Sub-exception {number}:\n{format_failure(member)}", "    ")]
    if failure.left_out:
        parts += ["", f"[{failure.left_out} more not kept]"]
    return "\n".join(parts)


def left_out_of(failure: Failure) -> int:
    """Return how many causes and members were too many to be kept."""
    inner = [*failure.members] if failure.cause is None else [failure.cause, *failure.members]
    return failure.left_out + sum(map(left_out_of, inner))


def _format_frame(file: str, line: int, function: str) -> str:
    source = linecache.getline(file, line).strip()
    return f'  File "{file}", line {line}, in {function}' + (f"\n    {source}" if source else "")


def exception_attributes(failure: Failure, privacy: Privacy) -> dict[str, Any]:
    """Return an ``exception`` event's attributes (OpenTelemetry's exception conventions; the bare class name)."""
    # A stack trace quotes source code, and somebody may have written an API key there.
    stacktrace = privacy.redact(api_keys(format_failure(failure))) if privacy.capture else ""
    return {
        sc.EXCEPTION_TYPE: failure.type,
        sc.EXCEPTION_MESSAGE: privacy.clean_note(failure.message),
        sc.EXCEPTION_STACKTRACE: stacktrace,
    }


def describe_failure(failure: Failure, privacy: Privacy) -> str:
    """Return a status description: the exception's class and message, or the class alone."""
    if not privacy.capture or not failure.message:
        return failure.type
    return f"{failure.type}: {privacy.redact(api_keys(failure.message))}"


def error_attributes(kind: str, message: str | None) -> dict[str, Any]:
    """Return the ``exception`` event's attributes for an error that the SDK raised while it read a stream.

    Our tap on the bytes can't see this exception: an error inside the stream (`openai.APIError`,
    ``openai/_streaming.py``), or compressed data that was damaged.
    """
    return {sc.EXCEPTION_TYPE: kind, sc.EXCEPTION_MESSAGE: message or "", sc.EXCEPTION_STACKTRACE: ""}
