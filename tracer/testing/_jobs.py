"""Jobs that a client polls until they have ended: background responses, `/videos`, runs of assistants.

Each poll of a job shows its next state: `queued`, `in_progress`, then its final state.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator

from tracer.testing._answer import Answer, Json, count_words, deltas
from tracer.testing._prompts import text_of
from tracer.testing._wire import DONE, SSE, Mint, Payload, RefusedError, frame

__all__ = ["Jobs", "run_events", "run_object", "video_object"]

_KEPT = 1000
_STATES = ("queued", "in_progress")


class Jobs:
    """The final state of each job, and how often it was polled."""

    def __init__(self) -> None:
        self._ends: OrderedDict[str, Json] = OrderedDict()
        self._looks: dict[str, int] = {}

    def start(self, end: Json) -> Json:
        """Begin a job whose final state is `end`; returns its current state."""
        self._ends[end["id"]] = end
        self._looks[end["id"]] = 0
        if len(self._ends) > _KEPT:
            self._looks.pop(self._ends.popitem(last=False)[0])
        return unfinished(end, "queued")

    def look(self, job_id: str) -> Json | None:
        """A job's state at the next poll; `None` if there is no such job."""
        if job_id not in self._ends:
            return None
        look = self._looks[job_id]
        self._looks[job_id] = look + 1
        return self._ends[job_id] if look >= len(_STATES) else unfinished(self._ends[job_id], _STATES[look])

    def find(self, job_id: str) -> Json:
        """A job's final state."""
        if job_id not in self._ends:
            raise RefusedError(f"No job found with id '{job_id}'.", status=404)
        return self._ends[job_id]


def unfinished(end: Json, status: str) -> Json:
    """A job before its end, without the fields that only the end brings."""
    empty = {"completed_at": None, "error": None, "last_error": None, "required_action": None, "usage": None}
    hidden: Json = {key: value for key, value in empty.items() if key in end}
    if "output" in end:
        hidden["output"] = []
    if "progress" in end:
        hidden["progress"] = 0 if status == "queued" else 50
    return {**end, **hidden, "status": status}


def video_object(body: Json, answer: Answer | None, mint: Mint) -> Json:
    """A finished video, or a failed one if the model failed."""
    now = int(time.time())
    failure = answer.failure if answer is not None else None
    return {
        "id": mint("video_"),
        "object": "video",
        "created_at": now,
        "completed_at": None if failure else now,
        "status": "failed" if failure else "completed",
        "error": {"code": failure[0], "message": failure[1]} if failure else None,
        "model": body.get("model") or "sora-2",
        "progress": 100,
        "prompt": body.get("prompt"),
        "seconds": str(body.get("seconds") or 4),
        "size": body.get("size") or "720x1280",
    }


# --- runs -------------------------------------------------------------------------------------------------------------


def run_object(body: Json, thread_id: str, answer: Answer | None, mint: Mint, *, run_id: str | None = None) -> Json:
    """A run in its final state: completed, failed, or waiting for the outputs of the functions that were scripted."""
    now = int(time.time())
    calls = [
        {"id": mint("call_"), "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in (answer.tool_calls if answer is not None else ())
    ]
    waiting = {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": calls}}
    failure = answer.failure if answer is not None else None
    status = "failed" if failure else "requires_action" if calls else "completed"
    words = count_words(run_text(body, answer))
    usage = {"prompt_tokens": 10, "completion_tokens": words, "total_tokens": 10 + words}
    return {
        "id": run_id or mint("run_"),
        "object": "thread.run",
        "created_at": now,
        "completed_at": now if status == "completed" else None,
        "assistant_id": body.get("assistant_id") or "asst_1",
        "thread_id": thread_id,
        "status": status,
        "required_action": waiting if calls else None,
        "last_error": {"code": failure[0], "message": failure[1]} if failure else None,
        "model": body.get("model") or "gpt-4o",
        "instructions": body.get("instructions") or "",
        "tools": [],
        "metadata": {},
        "parallel_tool_calls": True,
        "usage": usage if status == "completed" else None,
    }


def run_text(body: Json, answer: Answer | None) -> str:
    """What the assistant says: what was scripted, or what the last message or tool said."""
    if answer is not None and answer.text:
        return answer.text
    messages = [*((body.get("thread") or {}).get("messages") or ()), *(body.get("additional_messages") or ())]
    outputs = [output.get("output") for output in body.get("tool_outputs") or ()]
    said = [text_of(message["content"]) for message in messages] + outputs
    return f"You said: {said[-1]}" if said else "Hello!"


def run_events(run: Json, text: str, mint: Mint) -> Payload:
    """The stream of a run: its states, a step, a message in small pieces, its end."""
    return Payload((*_run_frames(run, text, mint), b"event: done\n" + DONE), SSE, streamed=True)


def _run_frames(run: Json, text: str, mint: Mint) -> Iterator[bytes]:
    for word in ("created", "queued", "in_progress"):
        yield frame(unfinished(run, "queued" if word == "created" else word), f"thread.run.{word}")
    if run["status"] == "completed":
        yield from _message_frames(run, text, mint)
    yield frame(run, f"thread.run.{run['status']}")


def _message_frames(run: Json, text: str, mint: Mint) -> Iterator[bytes]:
    message: Json = {"id": mint("msg_"), "object": "thread.message", "role": "assistant", "content": []}
    message |= {key: run[key] for key in ("assistant_id", "created_at", "thread_id")} | {"run_id": run["id"]}
    details = {"type": "message_creation", "message_creation": {"message_id": message["id"]}}
    step: Json = {"id": mint("step_"), "object": "thread.run.step", "type": "message_creation", "step_details": details}
    step |= {"run_id": run["id"], "thread_id": run["thread_id"], "status": "in_progress"}
    yield frame(step, "thread.run.step.created")
    yield frame(message | {"status": "in_progress"}, "thread.message.created")
    for piece in deltas(text):
        part = {"index": 0, "type": "text", "text": {"value": piece}}
        delta = {"id": message["id"], "object": "thread.message.delta", "delta": {"content": [part]}}
        yield frame(delta, "thread.message.delta")
    content = [{"type": "text", "text": {"value": text, "annotations": []}}]
    yield frame(message | {"status": "completed", "content": content}, "thread.message.completed")
    yield frame(step | {"status": "completed", "usage": run["usage"]}, "thread.run.step.completed")
