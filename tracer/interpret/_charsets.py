"""Text by the charset that its content type names, as httpx decodes it for the caller."""

from __future__ import annotations

import codecs
from email.message import Message

__all__ = ["decode_text"]

_DEFAULT = "utf-8"
_SLOW = ("idna", "punycode")  # for names of hosts: reading a megabyte would take hours


def decode_text(data: bytes, content_type: str | None, *, is_whole: bool = True) -> tuple[str, str | None]:
    """Return the text, and in words what of it can't be read; None if all can. Raises nothing.

    A charset that is not named, or is none, is UTF-8. What can't be read stands there as U+FFFD, as the caller has it.

    Args:
        data: The bytes.
        content_type: The HTTP header.
        is_whole: Otherwise `data` is a beginning, which may end within a character.
    """
    charset = _charset(content_type)
    return _decode(data, charset, is_whole) or _decode(data, _DEFAULT, is_whole) or ("", None)


def _charset(content_type: str | None) -> str:
    header = Message()
    header["content-type"] = content_type or ""
    charset = header.get_content_charset() or _DEFAULT
    return _DEFAULT if charset in _SLOW else charset


def _decode(data: bytes, charset: str, is_whole: bool) -> tuple[str, str | None] | None:
    try:
        # As `bytes.decode` looks at it. Others are no charsets: "zlib" would unpack anything.
        if not getattr(codecs.lookup(charset), "_is_text_encoding", True):
            return None
        make = codecs.getincrementaldecoder(charset)
        try:
            text, note = make("strict").decode(data, is_whole), None
        except UnicodeDecodeError as error:
            text = make("replace").decode(data, is_whole)
            note = f"not all of it is {charset}: {error.reason} at byte {error.start}"
    except Exception:  # no charset, or one that can't go on after an error ("idna")
        return None
    return text, note
