"""Where base64 stands in a text: what nobody reads, and nobody looks for.

A text that is mistaken for base64 has no preview and is not found, so little is taken for it:

- what follows the head of a data URL (``data:image/png;base64,``), and
- a run of at least `SHORTEST` characters, in one piece or in lines of equal length, whose beginning decodes to a known
  kind of file, to a text, to many zeros, or else has capitals, small letters, digits and signs as random bytes give.
  Long paths, identifiers, digests and lists of ids have not.

The media that are stored apart from a span are more than that, and found in another way: `tracer.interpret.media`.
"""

from __future__ import annotations

import binascii
import re

from tracer.interpret._content_types import HEAD_BYTES, sniff

__all__ = ["SHORTEST", "find_base64"]

SHORTEST = 512
"""A shorter run that follows no head of a data URL is never taken for base64."""

_MARK = ";base64,"
_HEAD = re.compile(r"data:[\w.+/;=-]*;base64,\Z", re.ASCII)
_HEAD_CHARS = 128
_PAYLOAD = re.compile(r"[A-Za-z0-9+/=_%-]*")

_PIECE = 64 * 1024  # characters that one call looks at, since it keeps the GIL
_LONGEST_LINE = 128
_SHORTEST_LINE = 60
# In most texts, any point is in a word that ends soon. In base64, the line does, and there are more letters behind it.
_ends_soon = re.compile(rf"[A-Za-z0-9+/=_-]{{0,{_SHORTEST_LINE - 1}}}[^A-Za-z0-9+/=_\r\n-]").match
_GLANCE_CHARS = _LONGEST_LINE + 2 + _SHORTEST_LINE
_is_inside = re.compile(rf"[A-Za-z0-9+/=_-]{{0,{_LONGEST_LINE}}}(?:\r?\n)?[A-Za-z0-9+/=_-]{{{_SHORTEST_LINE}}}").match
_STRIDE = SHORTEST - _GLANCE_CHARS  # so that one point lies in any run

_up_to_run = re.compile(r".*[^A-Za-z0-9+/=_\r\n-]", re.DOTALL).match
_long_word = re.compile(rf"[A-Za-z0-9+/=_-]{{{_SHORTEST_LINE}}}").search
_RUN = re.compile(r"[A-Za-z0-9+/=_-]*")
_name = re.compile(r"[A-Za-z_][\w-]{0,40}=(?=[A-Za-z0-9+/])", re.ASCII).match  # image=iVBORw0…
_a_word = re.compile(r"[A-Z]?[a-z]+|[A-Z]+").fullmatch
_last_line = re.compile(r"\r?\n([A-Za-z0-9+/]+={0,2})(?![^\r\n])").match

# Groups of four, as base64 has them; pieces of audio were encoded one by one, and end in =.
_standard = re.compile(r"(?:[A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{2}==)+").fullmatch
_safe_in_urls = re.compile(r"(?:[A-Za-z0-9_-]{4}|[A-Za-z0-9_-]{3}=|[A-Za-z0-9_-]{2}==)+").fullmatch
_TO_STANDARD = str.maketrans("-_", "+/")
_control = re.compile(rb"[\x00-\x08\x0e-\x1f]").search
_all_cases = re.compile(r"(?=.*[a-z])(?=.*[A-Z]).*[0-9]").match
_capitals, _small, _digits = (re.compile(f"[{kind}]").findall for kind in ("A-Z", "a-z", "0-9"))


def find_base64(text: str, limit: int) -> list[tuple[int, int]]:
    """Return where base64 stands in a text, in order: (start, end). A data URL starts with its head.

    Args:
        text: Of any length. Where it has no base64, it is not read, but looked at every hundred characters or so.
        limit: Look no further than so many characters beside base64 reach.
    """
    found: list[tuple[int, int]] = []
    past, room = 0, limit
    while room > 0 and past < len(text):
        one = _next(text, past, min(past + room, len(text)))
        if one is None:
            break
        found.append(one)
        room -= one[0] - past
        past = one[1]
    return found


def _next(text: str, past: int, stop: int) -> tuple[int, int] | None:
    """Return the first base64 that begins between `past` and `stop`."""
    url = _data_url(text, past, stop)
    bare = _bare(text, past, stop if url is None else url[0]) if len(text) - past >= SHORTEST else None
    return bare or url


