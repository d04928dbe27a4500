"""Rebuilding a Responses stream: from its terminal event, which holds everything, or else from the pieces."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from tracer.interpret._json import as_dict, as_dicts, as_index, as_text, decode_json, is_silent
from tracer.interpret.item_places import ItemPlaces, Place
from tracer.interpret.item_times import ItemTimes
from tracer.interpret.joined_output import join_items, says_the_same
from tracer.interpret.sse import DONE, Event
from tracer.interpret.usage import merge_usages

__all__ = ["ResponseStream"]

_LIFECYCLE = frozenset({"response.created", "response.queued", "response.in_progress"})
# Terminal events, and the status of their response.
_TERMINAL = {
    "response.completed": "completed",
    "response.incomplete": "incomplete",
    "response.failed": "failed",
    "response.cancelled": "cancelled",
    "response.done": "completed",  # Realtime: any status, and the response says which
}
_RUNNING = frozenset({None, "in_progress", "queued"})
# Of these fields, null says something.
_NULL_TELLS = frozenset({"completed_at", "error", "incomplete_details"})

# Events ``response.{kind}.delta`` and ``.done``: the path of the text in the output item (a name in braces stands for
# the event's field of that name), and the field of the ``.done`` event that holds the whole text.
_TEXTS: dict[str, tuple[tuple[str, ...], str]] = {
    "output_text": (("content", "{content_index}", "text"), "text"),
    "refusal": (("content", "{content_index}", "refusal"), "refusal"),
    "reasoning_text": (("content", "{content_index}", "text"), "text"),
    "reasoning_summary_text": (("summary", "{summary_index}", "text"), "text"),
    "function_call_arguments": (("arguments",), "arguments"),
    "mcp_call_arguments": (("arguments",), "arguments"),
    "custom_tool_call_input": (("input",), "input"),
    "code_interpreter_call_code": (("code",), "code"),
    "apply_patch_call_operation_diff": (("operation", "diff"), "diff"),
    "shell_call_command": (("action", "commands", "{command_index}"), "command"),
    # Realtime, and its beta
    "output_audio_transcript": (("content", "{content_index}", "transcript"), "transcript"),
    "audio_transcript": (("content", "{content_index}", "transcript"), "transcript"),
    "text": (("content", "{content_index}", "text"), "text"),
}
# The type of a part or an item when its own ``added`` event is missing (a resumed stream).
_PART_TYPES = {
    "output_text": "output_text",
    "refusal": "refusal",
    "reasoning_text": "reasoning_text",
    "reasoning_summary_text": "summary_text",
    "output_audio_transcript": "output_audio",
    "audio_transcript": "audio",
    "text": "text",
}
_ITEM_TYPES = {
    "output_text": "message",
    "refusal": "message",
    "reasoning_text": "reasoning",
    "reasoning_summary_text": "reasoning",
    "function_call_arguments": "function_call",
    "mcp_call_arguments": "mcp_call",
    "custom_tool_call_input": "custom_tool_call",
    "code_interpreter_call_code": "code_interpreter_call",
    "apply_patch_call_operation_diff": "apply_patch_call",
    "shell_call_command": "shell_call",
    "output_audio_transcript": "message",
    "audio_transcript": "message",
    "text": "message",
}
# Other names of some: in the API's list of Responses events, and before openai 1.99.
_SAME = {
    "audio.transcript": "output_audio_transcript",
    "reasoning": "reasoning_text",
    "reasoning_summary": "reasoning_summary_text",
}
# Events ``response.{kind}.added`` and ``.done`` that bring a whole part: the list that holds the part, and the field
# with its index.
_PARTS = {
    "content_part": ("content", "content_index"),
    "reasoning_part": ("content", "content_index"),
    "reasoning_summary_part": ("summary", "summary_index"),
}
# Events ``response.{kind of item}.{status}``.
_STATUSES = frozenset({"searching", "interpreting", "generating", "completed", "failed", "incomplete"})
# Tools whose own events show that they ran, even if nothing else tells of them.
_HOSTED = frozenset(
    {"web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call", "mcp_call"}
)
_MAX_LIST = 10_000  # a larger index is an error of the server and must not fill the memory

Path = tuple["str | int", ...]


class ResponseStream:
    """The events of one stream.

    Attributes:
        ended: The stream has its end mark: a terminal event, an error event or ``[DONE]``.
        error: What an ``error`` event said.
        first_token_ns: When the first delta came.
        times: When its items were added and done, and what happened in between.
        unreadable: How many events were not JSON objects.
    """

    def __init__(self, events: Iterable[Event]) -> None:
        self.ended = False
        self.error: Any = None
        self.first_token_ns: int | None = None
        self.times = ItemTimes()
        self.unreadable = 0
        self._response: dict[str, Any] = {}
        self._pieces: list[Event] = []
        self._done_items: list[dict[str, Any]] = []
        self._subjects: set[str] = set()  # of what deltas came
        for event in events:
            if event[2].startswith(DONE):
                self.ended = True
                break
            self._take(event)

    def _take(self, event: Event) -> None:
        """Sort one event. Deltas are not decoded here: if a terminal event comes, none of them is needed."""
        time_ns, name, data = event
        if name is not None and name.endswith(".delta"):
            self._note_delta(time_ns, name)
            self._pieces.append(event)
            return
        body = _decode(data)
        if body is None:
            self.unreadable += 1
            return
        kind = as_text(body.get("type")) or name or ""
        if kind.endswith(".delta"):
            self._note_delta(time_ns, kind)
        if kind in _TERMINAL or kind in _LIFECYCLE:
            response = as_dict(body.get("response"))
            if kind == "response.created" and (self.ended or self._is_another(response)):
                self._begin_again()
            self._response = _updated(self._response, response, kind)
            self.ended = self.ended or kind in _TERMINAL
        elif kind == "error" or (body.get("error") and not kind.startswith("response.")):
            self.error, self.ended = body.get("error") or body, True
        else:
            if not kind.endswith(".delta"):
                self.times.note(time_ns, kind, body)
            if kind == "response.output_item.done":
                self._done_items.append(as_dict(body.get("item")))
            self._pieces.append(event)

    def _is_another(self, response: dict[str, Any]) -> bool:
        known, given = as_text(self._response.get("id")), as_text(response.get("id"))
        return known is not None and given not in (None, known)

    def _begin_again(self) -> None:
        """Forget a response: the server goes on with another, and the last one is the call's result."""
        self.ended, self._response = False, {}
        self._pieces.clear()
        self.times.clear()
        self._done_items.clear()
        self._subjects.clear()

    def _note_delta(self, time_ns: int, kind: str) -> None:
        self._subjects.add(kind)
        if self.first_token_ns is None:
            self.first_token_ns = time_ns

    def rebuild(self) -> dict[str, Any] | None:
        """Return the response as a plain call would return it, as far as it came; None if nothing came."""
        if not self._response and not self._pieces:
            return {"error": self.error} if self.error is not None else None
        body = dict(self._response)
        output = as_dicts(body.get("output"))
        if not self._is_whole(output):
            body["output"] = join_items(output, self._rebuild_output(names=bool(output)))
        if self.error is not None and not body.get("error"):
            body["error"] = self.error
        return body

    def _is_whole(self, output: list[dict[str, Any]]) -> bool:
        """Tell, without decoding deltas, whether these items are all that was streamed.

        They are if they are the items that ``output_item.done`` brought, if no other has begun, and if there are no
        deltas of other kinds. Where a host leaves something of this out, it only takes longer: the deltas are decoded.
        """
        done, kinds = self._done_items, {item.get("type") for item in output}
        return (
            len(output) == len(done) == len(self.times)
            and all(map(says_the_same, output, done))
            and all(_ITEM_TYPES.get(_subject(kind)) in (None, *kinds) for kind in self._subjects)
            and bool(output)
        )

    def _rebuild_output(self, *, names: bool) -> list[dict[str, Any]]:
        items = _Items(names=names)
        for _, name, data in self._pieces:
            if body := _decode(data):
                items.add(as_text(body.get("type")) or name or "", body)
        return items.finish()


