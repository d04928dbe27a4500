"""The fake server's images, audio, judges and jobs, through the SDK's own types."""

from __future__ import annotations

import base64

import openai
import pytest

from tracer.testing import FakeOpenAI, reply

WAV = ("a.wav", b"RIFF1234", "audio/wav")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def test_form_is_recorded_with_its_files_measured(server: FakeOpenAI, client: openai.OpenAI) -> None:
    client.images.edit(model="gpt-image-1", prompt="Grüße", image=[("a.png", b"1"), ("b.png", b"22", "image/x")], n=1)
    files = [
        {"filename": "a.png", "content_type": "image/png", "size": 1},
        {"filename": "b.png", "content_type": "image/x", "size": 2},
    ]
    recorded = server.requests[-1]
    assert recorded.json is None
    assert recorded.form == {"model": "gpt-image-1", "prompt": "Grüße", "n": "1", "image[]": files}


def test_json_is_no_form(server: FakeOpenAI, client: openai.OpenAI) -> None:
    client.moderations.create(input="Hi")
    assert server.requests[-1].form is None


def test_images_are_pictures(client: openai.OpenAI) -> None:
    [image] = client.images.generate(model="gpt-image-1", prompt="A dot").data or []
    assert base64.b64decode(image.b64_json or "").startswith(b"\x89PNG")


def test_scripted_text_is_what_was_heard_and_what_a_prompt_became(server: FakeOpenAI, client: openai.OpenAI) -> None:
    server.enqueue(reply.text("Good day"), reply.text("A better prompt"))
    assert client.audio.transcriptions.create(model="whisper-1", file=WAV).text == "Good day"
    [image] = client.images.generate(model="dall-e-3", prompt="A dot").data or []
    assert image.revised_prompt == "A better prompt"
    assert image.url


def test_speech_is_the_same_for_the_same_words(client: openai.OpenAI) -> None:
    said = [client.audio.speech.create(model="tts-1", voice="alloy", input=text).content for text in ("a", "a", "b")]
    assert said[0] == said[1] != said[2]


def test_missing_prompt_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="prompt"):
        client.images.generate(model="gpt-image-1", prompt="")


def test_job_goes_through_its_states(client: openai.OpenAI) -> None:
    response = client.responses.create(model="gpt-5", input="Hi", background=True)
    statuses = [response.status, *(client.responses.retrieve(response.id).status for _ in range(4))]
    assert statuses == ["queued", "queued", "in_progress", "completed", "completed"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_unknown_job_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="video_9"):
        client.videos.retrieve("video_9")


def test_failure_is_a_server_error_where_no_job_can_tell_it(server: FakeOpenAI, client: openai.OpenAI) -> None:
    server.enqueue(reply.failed("Out of ink"))
    with pytest.raises(openai.InternalServerError, match="Out of ink"):
        client.images.generate(model="gpt-image-1", prompt="A dot")
