"""Images, audio, moderations, decisions, searches, videos and runs: every way of calling leaves one right span."""

from __future__ import annotations

import io
from operator import attrgetter
from typing import Any, NamedTuple

import openai
import pytest

import tracer
from tests.openai.calling import Caller, finish, only_span, only_trace, traces
from tests.sdk import READ_FAILED
from tracer import Span
from tracer import _semconv as sc
from tracer.testing import reply

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the SDK: videos, assistants

PNG = ("cat.png", b"\x89PNG-of-the-user", "image/png")
MP3 = ("hello.mp3", b"ID3-of-the-user", "audio/mpeg")
QUESTIONS: list[Any] = [{"type": "predicate", "name": "spam", "instructions": "Is it spam?"}]


class Case(NamedTuple):
    """One operation: how it is called, and what its span says."""

    path: str
    arguments: dict[str, Any]
    resource: str
    span_type: str
    operation: str | None
    request: str
    response: str
    tokens: int | None = None

    async def call(self, c: Caller) -> Any:
        return await call(c, self.path, **self.arguments)


def method_of(c: Caller, path: str, wrapper: str | None = None) -> Any:
    *resources, last = path.split(".")
    return attrgetter(".".join([*resources, *([wrapper] if wrapper else []), last]))(c.client)


async def call(c: Caller, path: str, **arguments: Any) -> Any:
    return await c.settle(method_of(c, path), **arguments)


IMAGE = {"model": "gpt-image-1", "prompt": "A cat"}
SAY = {"model": "gpt-4o-mini-tts", "input": "Hello there", "voice": "alloy"}
HEAR = {"model": "gpt-4o-transcribe", "file": MP3}
WHISPER = {"model": "whisper-1", "file": MP3}
SEARCH = {"vector_store_id": "vs_1", "query": "tea"}
DECIDE = {"model": "gpt-6-luna", "input": "Buy now", "questions": QUESTIONS}
HI: list[Any] = [{"role": "user", "content": "Hi"}]
RUN = {"thread_id": "thread_1", "assistant_id": "asst_1", "additional_messages": HI}
NEW_RUN = {"assistant_id": "asst_1", "thread": {"messages": HI}}

DREW = ("Images", "TOOL", "image_generation")
HEARD = ("hello.mp3", "This is hello.mp3.")
FILMED = ("Videos", "TOOL", "video_generation")
RAN = ("AGENT", "invoke_agent", "Hi", "queued")
CASES = {
    "image": Case("images.generate", {**IMAGE, "n": 2}, *DREW, "A cat", "2 images 1024x1024 low png", 202),
    "edit": Case("images.edit", {**IMAGE, "image": [PNG, PNG]}, *DREW, "A cat", "1 image 1024x1024 low png", 202),
    "variation": Case("images.create_variation", {"image": PNG, "n": 3}, *DREW, "cat.png", "3 images"),
    "speech": Case("audio.speech.create", SAY, "Speech", "TOOL", "speech", "Hello there", "2,000 bytes of audio/mpeg"),
    "transcription": Case("audio.transcriptions.create", HEAR, "Transcriptions", "TOOL", "transcription", *HEARD, 23),
    "translation": Case("audio.translations.create", WHISPER, "Translations", "TOOL", "translation", *HEARD),
    "moderation": Case(
        "moderations.create", {"input": "I kill"}, "Moderations", "GUARDRAIL", None, "I kill", "flagged: violence"
    ),
    "decision": Case("decisions.create", DECIDE, "Decisions", "LLM", None, "Buy now", "spam: 0.9", 3),
    "search": Case("vector_stores.search", SEARCH, "VectorStores", "RETRIEVER", None, "tea", "notes.txt"),
    "video": Case("videos.create", {"prompt": "A cat"}, *FILMED, "A cat", "queued 720x1280 4 s"),
    "remix": Case("videos.remix", {"video_id": "v_1", "prompt": "Faster"}, *FILMED, "Faster", "queued 720x1280 4 s"),
    "run": Case("beta.threads.runs.create", RUN, "Runs", *RAN),
    "run with its thread": Case("beta.threads.create_and_run", NEW_RUN, "Threads", *RAN),
}


