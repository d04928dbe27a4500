"""A call as something to run again: a curl command, and Python code with the openai package.

Neither holds a key: both take it from ``OPENAI_API_KEY``. A text of the call can't break out of its quotes.
"""

from __future__ import annotations

import functools
import importlib.util
import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

from tracer import _semconv as sc
from tracer._models import Span
from tracer.interpret._json import as_text
from tracer.render._json_tree import json_text

__all__ = ["Repeat", "repeat"]

MAX_CHARS = 200_000
_WIDTH = 100
_MAX_INDENT = 120


class Repeat(NamedTuple):
    """A call as curl and as Python; `note` says what has to be filled in by hand."""

    curl: str
    python: str
    note: str


class _Endpoint(NamedTuple):
    path: str
    method: str  # of an OpenAI client
    parameters: str  # the module below openai.types that names them
    extra: str = ""


_IMAGES = _Endpoint("/images/generations", "images.generate", "image_generate_params")
_ENDPOINTS = {
    "chat": _Endpoint("/chat/completions", "chat.completions.create", "chat/completion_create_params"),
    "responses": _Endpoint("/responses", "responses.create", "responses/response_create_params"),
    "completions": _Endpoint("/completions", "completions.create", "completion_create_params"),
    "embeddings": _Endpoint("/embeddings", "embeddings.create", "embedding_create_params"),
    "decisions": _Endpoint("/decisions", "decisions.create", "decision_create_params"),
    "moderations": _Endpoint("/moderations", "moderations.create", "moderation_create_params"),
    "images": _IMAGES,
    "speech": _Endpoint("/audio/speech", "audio.speech.create", "audio/speech_create_params"),
    "audio_text": _Endpoint(
        "/audio/transcriptions", "audio.transcriptions.create", "audio/transcription_create_params"
    ),
}
_PARAMETER = re.compile(r"^    ([a-z_]\w*):", re.MULTILINE)
_PLACEHOLDER = re.compile(r"media://|\[withheld")


def repeat(span: Span) -> Repeat | None:
    """Return how to repeat a call; None if the span is not a call of an endpoint, or its request was not kept."""
    endpoint = _endpoint(span)
    body = span.inputs
    if endpoint is None or type(body) is not dict or not body or sc.PAYLOAD_DROPPED in span.attributes:
        return None
    curl, python = _curl(endpoint, body), _python(endpoint, body)
    if len(curl) + len(python) > 2 * MAX_CHARS:
        return None
    note = "Replace each media:// and [withheld] with the real content." if _PLACEHOLDER.search(curl) else ""
    return Repeat(curl, python, note)


def _endpoint(span: Span) -> _Endpoint | None:
    endpoint = _ENDPOINTS.get(str(span.attributes.get(sc.OPERATION)))
    if endpoint is _IMAGES and type(span.inputs) is dict and "image" in span.inputs:
        return _Endpoint("/images/edits", "images.edit", "image_edit_params")
    if endpoint is not None and "Translations" in span.name:
        return _Endpoint("/audio/translations", "audio.translations.create", "audio/translation_create_params")
    return endpoint


# --- curl ----------------------------------------------------------------------------------------------------------


def _curl(endpoint: _Endpoint, body: dict[str, Any]) -> str:
    lines = [
        f'curl "${{OPENAI_BASE_URL:-https://api.openai.com/v1}}{endpoint.path}"',
        '-H "Authorization: Bearer $OPENAI_API_KEY"',
    ]
    if any(_files(value) for value in body.values()):
        lines += [f"-F {shlex.quote(field)}" for key, value in body.items() for field in _form_fields(key, value)]
    else:
        lines += ["-H 'Content-Type: application/json'", f"-d {shlex.quote(json_text(body))}"]
    if body.get("stream") is True:
        lines.insert(1, "--no-buffer")
    return " \\\n  ".join(lines)


def _form_fields(key: str, value: Any) -> list[str]:
    if files := _files(value):
        return [f"{key}{'[]' if type(value) is list else ''}=@{name}" for name in files]
    if type(value) is list:
        return [f"{key}[]={item if isinstance(item, str) else json_text(item, indent=None)}" for item in value]
    return [f"{key}={value if isinstance(value, str) else json_text(value, indent=None)}"]


def _files(value: Any) -> list[str]:
    """Return the names of the files in a form's field (`tracer.openai._multipart`)."""
    found = value if type(value) is list else [value]
    return [
        as_text(item["filename"]) or "file"
        for item in found
        if type(item) is dict and item.keys() >= {"filename", "size"}
    ]


# --- Python --------------------------------------------------------------------------------------------------------


def _python(endpoint: _Endpoint, body: dict[str, Any]) -> str:
    known = _parameters(endpoint.parameters)
    named = {key: value for key, value in body.items() if key in known or (not known and key.isidentifier())}
    extra = {key: value for key, value in body.items() if key not in named}
    arguments = [f"    {key}={_literal(value)}," for key, value in named.items()]
    arguments += [f"    extra_body={_literal(extra)},"] if extra else []
    tail = ["for event in response:", "    print(event)"] if body.get("stream") is True else ["print(response)"]
    head = ["from openai import OpenAI", "", "client = OpenAI()", f"response = client.{endpoint.method}("]
    return "\n".join([*head, *arguments, ")", *tail, ""])


def _literal(value: Any, indent: int = 4) -> str:
    """Return a value as Python code: on one line if it fits, else an item a line."""
    if files := _files(value):
        opened = [f'open({name!r}, "rb")' for name in files]
        return f"[{', '.join(opened)}]" if type(value) is list else opened[0]
    short = repr(value)
    if type(value) not in (dict, list) or not value or len(short) + indent < _WIDTH or indent > _MAX_INDENT:
        return short
    inner = indent + 4
    if type(value) is dict:
        items = [f"{key!r}: {_literal(item, inner)}" for key, item in value.items()]
    else:
        items = [_literal(item, inner) for item in value]
    opening, closing = "{}" if type(value) is dict else "[]"
    lines = "".join(f"{' ' * inner}{item},\n" for item in items)
    return f"{opening}\n{lines}{' ' * indent}{closing}"


@functools.cache
def _parameters(module: str) -> frozenset[str]:
    """Return the parameters that the installed SDK knows; others go into ``extra_body``.

    They are read from the SDK's source, because importing its types takes longer than everything else on a page.
    """
    spec = importlib.util.find_spec("openai")
    if spec is None or spec.origin is None:
        return frozenset()
    try:
        source = Path(spec.origin).with_name("types").joinpath(f"{module}.py").read_text(encoding="utf-8")
    except OSError:
        return frozenset()
    return frozenset(_PARAMETER.findall(source))
