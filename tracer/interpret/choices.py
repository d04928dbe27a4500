"""What chat and legacy completions share: choices, their stream chunks, how they end, errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tracer import _semconv as sc
from tracer.interpret._json import as_dict, as_dicts, as_index, as_text, decode_json, is_silent
from tracer.interpret._views import Finish, ResponseView
from tracer.interpret.finish_reasons import read_reason
from tracer.interpret.sse import DONE, Event
from tracer.interpret.usage import charged_cost, find_usage, merge_usages, token_usage, usage_attributes

__all__ = ["ChoiceStream", "describe_error", "describe_refusal", "read_choice_ends", "read_error", "read_head"]

_HEAD_ATTRIBUTES = (
    ("id", sc.RESPONSE_ID),
    ("model", sc.RESPONSE_MODEL),
    ("service_tier", sc.RESPONSE_SERVICE_TIER),
    ("system_fingerprint", sc.RESPONSE_SYSTEM_FINGERPRINT),
)

# Fields of a chunk that are not copied: ``choices`` is rebuilt from all chunks; ``obfuscation`` is padding against
# eavesdroppers who measure lengths.
_NOT_IN_BODY = frozenset({"choices", "obfuscation"})
_NOT_IN_FRAME = frozenset({"delta", "index", "message", "text", "usage"})
_BLANK_IN_ANNOTATIONS = frozenset({"choices", "created", "id", "model", "object"})
_NO_CHOICES = "the server sent no choices"
_GRAVEST: tuple[Finish, ...] = ("failed", "cancelled", "incomplete", "completed")


def read_head(body: dict[str, Any], view: ResponseView) -> None:
    """Fill in what all kinds of responses have in common: ids, model, usage, an error in place of an answer."""
    attributes = view.attributes
    for key, name in _HEAD_ATTRIBUTES:
        if value := body.get(key):
            attributes[name] = value
    view.model = as_text(body.get("model"))
    if usage := find_usage(body):
        view.usage = token_usage(usage)
        if view.usage is not None:
            attributes.update(usage_attributes(view.usage))
        if (charged := charged_cost(usage)) is not None:
            attributes[sc.COST_CHARGED] = charged
    if "error" in body or body.get("object") == "error":
        read_error(body, view)


def read_error(body: dict[str, Any], view: ResponseView) -> None:
    """Mark the view as failed if the body says so, even under HTTP 200 (Azure's content filter, vLLM's ``object``)."""
    if error := body.get("error") or (body if body.get("object") == "error" else None):
        view.finish = "failed"
        view.error, view.error_type = describe_error(error)


def describe_error(error: Any) -> tuple[str, str | None]:
    """Return an API error's message and its code (else its type)."""
    fields = as_dict(error)
    if not fields:
        return (error if type(error) is str else str(error)), None
    code = fields.get("code") or fields.get("type")
    message = as_text(fields.get("message")) or as_text(fields.get("detail"))
    return message or f"error {code or 'without a message'}", None if code is None else str(code)


def describe_refusal(body: dict[str, Any], answer: tuple[str, ...]) -> tuple[str, str | None] | None:
    """Return the message and code of a body that is no answer of the API; None if it is one.

    Args:
        body: Without ``error``. MiniMax says in ``base_resp`` whether it answered; proxies have forms of their own
            (``{"detail": …}``, ``{"code": 500, "msg": …}``).
        answer: Fields of which an answer has at least one.
    """
    told = as_dict(body.get("base_resp"))
    code = told.get("status_code") or None
    if code is None and not body.keys().isdisjoint(answer):
        return None if "choices" not in answer or _has_object(body.get("choices")) else (_NO_CHOICES, None)
    code = code or body.get("code") or body.get("status")
    texts = (told.get("status_msg"), *map(body.get, ("message", "msg", "detail", "error_msg")))
    message = next(filter(None, map(as_text, texts)), None)
    return message or "the server sent no answer of this API", None if code is None else str(code)


def _has_object(choices: Any) -> bool:
    return type(choices) is list and any(type(choice) is dict for choice in choices)


def read_choice_ends(choices: list[dict[str, Any]], view: ResponseView) -> None:
    """Record the choices' finish reasons, and how the call ended unless an error has said that already.

    A failure of one choice is the call's; one that was cut off makes the call incomplete. Some servers put an error
    next to the choice's finish reason instead of into the body (OpenRouter, when an upstream fails mid-answer), or into
    the message.
    """
    known = [reason for choice in choices if (reason := as_text(choice.get("finish_reason")))]
    if known:
        view.attributes[sc.RESPONSE_FINISH_REASONS] = known
    if view.finish is not None or not choices:
        return
    ends = map(_end_of_choice, choices)
    worst = next(ends) if len(choices) == 1 else min(ends, key=lambda end: _GRAVEST.index(end[0]))
    view.finish, view.error, view.error_type = worst
    view.is_quiet = view.finish == "failed"


def _end_of_choice(choice: dict[str, Any]) -> tuple[Finish, str | None, str | None]:
    reason = as_text(choice.get("finish_reason"))
    finish, why = ("completed", None) if reason is None else read_reason(reason)
    error = choice.get("error")
    if error or (type(message := choice.get("message")) is dict and (error := message.get("error"))):
        message, error_type = describe_error(error)
        return "failed", message, error_type or reason
    return finish, why, reason if finish == "failed" else None