def sent(c: Caller) -> Any:
    """What the server got: JSON, or a form with its ``[]`` taken off."""
    request = c.server.requests[-1]
    if request.form is None:
        return request.json
    return {name.removesuffix("[]"): value for name, value in request.form.items()}


@pytest.mark.parametrize("name", CASES)
async def test_each_operation_leaves_one_span_that_says_what_was_sent_and_what_came(caller: Caller, name: str) -> None:
    case = CASES[name]
    answer = await case.call(caller)
    trace = await only_trace()
    [span] = trace.data.spans
    assert (span.name, span.span_type) == (f"{caller.prefix}{case.resource}", case.span_type)
    assert span.get_attribute(sc.OPERATION_NAME) == case.operation
    assert span.inputs == sent(caller)
    assert (trace.info.request_preview, trace.info.response_preview) == (case.request, case.response)
    assert (finish(span), span.status.status_code) == ("completed", "OK")
    assert (trace.info.token_usage or {}).get("total_tokens") == case.tokens
    assert sc.NOTE not in span.attributes
    if hasattr(answer, "model_dump") and name != "search":
        wire = answer.model_dump(exclude_unset=True, warnings=False, by_alias=True)
        assert {key: span.outputs[key] for key in wire} == wire


@pytest.mark.parametrize("name", CASES)
async def test_raw_and_streaming_wrappers_leave_the_same_span(caller: Caller, name: str) -> None:
    case = CASES[name]
    if name == "search" and caller.is_async:
        pytest.skip("the SDK's async wrappers can't await a page")
    raw = await caller.settle(method_of(caller, case.path, "with_raw_response"), **case.arguments)
    assert raw.status_code == 200
    manager = method_of(caller, case.path, "with_streaming_response")(**case.arguments)
    async with caller.entered(manager) as streamed:
        assert await caller.settle(streamed.read)
    first, second = [trace.data.spans[0] for trace in await traces()]
    assert first.name == second.name == f"{caller.prefix}{case.resource}"
    assert first.inputs == second.inputs
    assert finish(first) == finish(second) == "completed"
    assert _shape(first.outputs) == _shape(second.outputs)


def _shape(outputs: Any) -> Any:
    return sorted(outputs) if isinstance(outputs, dict) else outputs


@pytest.mark.parametrize("name", CASES)
async def test_refused_call_fails_with_the_apis_words_and_keeps_what_was_sent(caller: Caller, name: str) -> None:
    case = CASES[name]
    caller.server.enqueue(reply.error(400, "No such voice", code="bad_voice"))
    with pytest.raises(openai.BadRequestError, match="No such voice"):
        await case.call(caller)
    span = await only_span()
    assert span.name == f"{caller.prefix}{case.resource}"
    assert span.inputs == sent(caller)
    assert span.outputs["error"]["code"] == "bad_voice"
    assert (finish(span), span.status.status_code) == ("failed", "ERROR")
    assert "No such voice" in span.status.description


@pytest.mark.parametrize("name", sorted(CASES.keys() - {"speech"}))
async def test_body_that_is_no_json_is_kept_as_text_with_a_note(caller: Caller, name: str) -> None:
    caller.server.enqueue(reply.raw(b'{"data": [oops', "application/json"))
    with pytest.raises((ValueError, openai.APIError)):  # what the SDK's JSON parser raises
        await CASES[name].call(caller)
    span = await only_span()
    assert span.outputs == '{"data": [oops'
    assert "no JSON" in str(span.get_attribute(sc.NOTE))
    assert finish(span) == "failed"


# --- the details ------------------------------------------------------------------------------------------------------


async def test_file_of_a_form_is_named_and_measured_but_neither_read_nor_kept(caller: Caller, tmp_path: Any) -> None:
    path = tmp_path / "speech.wav"
    path.write_bytes(b"RIFF-secret-of-the-user" * 100)
    with path.open("rb") as file:
        file.seek(4)
        await call(caller, "audio.transcriptions.create", model="m", file=file, include=["logprobs"], temperature=0.5)
    span = await only_span()
    described = {"filename": "speech.wav", "content_type": span.inputs["file"]["content_type"], "size": 2300}
    assert span.inputs == {"model": "m", "include": ["logprobs"], "temperature": "0.5", "file": described}
    assert described["content_type"] in ("audio/x-wav", "audio/wav", "audio/vnd.wave")
    assert span.get_attribute(sc.REQUEST_TEMPERATURE) == 0.5
    assert "secret-of-the-user" not in repr(span)