def _data_url(text: str, past: int, stop: int) -> tuple[int, int] | None:
    mark = text.find(_MARK, past, stop + _HEAD_CHARS)
    while mark >= 0:
        start = mark + len(_MARK)
        head = _HEAD.search(text, max(past, start - _HEAD_CHARS), start)
        if head is not None and (end := _end_of_lines(text, start, _end(_PAYLOAD, text, start))) > start:
            return head.start(), end
        mark = text.find(_MARK, start, stop + _HEAD_CHARS)
    return None


def _bare(text: str, past: int, stop: int) -> tuple[int, int] | None:
    at, last = past, min(stop + _STRIDE, len(text) - _GLANCE_CHARS + 1)
    while at < last:
        if _ends_soon(text, at) is not None or _is_inside(text, at) is None:
            at += _STRIDE
            continue
        start = _start_of_run(text, max(past, at - _STRIDE), at)
        if start >= stop:
            break
        end = _end_of_lines(text, start, _end(_RUN, text, start))
        if end - start >= SHORTEST and _is_base64(text[start : min(end, start + 2 * SHORTEST)]):
            return start, end
        past = end
        at = max(at, end)
    return None


def _start_of_run(text: str, window: int, at: int) -> int:
    """Return where the first long word begins that lies around `at`, or begins on the next line."""
    before = _up_to_run(text, window, at)
    word = _long_word(text, window if before is None else before.end())
    start = at if word is None else word.start()
    named = _name(text, start)
    return start if named is None else named.end()


def _end(run: re.Pattern[str], text: str, start: int) -> int:
    while (piece := run.match(text, start, start + _PIECE)) and piece.end() > start:
        start = piece.end()
    return start


def _end_of_lines(text: str, start: int, end: int) -> int:
    """Return the end of the lines of which the first lies between `start` and `end`: all but the last equally long."""
    width = end - start
    if not (_SHORTEST_LINE <= width <= _LONGEST_LINE and text[end : end + 1] in ("\r", "\n")):
        return end
    lines = re.compile(rf"(?:\r?\n[A-Za-z0-9+/=_-]{{{width}}}(?![A-Za-z0-9+/=_-])){{1,500}}").match
    while (more := lines(text, end)) is not None:
        end = more.end()
    last = _last_line(text, end, end + _LONGEST_LINE)
    return end if last is None or len(last[1]) > width or len(last[1]) % 4 or _a_word(last[1]) else last.end()


def _is_base64(start: str) -> bool:
    """Tell base64 from other long runs of its letters by its first characters, of which there are enough."""
    lines = start.split()
    if len(lines) > 1 and (len(lines[0]) % 4 or "=" in lines[0] or "-" in start or "_" in start):
        return False
    whole = "".join(lines)
    run = whole[: min(SHORTEST, len(whole) // 4 * 4)]
    if not run.strip("A="):
        return True  # silence
    standard = run if _standard(run) else run.translate(_TO_STANDARD) if _safe_in_urls(run) else ""
    if not standard or not _all_cases(run):
        return False
    return _tells(binascii.a2b_base64(standard)) or (_has_both_signs(whole) and _is_mixed(run))


def _tells(data: bytes) -> bool:
    """Tell whether decoded bytes are a file, a text or many zeros, which is not what other letters decode to."""
    if sniff(data[:HEAD_BYTES]) is not None or data.count(0) * 5 > len(data):
        return True
    try:
        data.decode()
    except UnicodeDecodeError as error:
        if error.start < len(data) - 3:  # not a character that was cut
            return False
    return _control(data) is None


def _has_both_signs(run: str) -> bool:
    """Tell base64 from random ids, also if the ids are joined by one sign."""
    return ("+" in run and "/" in run) or ("-" in run and "_" in run)


def _is_mixed(run: str) -> bool:
    """Tell whether capitals, small letters and digits are as many as in base64 of random bytes: 26, 26, 10 of 64."""
    shares = [len(found(run)) / len(run) for found in (_capitals, _small, _digits)]
    return all(abs(share - expected / 64) < 0.1 for share, expected in zip(shares, (26, 26, 10), strict=True))
