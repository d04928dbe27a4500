"""Reads records of images, audio, moderations and runs, knowing nothing of `tracer.interpret`; see `reader`."""

from __future__ import annotations

import json
import mimetypes
from typing import Any

from tests.conformance.corpus import Record, recorded_file
from tests.conformance.reader import Answer, Json, reported_tokens

__all__ = ["expected_form", "read_more_answer", "read_more_events"]


def expected_form(record: Record) -> Json:
    """What the inputs of a multipart request must be: its fields, and for files what is known without reading them."""
    form: Json = {}
    for name, value in record.request_json.items():
        file = recorded_file(value)
        if file is None:
            form[name] = value
        else:
            filename, data, kind = file
            guessed = mimetypes.guess_type(filename)[0] or "application/octet-stream"
            form[name] = {"filename": filename, "content_type": kind or guessed, "size": len(data)}
    return form


def read_more_answer(operation: str, body: Any) -> Answer:
    """Read a plain response, or what a stream was put together to."""
    if isinstance(body, str):
        return Answer(texts=[body], finish="completed")
    answer = Answer(id=body.get("id"), model=body.get("model"), usage=reported_tokens(body.get("usage")))
    answer.finish = "failed" if body.get("error") else "completed"
    if operation == "runs":
        _read_run(body, answer)
    elif "text" in body:
        answer.texts = [body["text"]]
    return answer


def _read_run(run: Json, answer: Answer) -> None:
    if "error" in run:
        return
    answer.finish_reasons = [run["status"]]
    ends = {"failed": "failed", "expired": "failed", "incomplete": "incomplete"}
    answer.finish = "cancelled" if run["status"].startswith("cancel") else ends.get(run["status"], "completed")
    for message in run.get("messages") or []:
        answer.texts.append("".join(part["text"]["value"] for part in message["content"] if part["type"] == "text"))
    for call in ((run.get("required_action") or {}).get("submit_tool_outputs") or {}).get("tool_calls") or []:
        answer.tool_calls.append((call["id"], call["function"]["name"], call["function"]["arguments"]))
    for step in run.get("steps") or []:
        calls = step["step_details"].get("tool_calls") or []
        answer.shown += sum(call["type"] != "function" for call in calls)


def read_more_events(operation: str, events: list[str]) -> Answer:
    """Read the data of a stream's events, as far as they go."""
    bodies: list[Json] = [json.loads(data) for data in events if not data.startswith("[DONE]")]
    if operation == "runs":
        return _read_run_events(bodies)
    done = [body for body in bodies if body["type"].endswith(".done")]
    answer = read_more_answer(operation, done[-1]) if done else Answer()
    if not done:
        pieces = [body["delta"] for body in bodies if body["type"] == "transcript.text.delta"]
        segments = [body["text"] for body in bodies if body["type"] == "transcript.text.segment"]
        answer.texts = ["".join(pieces or segments)] if pieces or segments else []
    return answer


def _read_run_events(bodies: list[Json]) -> Answer:
    """Let later states of an object replace earlier ones; add deltas to what they belong to."""
    objects: dict[str, dict[str, Json]] = {"thread.run": {}, "thread.message": {}, "thread.run.step": {}}
    for body in bodies:
        kind = body["object"]
        if kind in objects:
            objects[kind][body["id"]] = json.loads(json.dumps(body))
        elif kind == "thread.message.delta":
            _add_text(objects["thread.message"][body["id"]], body["delta"].get("content") or [])
        elif kind == "thread.run.step.delta":
            _add_calls(objects["thread.run.step"][body["id"]], body["delta"]["step_details"].get("tool_calls") or [])
    runs = list(objects["thread.run"].values())
    if not runs:
        return Answer()
    messages, steps = objects["thread.message"].values(), objects["thread.run.step"].values()
    answer = read_more_answer("runs", {**runs[-1], "messages": list(messages), "steps": list(steps)})
    if runs[-1]["status"] in ("queued", "in_progress"):
        answer.finish = None
    return answer


def _add_text(message: Json, parts: list[Json]) -> None:
    for part in parts:
        while len(message["content"]) <= part["index"]:
            message["content"].append({"type": part["type"], "text": {"value": ""}})
        if part["type"] == "text":
            message["content"][part["index"]]["text"]["value"] += part["text"].get("value") or ""


def _add_calls(step: Json, pieces: list[Json]) -> None:
    calls = step["step_details"].setdefault("tool_calls", [])
    for piece in pieces:
        while len(calls) <= piece["index"]:
            calls.append({"type": piece.get("type")})