class Pipe(io.RawIOBase):
    """A file that can be read once, and can't tell its size."""

    name = "pipe.mp3"

    def __init__(self, data: bytes) -> None:
        self.data = io.BytesIO(data)
        self.reads = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.reads += 1
        return self.data.readinto(buffer)


async def test_file_that_can_be_read_once_is_left_to_the_sdk(caller: Caller) -> None:
    await call(caller, "audio.transcriptions.create", model="m", file=Pipe(b"once"))
    assert caller.server.requests[-1].form["file"]["size"] == 4  # type: ignore[index]
    assert (await only_span()).inputs["file"] == {"filename": "pipe.mp3", "content_type": "audio/mpeg", "size": None}


@pytest.mark.parametrize(
    ("kind", "text"), [("text", "Hi\n"), ("srt", "1\n00:00:00,000 --> 00:00:02,000\nHi\n\n"), ("vtt", "WEBVTT")]
)
async def test_plain_text_formats_are_texts_without_a_note(caller: Caller, kind: str, text: str) -> None:
    caller.server.enqueue(reply.text("Hi"))
    answer = await call(caller, "audio.transcriptions.create", model="whisper-1", file=MP3, response_format=kind)
    span = await only_span()
    assert span.outputs == answer
    assert span.outputs.startswith(text)
    assert sc.NOTE not in span.attributes


async def test_seconds_are_no_tokens(caller: Caller) -> None:
    await call(caller, "audio.transcriptions.create", model="whisper-1", file=MP3)
    span = await only_span()
    assert span.token_usage is None
    assert span.get_attribute(sc.AUDIO_SECONDS) == 2


async def test_audio_and_image_tokens_are_told_apart(caller: Caller) -> None:
    await call(caller, "audio.transcriptions.create", **HEAR)
    await call(caller, "images.edit", **IMAGE, image=PNG)
    heard, drawn = [trace.data.spans[0] for trace in await traces()]
    assert heard.token_usage == {"input_tokens": 20, "output_tokens": 3, "total_tokens": 23, "input_audio_tokens": 20}
    assert drawn.token_usage == {"input_tokens": 102, "output_tokens": 100, "total_tokens": 202}
    assert drawn.get_attribute(sc.INPUT_IMAGE_TOKENS) == drawn.get_attribute(sc.OUTPUT_IMAGE_TOKENS) == 100


async def test_search_gives_documents_with_id_score_and_text(caller: Caller) -> None:
    caller.server.enqueue(reply.text("Tea is brewed."))
    page = await call(caller, "vector_stores.search", vector_store_id="vs_1", query="tea")
    assert page.data[0].content[0].text == "Tea is brewed."
    span = await only_span()
    assert span.get_attribute(sc.DATA_SOURCE_ID) == "vs_1"
    assert span.get_attribute(sc.RETRIEVAL_DOCUMENTS) == [{"id": "file-1", "score": 0.75, "text": "Tea is brewed."}]
    assert span.outputs["data"][0]["filename"] == "notes.txt"


async def test_moderation_says_what_was_flagged(caller: Caller) -> None:
    await call(caller, "moderations.create", input=["I hate you", "Good morning"])
    await call(caller, "moderations.create", input="Good morning")
    bad, good = [trace.data.spans[0] for trace in await traces()]
    assert (bad.get_attribute(sc.MODERATION_FLAGGED), good.get_attribute(sc.MODERATION_FLAGGED)) == (True, False)
    assert bad.get_attribute(sc.MODERATION_CATEGORIES) == ["hate"]


# --- binary answers ---------------------------------------------------------------------------------------------------


def binary(span: Span) -> Any:
    outputs = {key: span.outputs[key] for key in span.outputs if key != "data"}
    return outputs, span.get_attribute(sc.OUTPUT_BYTES), span.get_attribute(sc.OUTPUT_CONTENT_TYPE)


