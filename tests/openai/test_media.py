"""Images, recordings and files of real calls: stored once, referenced wherever they stood, given back whole."""

from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import tracer
from tests.leaks import find_leaks
from tests.openai.calling import Caller, only_span, only_trace, traces
from tests.reading import stored_bytes, stored_rows
from tracer import _semconv as sc
from tracer.interpret.media import restore_media
from tracer.testing import FakeOpenAI, reply

PNG = b"\x89PNG\r\n\x1a\n" + bytes((7 * i * i) % 251 for i in range(50_000))
OTHER = b"\x89PNG\r\n\x1a\n" + bytes((5 * i * i + 3) % 251 for i in range(50_000))
PCM = bytes((3 * i * i + i) % 249 for i in range(20_000))


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def url(data: bytes) -> str:
    return f"data:image/png;base64,{b64(data)}"


def image_message(data: bytes) -> Any:
    parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url(data)}}]
    return [{"role": "user", "content": parts}]


def reference(data: bytes, kind: str, form: str = "") -> str:
    return f"media://sha256/{hashlib.sha256(data).hexdigest()}?type={kind}&bytes={len(data)}{form}"


def count(folder: Path, table: str) -> int:
    with closing(sqlite3.connect(f"file:{folder}/tracer.db?mode=ro", uri=True)) as connection:
        found: int = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    return found


async def stored(folder: Path) -> str:
    assert await tracer.flush()
    return stored_rows(folder)


def audio_answer(data: str) -> Any:
    message = {
        "role": "assistant",
        "content": None,
        "audio": {"id": "audio_1", "data": data, "expires_at": 1, "transcript": "A cat, " * 400},
    }
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "gpt-audio", "choices": [choice]}


async def test_chat_with_an_image_and_a_spoken_answer(caller: Caller, tmp_path: Path) -> None:
    caller.server.enqueue(reply.json_body(200, audio_answer(b64(PCM))))
    answer = await caller.chat(model="gpt-audio", messages=image_message(PNG))
    assert answer.choices[0].message.audio.data == b64(PCM)
    assert caller.server.requests[-1].json["messages"] == image_message(PNG)
    trace = await only_trace()
    [span] = trace.data.spans
    image = span.inputs["messages"][0]["content"][1]["image_url"]["url"]
    sound = span.outputs["choices"][0]["message"]["audio"]["data"]
    assert (image, sound) == (reference(PNG, "image/png", "&form=data"), reference(PCM, "audio/pcm"))
    seen = await trace.media(image)
    assert (seen.content_type, seen.data) == ("image/png", PNG)
    assert (await tracer.get_media(seen.hash)).data == PNG
    assert (await tracer.get_media(sound)).data == PCM
    assert str(trace.to_dict()).count("media://") == 2
    assert trace.info.request_preview == "What is this?"
    whole = restore_media(json.dumps(span.inputs, separators=(",", ":")).encode(), {seen.hash: PNG}.get)
    assert json.loads(whole) == caller.server.requests[-1].json
    for text in (await stored(tmp_path), trace.to_json(), trace.format_tree(), repr(seen)):
        assert b64(PNG)[:200] not in text
        assert b64(PCM)[:200] not in text


async def test_one_image_in_a_hundred_calls_is_stored_once(server: FakeOpenAI, tmp_path: Path) -> None:
    tracer.autolog()
    with server.client() as client:
        for _ in range(100):
            client.chat.completions.create(model="gpt-5", messages=image_message(PNG))
    assert len(await traces()) == 100
    assert (count(tmp_path, "media"), count(tmp_path, "span_media")) == (1, 100)
    assert len(stored_bytes(tmp_path)) < 50 * len(PNG), "inline it would be 133 times"


async def test_image_that_responses_draws_is_referenced_in_outputs_and_events(caller: Caller, tmp_path: Path) -> None:
    begun = {"id": "ig_1", "type": "image_generation_call", "status": "in_progress", "result": None}
    item = {**begun, "status": "completed", "result": b64(PNG), "output_format": "png"}
    created = {"id": "r", "object": "response", "status": "in_progress", "model": "gpt-5", "output": []}
    partial = {"item_id": "ig_1", "output_index": 0, "partial_image_index": 0, "partial_image_b64": b64(OTHER)}
    events: list[Any] = [
        {"type": "response.created", "response": created},
        {"type": "response.output_item.added", "output_index": 0, "item": begun},
        {"type": "response.image_generation_call.partial_image", **partial},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": {**created, "status": "completed", "output": [item]}},
    ]
    caller.server.enqueue(reply.sse(events).split(700))
    stream = await caller.settle(caller.client.responses.create, model="gpt-5", input="Draw a cat", stream=True)
    got = await caller.items(stream)
    assert got[2].partial_image_b64 == b64(OTHER)
    trace = await only_trace()
    span = trace.data.spans[0]
    drawn, draft = reference(PNG, "image/png"), reference(OTHER, "image/png")
    assert span.outputs["output"][0]["result"] == drawn
    chunks = [event.attributes["data"] for event in span.events if event.name == sc.EVENT_CHUNK]
    assert [chunk["type"] for chunk in chunks] == [event["type"] for event in events]
    assert chunks[2]["partial_image_b64"] == draft
    assert chunks[4]["response"]["output"][0]["result"] == drawn
    times = [event.timestamp_ns for event in span.events]
    assert times == sorted(times)
    assert times[-1] > times[0]
    assert (await trace.media(drawn)).data == PNG
    assert (await trace.media(draft)).data == OTHER
    rows = await stored(tmp_path)
    assert b64(PNG)[:200] not in rows
    assert b64(OTHER)[:200] not in rows


