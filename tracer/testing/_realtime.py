"""What the fake OpenAI says over a WebSocket when nobody scripts it: Realtime, and Responses."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from tracer.testing._answer import Answer, Json, Prompt, deltas
from tracer.testing._model import respond as answer
from tracer.testing._prompts import from_responses
from tracer.testing._responses import response_events, response_object
from tracer.testing._websocket_connection import FakeConnection
from tracer.testing._wire import Mint

__all__ = ["BYTES_PER_WORD", "converse", "respond"]

BYTES_PER_WORD = 480  # 10 ms of PCM, 24 kHz: the sound of one word

# --- Responses ------------------------------------------------------------------------------------------------------


async def respond(connection: FakeConnection) -> None:
    """Answer each ``response.create`` with the events of a stream over HTTP."""
    mint, histories = Mint(), dict[str, list[Json]]()
    while True:
        body = await connection.receive("response.create")
        history = histories.get(body.get("previous_response_id") or "", [])
        prompt = from_responses(body, history)
        response = response_object({"model": "gpt-5", **body}, answer(prompt), prompt.words, mint)
        given = body.get("input") or []
        items = [{"role": "user", "content": given}] if isinstance(given, str) else given
        histories[response["id"]] = [*history, *items, *response["output"]]
        lane = {"stream_id": body["stream_id"]} if body.get("stream_id") else {}
        for event in response_events(response):
            await connection.send({**event, **lane})


# --- Realtime -------------------------------------------------------------------------------------------------------


async def converse(connection: FakeConnection) -> None:
    """Hold a conversation: words and audio in, words and audio out, function calls."""
    conversation = _Conversation(connection.query.get("model", "gpt-realtime"))
    await connection.send(conversation.event("session.created", session=conversation.session))
    while True:
        event = await connection.receive()
        for reply in conversation.reply(event):
            await connection.send(reply)


class _Conversation:
    """The state of one session."""

    def __init__(self, model: str) -> None:
        self._mint = Mint()
        self._items: list[Json] = []
        self._audio = 0
        self.session: Json = {
            "type": "realtime",
            "object": "realtime.session",
            "id": self._mint("sess_"),
            "model": model,
            "output_modalities": ["audio"],
            "instructions": "",
            "tools": [],
            "tool_choice": "auto",
        }

    def event(self, kind: str, **fields: Any) -> Json:
        """A server's event."""
        return {"type": kind, "event_id": self._mint("event_"), **fields}

    def reply(self, event: Json) -> Iterator[Json]:
        """What the server says to a client's event."""
        kind = event.get("type")
        if kind == "session.update":
            self.session |= event["session"]
            yield self.event("session.updated", session=self.session)
        elif kind == "input_audio_buffer.append":
            self._audio += len(base64.b64decode(event["audio"]))
        elif kind == "input_audio_buffer.commit":
            yield from self._commit()
        elif kind == "conversation.item.create":
            yield from self._add(event["item"])
        elif kind == "response.create":
            yield from self._respond(event.get("response") or {})
        else:
            error = {"type": "invalid_request_error", "code": "invalid_value", "message": f"Invalid value: '{kind}'."}
            yield self.event("error", error={**error, "param": "type", "event_id": event.get("event_id")})

    def _commit(self) -> Iterator[Json]:
        heard, self._audio = f"{self._audio // BYTES_PER_WORD} words", 0
        item_id = self._mint("item_")
        yield self.event("input_audio_buffer.committed", item_id=item_id, previous_item_id=None)
        content: list[Json] = [{"type": "input_audio", "transcript": heard}]
        yield from self._add({"id": item_id, "type": "message", "role": "user", "content": content})
        done = "conversation.item.input_audio_transcription.completed"
        usage = {"type": "duration", "seconds": 0.01}
        yield self.event(done, item_id=item_id, content_index=0, transcript=heard, usage=usage)

    def _add(self, item: Json) -> Iterator[Json]:
        item = {"id": self._mint("item_"), "object": "realtime.item", "status": "completed", **item}
        previous = self._items[-1]["id"] if self._items else None
        self._items.append(item)
        yield self.event("conversation.item.added", previous_item_id=previous, item=item)
        yield self.event("conversation.item.done", previous_item_id=previous, item=item)

    def _respond(self, options: Json) -> Iterator[Json]:
        prompt = from_responses({**self.session, **options, "input": options.get("input") or []}, self._items)
        said = answer(prompt)
        in_words = "text" in (options.get("output_modalities") or self.session["output_modalities"])
        response: Json = {
            "object": "realtime.response",
            "id": self._mint("resp_"),
            "conversation_id": "conv_000000000001",
            "output_modalities": ["text"] if in_words else ["audio"],
            "metadata": options.get("metadata"),
        }
        started = {**response, "status": "in_progress", "status_details": None, "output": [], "usage": None}
        yield self.event("response.created", response=started)
        output = self._output(said, in_words=in_words)
        for index, item in enumerate(output):
            yield from self._item_events(response["id"], index, item)
        finished = {**response, "status": "completed", "status_details": None, "output": output}
        yield self.event("response.done", response={**finished, "usage": _usage(prompt, said, in_words=in_words)})
        self._items += output

    def _output(self, said: Answer, *, in_words: bool) -> list[Json]:
        base = {"object": "realtime.item", "status": "completed"}
        items: list[Json] = []
        if said.text is not None:
            content = {"type": "output_text", "text": said.text}
            if not in_words:
                content = {"type": "output_audio", "transcript": said.text}
            items.append({**base, "type": "message", "role": "assistant", "content": [content]})
        for call in said.tool_calls:
            fields = {"name": call.name, "arguments": call.arguments, "call_id": call.id or self._mint("call_")}
            items.append({**base, "type": "function_call", **fields})
        return [{"id": self._mint("item_"), **item} for item in items]

    def _item_events(self, response_id: str, index: int, item: Json) -> Iterator[Json]:
        place = {"response_id": response_id, "output_index": index}
        here = {**place, "item_id": item["id"]}
        empty: Json = {"content": []} if item["type"] == "message" else {"arguments": ""}
        blank = {**item, "status": "in_progress", **empty}
        yield self.event("response.output_item.added", **place, item=blank)
        if item["type"] == "function_call":
            for piece in deltas(item["arguments"]):
                yield self.event("response.function_call_arguments.delta", **here, delta=piece)
            yield self.event("response.function_call_arguments.done", **here, arguments=item["arguments"])
        else:
            yield from self._speech(here | {"content_index": 0}, item["content"][0])
        yield self.event("response.output_item.done", **place, item=item)

    def _speech(self, here: Json, part: Json) -> Iterator[Json]:
        field = "text" if part["type"] == "output_text" else "transcript"
        name = "response.output_text" if field == "text" else "response.output_audio_transcript"
        yield self.event("response.content_part.added", **here, part={**part, field: ""})
        for piece in deltas(part[field]):
            yield self.event(f"{name}.delta", **here, delta=piece)
            if field == "transcript":
                sound = base64.b64encode(b"\0\1" * (BYTES_PER_WORD // 2)).decode()
                yield self.event("response.output_audio.delta", **here, delta=sound)
        if field == "transcript":
            yield self.event("response.output_audio.done", **here)
        yield self.event(f"{name}.done", **here, **{field: part[field]})
        yield self.event("response.content_part.done", **here, part=part)


def _usage(prompt: Prompt, said: Answer, *, in_words: bool) -> Json:
    """Count words as tokens; what is heard or said as audio counts as audio."""
    text, audio = (said.words, 0) if in_words or said.text is None else (0, said.words)
    return {
        "total_tokens": prompt.words + said.words,
        "input_tokens": prompt.words,
        "output_tokens": said.words,
        "input_token_details": {
            "text_tokens": prompt.words,
            "audio_tokens": 0,
            "image_tokens": 0,
            "cached_tokens": 0,
            "cached_tokens_details": {"text_tokens": 0, "audio_tokens": 0, "image_tokens": 0},
        },
        "output_token_details": {"text_tokens": text, "audio_tokens": audio},
    }
