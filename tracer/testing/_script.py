"""Which reply each request gets, and the record of the request."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from tracer.testing._answer import Json
from tracer.testing._forms import read_form
from tracer.testing.reply import Reply

__all__ = ["RecordedRequest", "ReplySource", "Script", "operation"]

_PREFIX = re.compile(r"/(?:v1|openai(?:/v1)?(?:/deployments/(?P<deployment>[^/]+))?)(?=/)")


class RecordedRequest(msgspec.Struct, frozen=True):
    """A request as the server got it.

    Attributes:
        method: The HTTP method.
        path: The whole path, such as `/v1/chat/completions`.
        query: The query string, without its question mark.
        headers: The headers, with names in lower case; if a name occurs twice, the last one.
        body: The body's bytes.
    """

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body decoded from JSON; `None` when it isn't JSON."""
        try:
            return msgspec.json.decode(self.body)
        except msgspec.DecodeError:
            return None

    @property
    def form(self) -> Json | None:
        """A multipart form's fields, files as `{"filename", "content_type", "size"}`; `None` if it isn't a form."""
        return read_form(self.headers.get("content-type", ""), self.body)


ReplySource = Reply | Callable[[RecordedRequest], Reply]
"""A reply, or a function that makes one for the request; it is called in the server's thread."""


def operation(path: str) -> tuple[str, str | None]:
    """A path without the API's prefix, and the deployment if the path is Azure's and names one."""
    match = _PREFIX.match(path)
    return (path[match.end() :], match["deployment"]) if match else (path, None)


class Script:
    """The replies to come: first those for the request's path, then those for any path.

    Filled by the test's threads, emptied by the server's: each step is a single operation on a deque.
    """

    def __init__(self) -> None:
        self._queues: dict[str | None, deque[ReplySource]] = {}

    def extend(self, replies: Iterable[ReplySource], path: str | None) -> None:
        """Add replies for an operation's path, or for any path."""
        key = operation(path)[0] if path else None
        self._queues.setdefault(key, deque()).extend(replies)

    def clear(self) -> None:
        """Forget the replies that were not used."""
        self._queues = {}

    def take(self, path: str) -> ReplySource | None:
        """The next reply for a path; `None` when the script has none."""
        for key in (path, None):
            if queue := self._queues.get(key):
                return queue.popleft()
        return None

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))