async def test_speech_is_kept_and_counted(caller: Caller) -> None:
    answer = await call(caller, "audio.speech.create", **SAY, response_format="wav")
    assert len(answer.content) == 2000
    span = await only_span()
    assert binary(span) == ({"content_type": "audio/wav", "size": 2000}, 2000, "audio/wav")
    recording = await tracer.get_media(span.outputs["data"])
    assert (recording.content_type, recording.data) == ("audio/wav", answer.content)


async def test_speech_that_is_read_piece_by_piece_is_counted_with_its_first_byte_timed(caller: Caller) -> None:
    manager = caller.client.audio.speech.with_streaming_response.create(**SAY)
    async with caller.entered(manager) as response:
        pieces = await caller.items(response.iter_bytes(300))
    assert len(b"".join(pieces)) == 2000
    span = await only_span()
    assert (await tracer.get_media(span.outputs["data"])).data == b"".join(pieces)
    assert binary(span) == ({"content_type": "audio/mpeg", "size": 2000}, 2000, "audio/mpeg")
    assert span.get_attribute(sc.TIME_TO_FIRST_CHUNK) > 0
    assert finish(span) == "completed"
    assert not span.events


async def test_speech_that_is_left_early_is_abandoned_with_the_bytes_that_came(caller: Caller) -> None:
    caller.server.enqueue(reply.raw(b"\xff\xfb" * 50_000, "audio/mpeg").split(10_000).delayed(between=0.02))
    async with caller.entered(caller.client.audio.speech.with_streaming_response.create(**SAY)) as response:
        await caller.first(response.iter_bytes(1000))
    span = await only_span()
    assert finish(span) == "abandoned"
    assert 1000 <= span.outputs["size"] < 100_000


async def test_speech_under_a_wrong_content_type_is_counted_all_the_same(caller: Caller) -> None:
    caller.server.enqueue(reply.raw(b"\xff\xfb\x90\x00" * 500, "application/json"))
    await call(caller, "audio.speech.create", **SAY)
    assert binary(await only_span())[:2] == ({"content_type": "application/json", "size": 2000}, 2000)


async def test_speech_events_are_summed_up_with_their_usage(caller: Caller) -> None:
    await call(caller, "audio.speech.create", **SAY, stream_format="sse")
    span = await only_span()
    assert span.outputs["size"] == 2000
    assert span.token_usage == {"input_tokens": 2, "output_tokens": 20, "total_tokens": 22}
    assert finish(span) == "completed"


# --- streams ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("edit", [False, True], ids=["generate", "edit"])
async def test_streamed_image_is_rebuilt_to_the_plain_response(caller: Caller, edit: bool) -> None:
    options = {**IMAGE, "stream": True, "partial_images": 2, **({"image": PNG} if edit else {})}
    events = await caller.items(await call(caller, "images.edit" if edit else "images.generate", **options))
    assert [event.type.rpartition(".")[2] for event in events] == ["partial_image", "partial_image", "completed"]
    span = await only_span()
    assert span.name == f"{caller.prefix}Images"
    assert span.outputs["data"] == [{"b64_json": events[-1].b64_json}]
    assert span.outputs["size"] == "1024x1024"
    assert span.token_usage is not None
    assert span.token_usage["total_tokens"] == events[-1].usage.total_tokens
    assert len([event for event in span.events if event.name == sc.EVENT_CHUNK]) == 3
    assert finish(span) == "completed"
    assert span.get_attribute(sc.STREAM) is True


async def test_image_stream_that_breaks_keeps_the_last_state_of_the_image(caller: Caller) -> None:
    caller.server.enqueue(reply.default().cut(after_events=1))
    stream = await call(caller, "images.generate", **IMAGE, stream=True, partial_images=2)
    with pytest.raises(READ_FAILED):
        await caller.items(stream)
    span = await only_span()
    assert finish(span) == "failed"
    assert span.outputs["data"][0]["partial_image_index"] == 0
    assert span.token_usage is None


async def test_streamed_transcript_is_rebuilt_to_the_plain_response(caller: Caller) -> None:
    caller.server.enqueue(reply.text("Grüße from here"))
    events = await caller.items(await call(caller, "audio.transcriptions.create", **HEAR, stream=True))
    span = await only_span()
    assert span.outputs["text"] == events[-1].text == "Grüße from here"
    assert span.token_usage is not None
    assert span.token_usage["total_tokens"] == 23
    assert finish(span) == "completed"


