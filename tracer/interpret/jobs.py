"""What jobs have in common: background responses, videos, runs. Their status, and how long the server took."""

from __future__ import annotations

from typing import Any

from tracer import _semconv as sc
from tracer.interpret import responses
from tracer.interpret._json import as_text, decode_json
from tracer.interpret._views import ResponseView
from tracer.interpret.sse import Event

__all__ = ["is_running", "read_background", "read_background_stream", "read_job"]

# Only what was made in the background is returned like this.
_RUNNING = frozenset({"cancelling", "in_progress", "pending", "processing", "queued", "running"})
_FIRST_EVENTS = 5  # a stream says within these that the response was queued, and that it runs


def read_job(body: dict[str, Any], view: ResponseView) -> None:
    """Fill in a job's status. If it has ended, also how long it took by the server's clock, waiting included."""
    if status := as_text(body.get("status")):
        view.attributes[sc.RESPONSE_STATUS] = status
    created, completed = body.get("created_at"), body.get("completed_at")
    if isinstance(created, (int, float)) and isinstance(completed, (int, float)):
        view.attributes[sc.JOB_SERVER_TIME] = completed - created


def is_running(status: Any) -> bool:
    """Tell whether a status says that the job has not ended."""
    return type(status) is str and status.lower() in _RUNNING


def read_background(body: dict[str, Any], view: ResponseView) -> None:
    """Fill in everything that a plain response says, and the job's status if it was made in the background."""
    responses.read_response(body, view)
    if body.get("background") is True or is_running(body.get("status")):
        read_job(body, view)


def read_background_stream(events: list[Event], view: ResponseView) -> Any:
    """Rebuild a stream as `tracer.interpret.responses` does, and tell how long the response was queued."""
    body = responses.read_stream(events, view)
    if type(body) is dict and body.get("background") is True:
        read_job(body, view)
        if (seconds := _queue_time(events)) is not None:
            view.attributes[sc.JOB_QUEUE_TIME] = seconds
    return body


def _queue_time(events: list[Event]) -> float | None:
    """Return the seconds from ``response.queued`` to ``response.in_progress``; None for a stream without both."""
    times: dict[str, int] = {}
    for time_ns, name, data in events[:_FIRST_EVENTS]:
        times.setdefault(name or _type_of(data), time_ns)
    if "response.queued" not in times or "response.in_progress" not in times:
        return None
    return (times["response.in_progress"] - times["response.queued"]) / 1e9


def _type_of(data: bytes) -> str:
    try:
        body = decode_json(data)
    except ValueError:
        return ""
    return as_text(body.get("type")) or "" if type(body) is dict else ""
