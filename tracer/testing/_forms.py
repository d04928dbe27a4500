"""Requests that come as multipart forms."""

from __future__ import annotations

from email import message_from_bytes
from email.message import Message

from tracer.testing._answer import Json

__all__ = ["read_form"]


def read_form(content_type: str, body: bytes) -> Json | None:
    """A form's fields; a file becomes its name, content type and size. A field sent twice is a list.

    `None` when it isn't a form.
    """
    if not content_type.startswith("multipart/form-data"):
        return None
    form: Json = {}
    for part in message_from_bytes(b"Content-Type: %s\r\n\r\n" % content_type.encode() + body).get_payload():
        if isinstance(part, Message):
            name = str(part.get_param("name", header="content-disposition"))
            form.setdefault(name, []).append(_value(part))
    return {name: values if name.endswith("[]") or len(values) > 1 else values[0] for name, values in form.items()}


def _value(part: Message) -> object:
    data = part.get_payload(decode=True)
    assert isinstance(data, bytes)
    filename = part.get_filename()
    if filename is None:
        return data.decode()
    kind = part.get_content_type() if "content-type" in part else None
    return {"filename": filename, "content_type": kind, "size": len(data)}