STREAMS = {
    "images": ("images.generate", {**IMAGE, "stream": True, "partial_images": 2}),
    "transcriptions": ("audio.transcriptions.create", {**HEAR, "stream": True}),
}


@pytest.mark.parametrize("name", STREAMS)
async def test_error_inside_a_stream_fails_the_span_and_is_an_exception_event(caller: Caller, name: str) -> None:
    caller.server.enqueue(reply.default().failing(after_events=1, message="Out of paint"))
    path, arguments = STREAMS[name]
    stream = await call(caller, path, **arguments)
    with pytest.raises(openai.APIError, match="Out of paint"):
        await caller.items(stream)
    span = await only_span()
    description = span.status.description.removeprefix("APIError: ")  # which older SDKs raise out of our sight
    assert (finish(span), description) == ("failed", "Out of paint")
    [event] = [event for event in span.events if event.name == sc.EVENT_EXCEPTION]
    assert event.attributes[sc.EXCEPTION_TYPE] == "APIError"
    assert span.outputs.get("data") or span.outputs["text"]  # what had come


async def test_unknown_events_of_later_versions_do_no_harm(caller: Caller) -> None:
    done = {"type": "transcript.text.done", "text": "Hi", "mood": "good"}
    caller.server.enqueue(reply.sse([{"type": "transcript.mood", "mood": "good"}, b": comment\n\n", done, "[DONE]"]))
    await caller.items(await call(caller, "audio.transcriptions.create", **HEAR, stream=True))
    span = await only_span()
    assert span.outputs == {"text": "Hi", "mood": "good"}
    assert finish(span) == "completed"


async def test_truncated_gzip_keeps_what_could_be_unpacked(caller: Caller) -> None:
    caller.server.enqueue(reply.default().gzipped().cut(after_bytes=150))
    async with caller.entered(caller.client.images.with_streaming_response.generate(**IMAGE)) as response:
        with pytest.raises(Exception):  # noqa: B017, PT011  the transport's
            await caller.settle(response.read)
    span = await only_span()
    assert finish(span) == "failed"
    assert isinstance(span.outputs, str)
    assert span.outputs.startswith('{"created":')


@pytest.mark.parametrize("charset", ["iso-8859-1", "utf-16", "utf-8"])
async def test_the_caller_and_the_span_read_a_text_alike_and_hooks_see_it(caller: Caller, charset: str) -> None:
    tracer.configure(redact=[lambda text: text.replace("Zoë", "[name]")])
    caller.server.enqueue(reply.raw("Zoë: schön".encode(charset), f"text/plain; charset={charset}"))
    answer = await call(caller, "audio.transcriptions.create", model="whisper-1", file=MP3, response_format="text")
    assert answer == "Zoë: schön"
    span = await only_span()
    assert span.outputs == "[name]: schön"
    assert (await tracer.get_trace(span.trace_id)).info.response_preview == "[name]: schön"


async def test_redacting_hooks_see_transcripts(caller: Caller) -> None:
    tracer.configure(redact=[lambda text: text.replace("Alice", "[name]")])
    caller.server.enqueue(reply.text("I am Alice"))
    await call(caller, "audio.transcriptions.create", model="whisper-1", file=MP3, response_format="text")
    assert (await only_span()).outputs == "I am [name]\n"


async def test_without_content_names_numbers_and_no_texts_are_kept(caller: Caller) -> None:
    tracer.openai.autolog(capture_content=False)
    caller.server.enqueue(reply.text("A secret"), reply.text("A secret"))
    await call(caller, "audio.transcriptions.create", **HEAR, prompt="A secret", response_format="text")
    await call(caller, "vector_stores.search", vector_store_id="vs_1", query="A secret")
    heard, found = [trace.data.spans[0] for trace in await traces()]
    assert "secret" not in repr([heard, found])
    assert heard.inputs["model"] == "gpt-4o-transcribe"
    assert heard.inputs["file"]["size"] == len(MP3[1])
    assert found.get_attribute(sc.RETRIEVAL_DOCUMENTS)[0]["score"] == 0.75
    assert found.get_attribute(sc.DATA_SOURCE_ID) == "vs_1"
