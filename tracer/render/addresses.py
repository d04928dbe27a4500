"""Addresses of the server's own pages, for its templates and those of `tracer.render`."""

from __future__ import annotations

from urllib.parse import quote, urlencode

__all__ = ["session_url"]

_FOLDED = ("", ".", "..")  # a browser takes these for parts of the path, however they are quoted


def session_url(session_id: str) -> str:
    """Return the address of one session. Any text can be an id: slashes and dots in it do not lead to another page.

    ::

        >>> session_url("chat/1"), session_url("..")
        ('/sessions/chat%2F1', '/sessions/?id=..')
    """
    if session_id in _FOLDED or not session_id.isprintable():  # a router sees a line break as the end of the path
        return f"/sessions/?{urlencode({'id': session_id})}"
    return f"/sessions/{quote(session_id, safe='', errors='replace')}"