def _updated(known: dict[str, Any], response: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return what is known of a response after an event of this kind, which may say less than those before it."""
    kept = {
        key: value
        for key, value in known.items()
        if key not in response or (is_silent(response[key]) and key not in _NULL_TELLS)
    }
    updated = {**response, **kept}
    if "usage" in updated and (usage := merge_usages([known.get("usage"), response.get("usage")])):
        updated["usage"] = usage
    status, word = response.get("status"), _TERMINAL.get(kind)
    if known.get("status") == "failed":  # a failure stays one, whatever comes after it
        updated.update(status="failed", error=response.get("error") or known.get("error"))
    elif word and (status in _RUNNING or (status == "completed" and word != "completed")):
        updated["status"] = word
    return updated


def _subject(kind: str) -> str:
    subject = kind.removeprefix("response.").rpartition(".")[0]
    return _SAME.get(subject, subject)


def _decode(data: bytes) -> dict[str, Any] | None:
    try:
        body = decode_json(data)
    except ValueError:
        return None
    return body if type(body) is dict else None


class _Items:
    """Output items under construction, by their place.

    Args:
        names: An item that was never announced gets its id from its pieces, so that it is known again.
    """

    def __init__(self, *, names: bool) -> None:
        self._names = names
        self._items: dict[Place, dict[str, Any]] = {}
        self._texts: dict[tuple[Place, Path], list[str]] = {}
        self._places = ItemPlaces()

    def add(self, kind: str, event: dict[str, Any]) -> None:
        """Work one event in. Events of a kind unknown here say nothing about the output."""
        subject, phase = _subject(kind), kind.rpartition(".")[2]
        if subject == "output_item":
            if (place := self._places.find(event, None, phase)) is not None:
                self._set_item(place, as_dict(event.get("item")))
        elif subject in _PARTS:
            self._set_part(subject, event)
        elif subject in _TEXTS and phase in ("added", "delta", "done"):
            self._add_text(subject, phase, event)
        elif subject == "image_generation_call" and phase == "partial_image":
            self._item(event, subject)[1]["result"] = event.get("partial_image_b64")  # ``done`` brings the whole one
        elif subject == "shell_call_output_content":
            self._add_shell_output(event)
        elif phase in _STATUSES:
            self._set_status(subject, phase, event)
        elif subject == "output_text.annotation":
            path = ("content", _int(event.get("content_index")), "annotations", _int(event.get("annotation_index")))
            _put(self._item(event, "message")[1], path, event.get("annotation"))

    def _item(self, event: dict[str, Any], kind: str) -> tuple[Place, dict[str, Any]]:
        place = self._places.find(event, kind)
        assert place is not None  # it is about an item of this kind
        if place not in self._items:
            self._items[place] = {"type": kind, **({"role": "assistant"} if kind == "message" else {})}
            if self._names and (item_id := as_text(event.get("item_id"))):
                self._items[place]["id"] = item_id
        return place, self._items[place]

    def _set_item(self, place: Place, item: dict[str, Any]) -> None:
        """Set an item that ``added`` starts or ``done`` completes. The latter includes the deltas so far."""
        self._items[place] = item
        for key in [key for key in self._texts if key[0] == place]:
            del self._texts[key]

    def _set_part(self, subject: str, event: dict[str, Any]) -> None:
        field, index_field = _PARTS[subject]
        part = as_dict(event.get("part"))
        is_said = subject == "content_part" and part.get("type") != "reasoning_text"
        place, item = self._item(event, "message" if is_said else "reasoning")
        path = (field, _int(event.get(index_field)))
        _put(item, path, event.get("part"))
        for key in [key for key in self._texts if key[0] == place and key[1][:2] == path]:
            del self._texts[key]

    def _add_text(self, subject: str, phase: str, event: dict[str, Any]) -> None:
        steps, whole_field = _TEXTS[subject]
        path = tuple(_int(event.get(step[1:-1])) if step.startswith("{") else step for step in steps)
        place, item = self._item(event, _ITEM_TYPES[subject])
        if (place, path) not in self._texts:
            self._texts[place, path] = [_begin_text(item, path, _PART_TYPES.get(subject))]
        if phase in ("added", "done") and type(whole := event.get(whole_field)) is str:
            self._texts[place, path] = [whole]
        elif phase == "delta" and type(delta := _text_of(event.get("delta"))) is str:
            self._texts[place, path].append(delta)
        if phase == "delta" and type(logprobs := event.get("logprobs")) is list and logprobs:
            part = _get(item, path[:-1])
            if type(part) is dict:
                part["logprobs"] = [*(part.get("logprobs") or []), *logprobs]

    def _add_shell_output(self, event: dict[str, Any]) -> None:
        """Add what a command printed: pieces of both streams, or at its end all of it."""
        path: Path = ("output", _int(event.get("command_index")))
        place, item = self._item(event, "shell_call_output")
        printed = as_dicts(event.get("output"))
        if printed:
            _put(item, path, printed[-1])  # with how the command ended
        for name in ("stdout", "stderr"):
            if printed:
                self._texts[place, (*path, name)] = [as_text(part.get(name)) or "" for part in printed]
            elif text := as_text(as_dict(event.get("delta")).get(name)):
                self._texts.setdefault((place, (*path, name)), []).append(text)

    def _set_status(self, subject: str, status: str, event: dict[str, Any]) -> None:
        """Let a tool's own events say how far it came, where its kind has a status, and that it is there at all."""
        place = self._places.peek(event, subject)
        if place is None and subject in _HOSTED and event.keys() & {"item_id", "output_index"}:
            self._item(event, subject)[1]["status"] = status
            return
        item = {} if place is None else self._items.get(place, {})
        if item.get("type") == subject and "status" in item:
            item["status"] = status

    def finish(self) -> list[dict[str, Any]]:
        for (place, path), pieces in self._texts.items():
            _put(self._items[place], path, "".join(pieces))
        return [item for _, item in sorted(self._items.items())]


def _begin_text(item: dict[str, Any], path: Path, part_type: str | None) -> str:
    """Return the text that is already at `path`; the part that holds it is made if it is missing."""
    if part_type is not None and type(_get(item, path[:-1])) is not dict:
        _put(item, path[:-1], {"type": part_type})
    text = _get(item, path)
    return text if type(text) is str else ""


def _text_of(delta: Any) -> Any:
    return delta.get("text") if type(delta) is dict else delta  # an object: before openai 1.99


def _int(value: Any) -> int:
    index = as_index(value)
    return index if index is not None and 0 <= index < _MAX_LIST else 0


def _get(value: Any, path: Path) -> Any:
    for step in path:
        if isinstance(step, str):
            value = as_dict(value).get(step)
        else:
            value = value[step] if type(value) is list and step < len(value) else None
    return value


def _put(value: Any, path: Path, new: Any) -> None:
    """Set the value at `path`, making objects and lists on the way as needed."""
    for step, following in pairwise(path):
        inner = _get(value, (step,))
        wanted = dict if type(following) is str else list
        if type(inner) is not wanted:
            inner = wanted()
            _set(value, step, inner)
        value = inner
    _set(value, path[-1], new)


def _set(container: Any, step: str | int, new: Any) -> None:
    if type(step) is int:
        container.extend([None] * (step + 1 - len(container)))
    container[step] = new