async def test_compressed_stream_is_kept_without_its_images(caller: Caller, tmp_path: Path) -> None:
    looks = {"created_at": 1, "size": "1024x1024", "quality": "low", "background": "opaque", "output_format": "png"}
    events: list[Any] = [
        {"type": "image_generation.partial_image", "b64_json": b64(OTHER), "partial_image_index": 0, **looks},
        {"type": "image_generation.completed", "b64_json": b64(PNG), **looks},
    ]
    caller.server.enqueue(reply.sse(events).gzipped())
    options = {"model": "gpt-image-1", "prompt": "A cat", "stream": True, "partial_images": 1}
    await caller.items(await caller.settle(caller.client.images.generate, **options))
    span = await only_span()
    assert span.outputs["data"] == [{"b64_json": reference(PNG, "image/png")}]
    assert [event.attributes["data"]["b64_json"] for event in span.events] == [
        reference(OTHER, "image/png"),
        reference(PNG, "image/png"),
    ]
    assert b64(PNG)[:200] not in await stored(tmp_path)


async def test_generated_image_is_referenced(caller: Caller) -> None:
    caller.server.enqueue(reply.json_body(200, {"created": 1, "data": [{"b64_json": b64(PNG)}]}))
    answer = await caller.settle(caller.client.images.generate, model="gpt-image-1", prompt="A cat")
    assert answer.data[0].b64_json == b64(PNG)
    span = await only_span()
    assert span.outputs["data"] == [{"b64_json": reference(PNG, "image/png")}]


async def test_streamed_speech_of_a_chat_is_one_recording(caller: Caller, tmp_path: Path) -> None:
    def chunk(delta: Any, finish: str | None = None) -> Any:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-audio", "choices": [choice]}

    pieces = [PCM[:7000], PCM[7000:14001], PCM[14001:]]
    events = [
        chunk({"role": "assistant", "audio": {"id": "audio_1", "transcript": "A {cat}, " * 300}}),
        *[chunk({"audio": {"data": b64(piece)}}) for piece in pieces],
        chunk({}, "stop"),
        "[DONE]",
    ]
    caller.server.enqueue(reply.sse(events))
    await caller.items(await caller.chat(stream=True, model="gpt-audio"))
    span = await only_span()
    assert span.outputs["choices"][0]["message"]["audio"]["data"] == reference(PCM, "audio/pcm")
    chunks = [event.attributes["data"]["choices"][0]["delta"] for event in span.events]
    assert [delta["audio"]["data"] for delta in chunks[1:4]] == [reference(piece, "audio/pcm") for piece in pieces]
    assert b64(PCM)[:200] not in await stored(tmp_path)


async def test_functions_that_take_and_give_images(mode: str, tmp_path: Path) -> None:
    @tracer.trace
    def shrink(image: bytes, name: str) -> dict[str, Any]:
        tracer.get_current_active_span().add_event("seen", {"again": url(image)})  # type: ignore[union-attr]
        return {"image": url(image), "name": name}

    with tracer.start_span("outer", attributes={"picture": url(OTHER)}):
        shrink(PNG, "cat.png")
    trace = await only_trace()
    outer, span = trace.data.spans
    assert outer.attributes["picture"] == reference(OTHER, "image/png", "&form=data")
    assert span.inputs == {"image": reference(PNG, "image/png"), "name": "cat.png"}
    assert span.outputs == {"image": reference(PNG, "image/png", "&form=data"), "name": "cat.png"}
    assert span.events[0].attributes == {"again": reference(PNG, "image/png", "&form=data")}
    shrink(PNG, "cat.png")
    page = await tracer.search_traces(text="cat")
    assert sorted(trace.info.request_preview or "" for trace in page) == ["", '{"image":"…","name":"cat.png"}']
    assert b64(PNG)[:200] not in await stored(tmp_path)


async def test_media_go_with_the_last_trace_that_refers_to_them(server: FakeOpenAI, tmp_path: Path) -> None:
    tracer.autolog()
    with server.client() as client:
        for image in (PNG, PNG, OTHER):
            client.chat.completions.create(model="gpt-5", messages=image_message(image))
    first, second, third = [trace.info.trace_id for trace in await traces()]
    await tracer.delete_traces([first])
    assert (await tracer.get_media(hashlib.sha256(PNG).hexdigest())).data == PNG
    await tracer.delete_traces([second])
    with pytest.raises(tracer.MediaNotFoundError, match="no media"):
        await tracer.get_media(reference(PNG, "image/png"))
    assert tracer.sync.get_media(reference(OTHER, "image/png")).data == OTHER
    await tracer.delete_traces([third])
    assert (count(tmp_path, "media"), count(tmp_path, "span_media")) == (0, 0)


