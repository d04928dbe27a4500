"""Addresses of the web page's own, as its templates and those of `tracer.render` write them."""

from __future__ import annotations

from urllib.parse import quote, urlencode

__all__ = ["session_url"]

_FOLDED = ("", ".", "..")  # a browser takes these for parts of the path, however they are quoted


def session_url(session_id: str) -> str:
    """Return the address of one session. Any text can be its id: slashes and dots lead nowhere else.

    ::

        >>> session_url("chat/1"), session_url("..")
        ('/sessions/chat%2F1', '/sessions/?id=..')
    """
    if session_id in _FOLDED or not session_id.isprintable():  # a line break ends the path, to a router
        return f"/sessions/?{urlencode({'id': session_id})}"
    return f"/sessions/{quote(session_id, safe='', errors='replace')}"
