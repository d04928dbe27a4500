"""What a multipart request says, without a byte of the user's files."""

from __future__ import annotations

import io
import os
from typing import Any

import msgspec

__all__ = ["form_of"]


def form_of(request: Any) -> bytes | None:
    """Return a multipart request's fields as JSON; None if it is no multipart request.

    A field that was sent more than once, or whose name ends in ``[]``, is a list. A file is described by its name, its
    content type and its size in bytes (None if the size can't be told without reading the file). The file is not read
    or kept, and its position does not change.

    ::

        {"model": "whisper-1", "file": {"filename": "hello.mp3", "content_type": "audio/mpeg", "size": 34080}}
    """
    fields = getattr(getattr(request, "stream", None), "fields", None)
    if not isinstance(fields, list):
        return None
    form: dict[str, Any] = {}
    for field in fields:
        _add(form, field.name, _file_facts(field) if hasattr(field, "file") else _text_of(field.value))
    return msgspec.json.encode(form)


def _add(form: dict[str, Any], name: str, value: Any) -> None:
    key = name.removesuffix("[]")
    if key in form:
        earlier = form[key]
        form[key] = [*earlier, value] if isinstance(earlier, list) else [earlier, value]
    else:
        form[key] = value if key == name else [value]


def _text_of(value: str | bytes) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return text.encode("utf-8", "replace").decode()  # a lone surrogate fails in httpx as well, but later


def _file_facts(field: Any) -> dict[str, Any]:
    headers = {str(name).lower(): value for name, value in (field.headers or {}).items()}
    filename = field.filename
    return {
        "filename": None if filename is None else _text_of(str(filename)),
        "content_type": headers.get("content-type"),
        "size": _size_of(field.file),
    }


def _size_of(file: Any) -> int | None:
    if isinstance(file, str):
        return len(file.encode("utf-8", "replace"))
    if isinstance(file, (bytes, bytearray)):
        return len(file)
    if isinstance(file, io.BytesIO):
        return file.getbuffer().nbytes
    try:
        return os.fstat(file.fileno()).st_size
    except Exception:  # not a file of the operating system, or a class of the user's
        return None
