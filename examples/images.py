"""Images: what was sent or drawn is stored once, referenced in the trace, and given back whole."""

import base64
import struct
import zlib

from _server import MODEL, openai_or_fake
from openai import OpenAI

import tracer

tracer.autolog()


def draw(size: int = 96) -> bytes:
    """Return a PNG with some colours in it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    rows = b"".join(b"\0" + bytes(x * y * c % 251 for x in range(size) for c in (1, 2, 3)) for y in range(size))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


png = draw()
url = f"data:image/png;base64,{base64.b64encode(png).decode()}"

with openai_or_fake(), OpenAI() as client:
    for question in ("What is this?", "Which colours are in it?"):
        client.chat.completions.create(
            model=MODEL,
            messages=[
                {
                    "role": "user",
                    "content": [{"type": "text", "text": question}, {"type": "image_url", "image_url": {"url": url}}],
                }
            ],
        )

    trace = tracer.sync.get_trace(tracer.get_last_active_trace_id() or "")
    reference = trace.data.spans[0].inputs["messages"][0]["content"][1]["image_url"]["url"]
    print(f"In the trace: {reference}")

    image = tracer.sync.get_media(reference)  # in async code: await tracer.get_media(…), or await trace.media(…)
    print(f"{image.content_type}, {len(image.data)} bytes, the same: {image.data == png}")
