"""The endpoints beside text generation and embeddings, found by method and path."""

from __future__ import annotations

import re
from collections.abc import Callable

from tracer.testing import _judgements, _media
from tracer.testing._answer import Answer, Json
from tracer.testing._jobs import Jobs, run_events, run_object, run_text, video_object
from tracer.testing._script import RecordedRequest
from tracer.testing._wire import Mint, Payload, RefusedError, json_payload

__all__ = ["MoreEndpoints", "succeeded"]


def succeeded(answer: Answer | None) -> Answer | None:
    """The answer. Raises if the model failed: only a response or a job can report that with HTTP 200."""
    if answer is not None and answer.failure:
        code, message = answer.failure
        raise RefusedError(message, code=code, status=500, kind="server_error")
    return answer


class MoreEndpoints:
    """Images, audio, moderations, decisions, searches, videos and runs of assistants."""

    def __init__(self, mint: Mint, jobs: Jobs) -> None:
        self._mint = mint
        self._jobs = jobs

    def answer(self, request: RecordedRequest, path: str, answer: Answer | None) -> Payload | None:
        """The reply to a request; `None` if it is for none of these endpoints."""
        for method, pattern, respond in _ROUTES:
            if request.method == method and (match := pattern.fullmatch(path)):
                body = request.form if request.form is not None else request.json
                if method == "POST" and not isinstance(body, dict):
                    raise RefusedError("We could not parse the JSON body of your request.")
                wanted = answer if respond in _TELL_FAILURE else succeeded(answer)
                return respond(self, body or {}, wanted, path, *match.groups())
        return None

    def _images(self, body: Json, answer: Answer | None, path: str) -> Payload:
        if "variations" not in path and not body.get("prompt"):
            raise RefusedError("Missing required parameter: 'prompt'.", param="prompt")
        return _media.images(path, body, answer)

    def _speech(self, body: Json, answer: Answer | None, path: str) -> Payload:
        return _media.speech(body)

    def _transcription(self, body: Json, answer: Answer | None, path: str) -> Payload:
        return _media.transcription(path, body, answer)

    def _moderations(self, body: Json, answer: Answer | None, path: str) -> Payload:
        return json_payload(_judgements.moderations(body, self._mint))

    def _decisions(self, body: Json, answer: Answer | None, path: str) -> Payload:
        return json_payload(_judgements.decisions(body, self._mint))

    def _search(self, body: Json, answer: Answer | None, path: str) -> Payload:
        return json_payload(_judgements.search_results(body, answer))

    def _video(self, body: Json, answer: Answer | None, path: str) -> Payload:
        return json_payload(self._jobs.start(video_object(body, answer, self._mint)))

    def _video_content(self, body: Json, answer: Answer | None, path: str, video_id: str) -> Payload:
        self._jobs.find(video_id)
        return Payload((b"\0\0\0\x18ftypmp42" * 10,), "video/mp4")

    def _run(self, body: Json, answer: Answer | None, path: str, thread_id: str | None = None) -> Payload:
        run = run_object(body, thread_id or self._mint("thread_"), answer, self._mint)
        return self._start_run(run, body, answer)

    def _go_on(self, body: Json, answer: Answer | None, path: str, thread_id: str, run_id: str) -> Payload:
        given = {**self._jobs.find(run_id), **body}
        return self._start_run(run_object(given, thread_id, answer, self._mint, run_id=run_id), given, answer)

    def _start_run(self, run: Json, body: Json, answer: Answer | None) -> Payload:
        queued = self._jobs.start(run)
        return run_events(run, run_text(body, answer), self._mint) if body.get("stream") else json_payload(queued)

    def _look(self, body: Json, answer: Answer | None, path: str, job_id: str) -> Payload:
        self._jobs.find(job_id)
        return json_payload(self._jobs.look(job_id))


_Respond = Callable[..., Payload]
_TELL_FAILURE: tuple[_Respond, ...] = (MoreEndpoints._video, MoreEndpoints._run, MoreEndpoints._go_on)
_ROUTES: list[tuple[str, re.Pattern[str], _Respond]] = [
    (method, re.compile(pattern), respond)
    for method, pattern, respond in (
        ("POST", "/images/(?:generations|edits|variations)", MoreEndpoints._images),
        ("POST", "/audio/speech", MoreEndpoints._speech),
        ("POST", "/audio/(?:transcriptions|translations)", MoreEndpoints._transcription),
        ("POST", "/moderations", MoreEndpoints._moderations),
        ("POST", "/decisions", MoreEndpoints._decisions),
        ("POST", "/vector_stores/[^/]+/search", MoreEndpoints._search),
        ("POST", "/videos(?:/edits|/extensions|/[^/]+/remix)?", MoreEndpoints._video),
        ("GET", "/videos/([^/]+)/content", MoreEndpoints._video_content),
        ("GET", "/videos/([^/]+)", MoreEndpoints._look),
        ("POST", "/threads/runs", MoreEndpoints._run),
        ("POST", "/threads/([^/]+)/runs", MoreEndpoints._run),
        ("POST", "/threads/([^/]+)/runs/([^/]+)/submit_tool_outputs", MoreEndpoints._go_on),
        ("GET", "/threads/[^/]+/runs/([^/]+)", MoreEndpoints._look),
    )
]
