"""The fake API as an ASGI application: reads the request, finds a reply, sends it."""

from __future__ import annotations

import time
import traceback
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qs

import msgspec

from tracer.testing import _chat, _embeddings, _model, _prompts, _responses
from tracer.testing._answer import Answer, Json, Prompt
from tracer.testing._jobs import Jobs
from tracer.testing._more import MoreEndpoints, succeeded
from tracer.testing._script import RecordedRequest, ReplySource, Script, operation
from tracer.testing._transmit import Headers, Receive, Send, Transmission, wire_pieces
from tracer.testing._wire import Mint, Payload, RefusedError, error_body, json_payload, stream_payload
from tracer.testing.reply import Reply

__all__ = ["API"]

_RESPONSES_KEPT = 1000


class API:
    """The ASGI application. It runs on one event loop; other threads use only `script`.

    Args:
        script: Where scripted replies come from.
        fallback: What answers when the script is empty.
        record: Called with each request, before it is answered.
        hold: Awaited at the point where a reply is held.
    """

    def __init__(
        self,
        script: Script,
        fallback: ReplySource,
        record: Callable[[RecordedRequest], None],
        hold: Callable[[], Awaitable[None]],
    ) -> None:
        self._script = script
        self._fallback = fallback
        self._record = record
        self._hold = hold
        self._mint = Mint()
        self._jobs = Jobs()
        self._more = MoreEndpoints(self._mint, self._jobs)
        self._stored: OrderedDict[str, tuple[Json, list[Json]]] = OrderedDict()

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        started = time.perf_counter()
        request = await _read(scope, receive)
        path, deployment = operation(request.path)
        source = self._script.take(path) or self._fallback
        self._record(request)
        reply, payload = self._reply(source, request, path, deployment)
        pieces = wire_pieces(reply, payload, named=path.startswith("/responses"))
        headers = self._headers(reply, payload, pieces, started)
        transmission = Transmission(scope["state"]["transport"], receive, send, self._hold)
        await transmission.run(reply, payload.status, headers, pieces)

    def _reply(
        self, source: ReplySource, request: RecordedRequest, path: str, deployment: str | None
    ) -> tuple[Reply, Payload]:
        """The reply and its body. An error of the test or of ours goes to the caller, since nothing is logged here."""
        try:
            reply = source(request) if callable(source) else source
            return reply, self._payload(reply, request, path, deployment)
        except Exception:
            described = error_body(f"FakeOpenAI failed: {traceback.format_exc()}", kind="server_error")
            return Reply(headers={"x-should-retry": "false"}), json_payload(described, 500)

    def _payload(self, reply: Reply, request: RecordedRequest, path: str, deployment: str | None) -> Payload:
        if isinstance(reply.content, Payload):
            return reply.content
        try:
            return self._answer(reply.content, request, path, deployment)
        except RefusedError as refused:
            return refused.payload

    def _answer(self, answer: Answer | None, request: RecordedRequest, path: str, deployment: str | None) -> Payload:
        if path.startswith("/responses/") and request.method == "GET":
            return self._retrieve(path.removeprefix("/responses/"), parse_qs(request.query))
        if (payload := self._more.answer(request, path, answer)) is not None:
            return payload
        endpoint = _ENDPOINTS.get(path)
        if endpoint is None or request.method != "POST":
            raise RefusedError(f"Invalid URL ({request.method} {request.path})", status=404)
        body = request.json
        if not isinstance(body, dict):
            raise RefusedError("We could not parse the JSON body of your request.")
        if deployment and body.get("model") is None:
            body["model"] = deployment
        if not isinstance(body.get("model"), str):
            raise RefusedError("you must provide a model parameter")
        return endpoint(self, body, answer)

    def _headers(self, reply: Reply, payload: Payload, pieces: list[bytes], started: float) -> Headers:
        headers: dict[str, str | None] = {
            "date": formatdate(usegmt=True),
            "content-type": payload.content_type,
            "x-request-id": self._mint("req_"),
            "openai-processing-ms": str(max(1, round((time.perf_counter() - started) * 1000))),
            **_CONSTANT_HEADERS,
        }
        if not payload.streamed:
            headers["content-length"] = str(sum(map(len, pieces)))
        if reply.compressed:
            headers["content-encoding"] = "gzip"
        headers |= reply.headers
        return [(name.encode(), value.encode("latin-1")) for name, value in headers.items() if value is not None]

    # The endpoints.

    def _chat_completions(self, body: Json, answer: Answer | None) -> Payload:
        if not isinstance(body.get("messages"), list):
            raise RefusedError("Missing required parameter: 'messages'.", param="messages")
        prompt = _prompts.from_chat(body)
        answers = _numbered(succeeded(answer) or _model.respond(prompt), body.get("n") or 1, scripted=bool(answer))
        completion = _chat.chat_completion(body, answers, prompt.words, self._mint)
        if not body.get("stream"):
            return json_payload(completion)
        return stream_payload(_chat.chat_chunks(completion, include_usage=_include_usage(body)), named=False)

    def _completions(self, body: Json, answer: Answer | None) -> Payload:
        given = body.get("prompt")
        text = " ".join(map(str, given)) if isinstance(given, list) else str(given or "")
        spoken = succeeded(answer) or _model.respond(Prompt(text=text, max_words=body.get("max_tokens")))
        answers = _numbered(spoken, body.get("n") or 1, scripted=bool(answer))
        completion = _chat.text_completion(body, answers, _chat.prompt_words(given), self._mint)
        if not body.get("stream"):
            return json_payload(completion)
        return stream_payload(_chat.text_chunks(completion, include_usage=_include_usage(body)), named=False)

    def _embeddings(self, body: Json, answer: Answer | None) -> Payload:
        succeeded(answer)
        return json_payload(_embeddings.embeddings(body))

    def _responses(self, body: Json, answer: Answer | None) -> Payload:
        history = self._history(body.get("previous_response_id"))
        prompt = _prompts.from_responses(body, history)
        response = _responses.response_object(body, answer or _model.respond(prompt), prompt.words, self._mint)
        if body.get("store") is not False:
            self._store(response, history, body.get("input") or [])
        if body.get("background"):
            response["background"] = True
            if not body.get("stream"):
                return json_payload(self._jobs.start(response))
        if not body.get("stream"):
            return json_payload(response)
        images = [tool.get("partial_images") or 0 for tool in body.get("tools") or ()]
        return stream_payload(_responses.response_events(response, partial_images=max(images, default=0)), named=True)

    def _retrieve(self, response_id: str, query: dict[str, list[str]]) -> Payload:
        response, _ = self._find(response_id)
        if query.get("stream") != ["true"]:
            return json_payload(self._jobs.look(response_id) or response)
        after = int(query.get("starting_after", ["-1"])[0])
        events = _responses.response_events(response)
        return stream_payload((event for event in events if event["sequence_number"] > after), named=True)

    def _history(self, response_id: str | None) -> list[Json]:
        """The input and output of a response and those before it."""
        if response_id is None:
            return []
        response, items = self._find(response_id)
        return [*items, *response["output"]]

    def _find(self, response_id: str) -> tuple[Json, list[Json]]:
        if response_id not in self._stored:
            raise RefusedError(f"Response with id '{response_id}' not found.", status=404)
        return self._stored[response_id]

    def _store(self, response: Json, history: list[Json], given: str | list[Json]) -> None:
        items = [{"role": "user", "content": given}] if isinstance(given, str) else given
        self._stored[response["id"]] = (response, [*history, *items])
        if len(self._stored) > _RESPONSES_KEPT:
            self._stored.popitem(last=False)


