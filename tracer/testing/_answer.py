"""What a model says, before an endpoint puts it into its own format."""

from __future__ import annotations

import re
from typing import Any

import msgspec

__all__ = [
    "NEW_CALL",
    "Answer",
    "Json",
    "Prompt",
    "ToolCall",
    "ToolResult",
    "count_words",
    "deltas",
    "encode",
    "first_words",
]

Json = dict[str, Any]
"""A JSON object."""

NEW_CALL = "call_"
"""A placeholder for the call's id in `Answer.items`, until there is one."""

encode = msgspec.json.encode

_DELTA = re.compile(r"\s*\S{1,8}|\s+")


class ToolCall(msgspec.Struct, frozen=True):
    """A function the model wants called; `arguments` is JSON text, as on the wire, so it may be broken on purpose."""

    name: str
    arguments: str
    id: str | None = None


class ToolResult(msgspec.Struct, frozen=True):
    """What a function returned to the model, with the arguments it was called with."""

    name: str
    arguments: Any
    content: str


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """What the default model reads of a request, whichever endpoint it came through.

    Attributes:
        text: The last user message.
        results: Results of functions, later than `text`.
        functions: The functions offered, each with `name`, `parameters` (a JSON schema) and perhaps `description`.
        hosted: Tools that the server runs itself (Responses API), as they were offered.
        choice: `auto`, `none`, `required`, or the name of a function or the type of a hosted tool that is forced.
        parallel: One answer may contain several calls.
        schema: The JSON schema that the answer must fit.
        json_mode: The answer must be some JSON object.
        reasoning: The caller asked for reasoning.
        approved: An MCP call was approved by the caller.
        max_words: The answer is cut off after this many words.
        words: The words in the whole input.
    """

    text: str
    results: tuple[ToolResult, ...] = ()
    functions: tuple[Json, ...] = ()
    hosted: tuple[Json, ...] = ()
    choice: str = "auto"
    parallel: bool = True
    schema: Json | None = None
    json_mode: bool = False
    reasoning: bool = False
    approved: bool = False
    max_words: int | None = None
    words: int = 0


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One answer of a model.

    Attributes:
        text: What it says; `None` when it only calls tools.
        refusal: What it says instead, when it refuses.
        tool_calls: The functions it wants called.
        reasoning: The summary of its reasoning.
        items: Output items of the Responses API that come before the message, without their ids.
        annotations: Citations in `text`, as the Responses API writes them.
        truncated: It reached the token limit.
        failure: `(code, message)`: the model broke down after this answer.
    """

    text: str | None = None
    refusal: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: str | None = None
    items: tuple[Json, ...] = ()
    annotations: tuple[Json, ...] = ()
    truncated: bool = False
    failure: tuple[str, str] | None = None

    @property
    def words(self) -> int:
        """Its length in words, without its reasoning; our unit for output tokens."""
        spoken = [self.text, self.refusal, *(call.name for call in self.tool_calls)]
        return sum(map(count_words, (*spoken, *(call.arguments for call in self.tool_calls))))

    @property
    def reasoning_words(self) -> int:
        """The length of its reasoning in words."""
        return count_words(self.reasoning)


def count_words(text: str | None) -> int:
    """How many words a text has, separated by white space."""
    return len(text.split()) if text else 0


def first_words(text: str, count: int) -> str:
    """The beginning of a text, `count` words long, white space kept."""
    ends = [match.end() for match in re.finditer(r"\S+", text)]
    return text if count >= len(ends) else text[: ends[count - 1]] if count > 0 else ""


def deltas(text: str | None) -> list[str]:
    """A text in the small pieces that a stream sends; joined, they are the text again."""
    return _DELTA.findall(text) if text else []