@pytest.mark.parametrize("wrong", ["x", "0" * 64, f"media://sha256/{'0' * 64}?type=image/png&bytes=1"])
async def test_unknown_media(wrong: str, mode: str) -> None:
    with pytest.raises(LookupError) as caught:
        await tracer.get_media(wrong)
    assert isinstance(caught.value, tracer.TracerError)


async def test_withheld_content_leaves_no_media(server: FakeOpenAI, tmp_path: Path) -> None:
    tracer.openai.autolog(capture_content=False)
    with server.client() as client:
        client.chat.completions.create(model="gpt-5", messages=image_message(PNG))
    assert "media://" not in await stored(tmp_path)
    assert count(tmp_path, "media") == 0
    assert find_leaks(tmp_path, [PNG[:100], b64(PNG)[:100].encode()]) == []


async def test_hooks_decide_about_images_before_they_are_stored(server: FakeOpenAI, tmp_path: Path) -> None:
    tracer.configure(redact=[lambda text: "[image]" if text.startswith("data:image/") else text])
    tracer.autolog()
    with server.client() as client:
        client.chat.completions.create(model="gpt-5", messages=image_message(PNG))
    span = await only_span()
    assert span.inputs["messages"][0]["content"][1]["image_url"]["url"] == "[image]"
    assert count(tmp_path, "media") == 0


async def test_an_image_that_was_cut_stays_a_text_with_its_mark(server: FakeOpenAI, tmp_path: Path) -> None:
    tracer.configure(max_payload_bytes=100_000)
    tracer.autolog()
    with server.client() as client:
        for size in range(49_000, 49_004):  # some of which leave base64 that is whole by chance
            parts = [*image_message(PNG[:size])[0]["content"], *image_message(OTHER)[0]["content"]]
            client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": parts}])
    for trace in await traces():
        [span] = trace.data.spans
        whole, cut = [part["image_url"]["url"] for part in span.inputs["messages"][0]["content"] if "image_url" in part]
        assert whole.startswith("media://")
        assert url(OTHER).startswith(cut)
        assert len(cut) > 20_000
        assert span.attributes[sc.TRUNCATED]["inputs"] > 0
    assert count(tmp_path, "media") == 4


async def test_bytes_of_a_function_that_were_cut_are_no_medium(mode: str, tmp_path: Path) -> None:
    tracer.configure(max_payload_bytes=30_000)
    with tracer.start_span("s") as span:
        span.set_inputs([PNG[:9000], PNG, 1])
    [stored_span] = (await only_trace()).data.spans
    assert stored_span.inputs[0] == reference(PNG[:9000], "image/png")
    assert b64(PNG).startswith(stored_span.inputs[1][:1000])
    assert sc.TRUNCATED in stored_span.attributes
    assert count(tmp_path, "media") == 1


async def test_speech_beyond_the_limit_or_withheld_is_counted_only(caller: Caller, tmp_path: Path) -> None:
    tracer.configure(max_payload_bytes=10_000)
    say = {"model": "gpt-4o-mini-tts", "voice": "alloy", "input": "word " * 11}
    answer = await caller.settle(caller.client.audio.speech.create, **say)
    assert len(answer.content) == 11_000
    span = await only_span()
    assert span.outputs == {"content_type": "audio/mpeg", "size": 11_000}
    assert sc.TRUNCATED not in span.attributes
    async with caller.entered(caller.client.audio.speech.with_streaming_response.create(**say)) as response:
        assert len(b"".join(await caller.items(response.iter_bytes(1_000)))) == 11_000
    trace = (await traces())[-1]
    assert trace.data.spans[0].outputs == {"content_type": "audio/mpeg", "size": 11_000}
    assert trace.info.dropped["chunks"] > 0
    tracer.openai.autolog(capture_content=False)
    await caller.settle(caller.client.audio.speech.create, **{**say, "input": "Hi there"})
    hidden = (await traces())[-1].data.spans[0]
    assert hidden.outputs == {"content_type": "[withheld]", "size": 2000, "data": "[withheld]"}
    assert count(tmp_path, "media") == 0


async def test_media_that_cannot_be_taken_out_stay_where_they_are(
    server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch, tracer_log: list[Any]
) -> None:
    def fail(row: Any) -> Any:
        raise RuntimeError("no")

    monkeypatch.setattr("tracer.assembly.assembler.take_media", fail)
    tracer.autolog()
    with server.client() as client:
        client.chat.completions.create(model="gpt-5", messages=image_message(PNG))
    span = await only_span()
    assert span.inputs["messages"] == image_message(PNG)
    assert "media could not be taken out of a span" in tracer_log[0].getMessage()
    tracer_log.clear()