class ChoiceStream:
    """The chunks of a streamed chat or legacy completion, gathered by choice, rebuilt to the plain response's shape.

    Attributes:
        first_token_ns: When the first chunk with content came.
        unreadable: How many events were not JSON objects.
    """

    def __init__(self, events: Iterable[Event]) -> None:
        self.first_token_ns: int | None = None
        self.unreadable = 0
        self._done = False
        self._chunks: list[dict[str, Any]] = []
        self._choices: dict[int, list[dict[str, Any]]] = {}
        self._filtered: dict[int, dict[str, Any]] = {}  # what a filter says of a choice, apart from its chunks
        self._promises_end = False
        for time_ns, _, data in events:
            if data.startswith(DONE):
                self._done = True
                break  # stop here as the SDK does, whatever may follow
            self._add(time_ns, data)

    def _add(self, time_ns: int, data: bytes) -> None:
        try:
            chunk = decode_json(data)
        except ValueError:
            chunk = None
        if type(chunk) is not dict:
            self.unreadable += 1
            return
        if chunk.get("object") == "" and not chunk.get("id") and not any(map(_is_told, as_dicts(chunk.get("choices")))):
            # Azure's annotations: what its filter says belongs to the answer, blank head fields do not.
            for choice in as_dicts(chunk.get("choices")):
                told = {key: value for key, value in choice.items() if key.startswith("content_filter") and value}
                self._filtered.setdefault(as_index(choice.get("index")) or 0, {}).update(told)
            chunk = {key: value for key, value in chunk.items() if key not in _BLANK_IN_ANNOTATIONS}
        self._chunks.append(chunk)
        for choice in as_dicts(chunk.get("choices")):
            self._choices.setdefault(as_index(choice.get("index")) or 0, []).append(choice)
            self._promises_end = self._promises_end or "finish_reason" in choice
            if self.first_token_ns is None and _has_content(choice):
                self.first_token_ns = time_ns

    @property
    def ended(self) -> bool:
        """Whether the stream has its end mark: ``[DONE]``, or a finish reason for each choice that began."""
        return self._done or (bool(self._choices) and all(map(_finish_reason, self._choices.values())))

    def rebuild(
        self, kind: str, rebuild_choice: Callable[[list[dict[str, Any]]], dict[str, Any]]
    ) -> dict[str, Any] | None:
        """Return the response as if it had not been streamed; None if no chunk came.

        Args:
            kind: The plain response's ``object``.
            rebuild_choice: Makes one choice's content from all its pieces.
        """
        body = {key: value for key, value in _last_values(self._chunks).items() if key not in _NOT_IN_BODY}
        if not body and not self._choices:
            return None
        if self._choices or "object" in body:
            body["object"] = kind
            body["choices"] = [
                {
                    **_rebuild_frame(index, pieces),
                    **self._filtered.get(index, {}),
                    **rebuild_choice(pieces),
                    "finish_reason": _finish_reason(pieces),
                }
                for index, pieces in sorted(self._choices.items())
            ]
        if usage := self._usage():
            body["usage"] = usage
        return body

    def interpret(
        self,
        kind: str,
        rebuild_choice: Callable[[list[dict[str, Any]]], dict[str, Any]],
        read_response: Callable[[dict[str, Any], ResponseView], None],
        view: ResponseView,
    ) -> dict[str, Any] | None:
        """Rebuild the response and fill in the view. The stream, not the content, says how the call ended."""
        body = self.rebuild(kind, rebuild_choice)
        view.first_token_ns = self.first_token_ns
        if body is not None:
            read_response(body, view)
        if view.finish not in ("failed", "cancelled") and not self.ended:
            view.finish = view.error = None
            view.lacks_end = self._promises_end or not self._chunks
        elif self.ended and not self._choices and view.finish is None:
            view.finish, view.error, view.is_quiet = "failed", _NO_CHOICES, True
        elif self.ended:
            view.finish = view.finish or "completed"
        if self.unreadable:
            view.attributes[sc.NOTE] = f"{self.unreadable} stream events were not JSON objects"
        return body

    def _usage(self) -> dict[str, Any]:
        """Return what the chunks say of the usage; else what they say in their choices (Moonshot)."""
        whole = merge_usages(chunk.get("usage") for chunk in self._chunks)
        return whole or merge_usages(piece.get("usage") for pieces in self._choices.values() for piece in pieces)


def _is_told(choice: dict[str, Any]) -> bool:
    return bool(choice.get("finish_reason") or choice.get("error") or choice.get("message")) or _has_content(choice)


def _has_content(choice: dict[str, Any]) -> bool:
    delta = choice.get("delta")
    if type(delta) is dict and any(value and key != "role" for key, value in delta.items()):
        return True
    return bool(choice.get("text"))


def _last_values(objects: list[dict[str, Any]]) -> dict[str, Any]:
    """Return each field's last value that is not empty; None for a text that is always empty.

    This makes one C call for each object, and checks only the fields again whose last value is empty.
    """
    last: dict[str, Any] = {}
    for fields in objects:
        last.update(fields)
    for key in [key for key, value in last.items() if is_silent(value)]:
        told = (value for fields in reversed(objects) if not is_silent(value := fields.get(key)))
        last[key] = next(told, last[key] if last[key] != "" else None)
    return last


def _rebuild_frame(index: int, pieces: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a choice without its content; fields that only some servers send are kept."""
    fields = {key: value for key, value in _last_values(pieces).items() if key not in _NOT_IN_FRAME}
    return {"index": index, **fields}


def _finish_reason(pieces: list[dict[str, Any]]) -> Any:
    """Return how a choice ended: by its last finish reason, unless one before it says that it broke off."""
    reasons = [reason for piece in reversed(pieces) if (reason := piece.get("finish_reason"))]
    return min(reasons, key=_gravity) if reasons else None


def _gravity(reason: Any) -> int:
    return _GRAVEST.index(read_reason(reason)[0] if type(reason) is str else "completed")
