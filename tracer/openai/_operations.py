"""Which HTTP operations are traced, and as what.

The table is keyed by what the resource methods hand to ``BaseClient.request``: method and relative path, before
Azure rewrites it (span-semantics: "Operations"). A query (``?beta=true``) does not matter.

Four groups are not in the table, and so not traced: management of stored objects (files, uploads, batches, models,
conversations, containers, skills, vector stores except for their search, …), calls that open a session of another
transport (``realtime``, ``live``, ``chatkit``), calls that only register or count (``audio.voices``,
``responses.input_tokens``), and work that OpenAI runs on its own later (``evals.runs``, ``fine_tuning``, graders,
``beta.agents``).
"""

from __future__ import annotations

import functools
import re
from typing import Literal
from urllib.parse import unquote

import msgspec

from tracer import _semconv as sc
from tracer._models import SpanType

__all__ = ["Kind", "Operation", "find_operation"]

Kind = Literal["call", "background", "job", "poll", "media", "vectors"]
"""How a call is watched (`tracer.openai._kinds`).

``background``: the call starts a job if the request says so. ``job``: the call always starts one. ``poll``: the call
asks for a job's status, unless it streams. ``media``: the call's answer is binary. ``vectors``: the SDK may decode the
answer for the caller.
"""


class Operation(msgspec.Struct, frozen=True):
    """One kind of call.

    Attributes:
        key: Picks the interpreter (`tracer.interpret`).
        resource: The SDK's resource class, which names the span; its async twin begins with ``Async``.
        name: ``gen_ai.operation.name``; None where the conventions have none.
        attributes: What the path says: (attribute key, id).
    """

    key: str
    resource: str
    span_type: str
    name: str | None
    kind: Kind = "call"
    attributes: tuple[tuple[str, str | int | float], ...] = ()


_RESPONSES = Operation("responses", "Responses", SpanType.CHAT_MODEL, "chat", "background")
_RETRIEVED = Operation("retrieved", "Responses", SpanType.CHAT_MODEL, "chat", "poll")
_IMAGES = Operation("images", "Images", SpanType.TOOL, "image_generation")
_VIDEOS = Operation("videos", "Videos", SpanType.TOOL, "video_generation", "job")
_RUNS = Operation("runs", "Runs", SpanType.AGENT, "invoke_agent", "job")

_OPERATIONS: dict[tuple[str, str], Operation] = {
    ("post", "/chat/completions"): Operation("chat", "Completions", SpanType.CHAT_MODEL, "chat"),
    ("post", "/responses"): _RESPONSES,
    ("post", "/responses/compact"): _RESPONSES,
    ("get", "/responses/{response_id}"): _RETRIEVED,
    ("post", "/completions"): Operation("completions", "Completions", SpanType.LLM, "text_completion"),
    ("post", "/embeddings"): Operation("embeddings", "Embeddings", SpanType.EMBEDDING, "embeddings", "vectors"),
    ("post", "/decisions"): Operation("decisions", "Decisions", SpanType.LLM, None),
    ("post", "/moderations"): Operation("moderations", "Moderations", SpanType.GUARDRAIL, None),
    ("post", "/images/generations"): _IMAGES,
    ("post", "/images/edits"): _IMAGES,
    ("post", "/images/variations"): _IMAGES,
    ("post", "/audio/speech"): Operation("speech", "Speech", SpanType.TOOL, "speech", "media"),
    ("post", "/audio/transcriptions"): Operation("audio_text", "Transcriptions", SpanType.TOOL, "transcription"),
    ("post", "/audio/translations"): Operation("audio_text", "Translations", SpanType.TOOL, "translation"),
    ("post", "/vector_stores/{vector_store_id}/search"): Operation(
        "retrieval", "VectorStores", SpanType.RETRIEVER, None
    ),
    ("post", "/videos"): _VIDEOS,
    ("post", "/videos/edits"): _VIDEOS,
    ("post", "/videos/extensions"): _VIDEOS,
    ("post", "/videos/{source_id}/remix"): _VIDEOS,
    ("get", "/videos/{response_id}"): msgspec.structs.replace(_VIDEOS, kind="poll"),
    ("post", "/threads/runs"): msgspec.structs.replace(_RUNS, resource="Threads"),
    ("post", "/threads/{thread_id}/runs"): _RUNS,
    ("post", "/threads/{thread_id}/runs/{response_id}/submit_tool_outputs"): _RUNS,
    ("get", "/threads/{thread_id}/runs/{response_id}"): msgspec.structs.replace(_RUNS, kind="poll"),
}
_PATH_ATTRIBUTES = {
    "response_id": sc.RESPONSE_ID,
    "thread_id": sc.CONVERSATION_ID,
    "vector_store_id": sc.DATA_SOURCE_ID,
}
_PATTERNS = [
    (method, re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path)), operation)
    for (method, path), operation in _OPERATIONS.items()
    if "{" in path
]


@functools.lru_cache(maxsize=1024)
def find_operation(method: str, url: str) -> Operation | None:
    """Return what a request is, or None if it is not traced.

    ::

        >>> find_operation("get", "/responses/resp_1?beta=true").attributes
        (('gen_ai.response.id', 'resp_1'),)
        >>> find_operation("get", "/responses/resp%2F1").attributes  # as the SDK writes ids that have a slash
        (('gen_ai.response.id', 'resp/1'),)
    """
    method, path = method.lower(), "/" + url.partition("?")[0].strip("/")
    return _OPERATIONS.get((method, path)) or _find_pattern(method, path)


def _find_pattern(method: str, path: str) -> Operation | None:
    for wanted, pattern, operation in _PATTERNS:
        if wanted == method and (match := pattern.fullmatch(path)):
            ids = match.groupdict().items()
            found = tuple((_PATH_ATTRIBUTES[name], unquote(value)) for name, value in ids if name in _PATH_ATTRIBUTES)
            return msgspec.structs.replace(operation, attributes=found)
    return None
