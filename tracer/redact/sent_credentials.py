"""Finds keys that a failed call had sent: servers and gateways quote them in errors ("Invalid API key: sk-…").

An exception of openai or httpx refers to its request, so we know exactly which secrets were in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

__all__ = ["hide_in_body", "hide_secrets", "sent_secrets"]

HIDDEN = "[credential]"
_HEADERS = (
    "authorization",
    "api-key",
    "x-api-key",
    "proxy-authorization",
    "openai-organization",
    "openai-project",
)
_SHORTEST = 6  # characters: a shorter text is an ordinary word, not a key


def sent_secrets(error: BaseException) -> list[str]:
    """Return the keys, tokens and passwords in the request that an exception belongs to, longest first.

    Empty for any other exception. Never raises: an exception's ``request`` may be anything, or may itself raise.
    """
    try:
        request = error.request  # type: ignore[attr-defined]  # that of openai.APIError or httpx.HTTPError
        found = {text.strip() for text in _secrets_of(request)}
    except Exception:
        return []
    return sorted((text for text in found if len(text) >= _SHORTEST), key=len, reverse=True)


def _secrets_of(request: Any) -> Iterator[str]:
    for name in _HEADERS:
        if value := request.headers.get(name):
            yield value
            yield value.partition(" ")[2]  # Bearer …
    url = request.url
    for part in (url.userinfo, url.query):
        text = part.decode("ascii", "replace")
        yield text
        yield unquote(text)
    yield url.password
    yield from url.params.values()


def hide_secrets(text: str, secrets: list[str]) -> str:
    """Replace each of the secrets in a text."""
    for secret in secrets:
        if secret in text:
            text = text.replace(secret, HIDDEN)
    return text


def hide_in_body(body: bytes, secrets: list[str]) -> bytes:
    """Replace each of the secrets in a body, also where JSON writes its slashes with a backslash."""
    for secret in secrets:
        for form in (secret, secret.replace("/", "\\/")):
            if (sent := form.encode()) in body:
                body = body.replace(sent, HIDDEN.encode())
    return body
