"""Where the examples send their calls: the real API, any compatible server, or the bundled fake one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from tracer.testing import FakeOpenAI

MODEL = os.environ.get("OPENAI_MODEL", "gpt-4o-mini")
EMBEDDING_MODEL = os.environ.get("OPENAI_EMBEDDING_MODEL", "text-embedding-3-small")


@contextmanager
def openai_or_fake() -> Iterator[None]:
    """Let ``openai.OpenAI()`` find a server: yours if OPENAI_API_KEY or OPENAI_BASE_URL is set, else a fake one."""
    if os.environ.get("OPENAI_API_KEY") or os.environ.get("OPENAI_BASE_URL"):
        os.environ.setdefault("OPENAI_API_KEY", "not-needed")
        print(f"Server: {os.environ.get('OPENAI_BASE_URL', 'https://api.openai.com/v1')}  model: {MODEL}\n")
        yield
        return
    with FakeOpenAI() as server:
        os.environ.update(server.env())
        print("Server: the bundled fake one, since OPENAI_API_KEY is not set\n")
        try:
            yield
        finally:
            for name in server.env():
                del os.environ[name]
