"""The default model: small, deterministic, and just clever enough to run examples on."""

from __future__ import annotations

import re

import msgspec

from tracer.testing import _hosted
from tracer.testing._answer import Answer, Json, Prompt, ToolCall, ToolResult, encode, first_words
from tracer.testing._schema import Clues, fill, proper_names

__all__ = ["respond"]

READS = 100_000  # characters of a question: splitting 100 MB into words would take minutes
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_FILLERS = (
    "a agent by call current do fetch find for from function get in list look lookup my of on run set the to tool"
    " transfer up"
)
_SAYS_NOTHING = frozenset(_FILLERS.split())


def respond(prompt: Prompt) -> Answer:
    """Answer a prompt, always in the same way.

    After results of tools, it reports them. If the question mentions what a tool's name says, or the tool is forced, it
    calls the tool with arguments found in the question. If a schema is given, it fills the schema. Otherwise it repeats
    what it was told. It reads only the beginning of a long question.
    """
    if len(prompt.text) > READS:
        prompt = msgspec.structs.replace(prompt, text=prompt.text[:READS])
    answer = _decide(prompt)
    if prompt.reasoning:
        answer = msgspec.structs.replace(answer, reasoning=f"**Reading**\n\nThe question is: {prompt.text}")
    return _shortened(answer, prompt.max_words)


def _decide(prompt: Prompt) -> Answer:
    if calls := _calls(prompt):
        return Answer(tool_calls=calls)
    if not prompt.results and (tool := _hosted.wanted(prompt)):
        return _hosted.answer_with(tool, prompt)
    if prompt.schema is not None:
        return Answer(text=encode(fill(prompt.schema, Clues(prompt.text))).decode())
    said = _report(prompt) if prompt.results else f"You said: {prompt.text}"
    return Answer(text=encode({"answer": said}).decode() if prompt.json_mode else said)


def _shortened(answer: Answer, max_words: int | None) -> Answer:
    if max_words is None or answer.text is None or answer.words <= max_words:
        return answer
    return msgspec.structs.replace(answer, text=first_words(answer.text, max_words), annotations=(), truncated=True)


def _report(prompt: Prompt) -> str:
    """What the tools returned. Tools that are no longer offered (a handoff) count only if there are no others."""
    offered = {function["name"] for function in prompt.functions}
    results = [result for result in prompt.results if result.name in offered] or prompt.results
    return " ".join(f"According to {_described(result)}: {result.content.rstrip('.')}." for result in results)


def _described(result: ToolResult) -> str:
    """`get_weather for Paris`."""
    values = result.arguments.values() if isinstance(result.arguments, dict) else ()
    named = ", ".join(str(value) for value in values if isinstance(value, str | int | float))
    return f"{result.name} for {named}" if named else result.name


def _calls(prompt: Prompt) -> tuple[ToolCall, ...]:
    functions = _wanted(prompt)
    calls = [call for function in functions for call in _calls_of(function, prompt)]
    return tuple(calls if prompt.parallel else calls[:1])


def _wanted(prompt: Prompt) -> list[Json]:
    """The functions to call: the forced one, or those whose names match what the question asks.

    Once there are results, only functions that match and were not called yet: so an agent's loop goes on, and ends.
    """
    if prompt.choice == "none":
        return []
    called = {result.name for result in prompt.results}
    done = {word for f in prompt.functions if f["name"] in called for word in _words(f["name"])}
    offered = tuple(function for function in prompt.functions if function["name"] not in called)
    fitting = _fitting(offered, set(_words(prompt.text)) - done)
    if called:
        return fitting
    forced = [function for function in offered if function["name"] == prompt.choice]
    return forced or fitting or (list(offered[:1]) if prompt.choice == "required" else [])


def _fitting(functions: tuple[Json, ...], asked: set[str]) -> list[Json]:
    """A function for each thing asked for, the closest one: `get_weather` before `get_weather_history`."""
    names = [(function, set(_telling_words(function["name"]))) for function in functions]
    names.sort(key=lambda pair: (-len(pair[1] & asked), len(pair[1])))
    chosen, covered = [], set[str]()
    for function, words in names:
        if (words & asked) - covered:
            chosen.append(function)
            covered |= words & asked
    return chosen


def _words(text: str) -> list[str]:
    """A text's words in lower case, without a plural s; `camelCase` and `snake_case` are split."""
    return [word.lower().removesuffix("s") for word in _WORD.findall(text)]


def _telling_words(name: str) -> list[str]:
    words = _words(name)
    return [word for word in words if word not in _SAYS_NOTHING] or words


def _calls_of(function: Json, prompt: Prompt) -> list[ToolCall]:
    """One call; or one for each name in the question if the function takes only one text."""
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    # Words of function names are not names: with a `get_weather`, "Weather in Paris?" names only Paris.
    topic = {word for offered in prompt.functions for word in _words(offered["name"])}
    names = [name for name in proper_names(prompt.text) if not set(_words(name)) <= topic]
    if len(names) < 2 or _texts_required(schema) != 1:
        return [_call(function, schema, Clues(prompt.text, names=names))]
    return [_call(function, schema, Clues(prompt.text, names=[name])) for name in names]


def _call(function: Json, schema: Json, clues: Clues) -> ToolCall:
    return ToolCall(name=function["name"], arguments=encode(fill(schema, clues)).decode())


def _texts_required(schema: Json) -> int:
    properties = schema.get("properties", {})
    required = schema.get("required", list(properties))
    return sum(properties.get(name, {}).get("type") == "string" and "enum" not in properties[name] for name in required)