_ENDPOINTS: dict[str, Callable[[API, Json, Answer | None], Payload]] = {
    "/chat/completions": API._chat_completions,
    "/completions": API._completions,
    "/embeddings": API._embeddings,
    "/responses": API._responses,
}

_CONSTANT_HEADERS = {
    "openai-organization": "org-fake",
    "openai-version": "2020-10-01",
    "openai-poll-after-ms": "1",
    "x-ratelimit-limit-requests": "10000",
    "x-ratelimit-limit-tokens": "2000000",
    "x-ratelimit-remaining-requests": "9999",
    "x-ratelimit-remaining-tokens": "1999000",
    "x-ratelimit-reset-requests": "6ms",
    "x-ratelimit-reset-tokens": "30ms",
}


async def _read(scope: Mapping[str, Any], receive: Receive) -> RecordedRequest:
    parts: list[bytes] = []
    more = True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    return RecordedRequest(
        scope["method"], scope["path"], scope["query_string"].decode("latin-1"), headers, b"".join(parts)
    )


def _numbered(answer: Answer, count: int, *, scripted: bool) -> list[Answer]:
    """The answers for `n` choices; answers of the default model get a number, so that they differ."""
    if scripted or answer.text is None or count == 1:
        return [answer] * count
    rest = [msgspec.structs.replace(answer, text=f"{answer.text} ({number})") for number in range(2, count + 1)]
    return [answer, *rest]


def _include_usage(body: Json) -> bool:
    return bool((body.get("stream_options") or {}).get("include_usage"))
