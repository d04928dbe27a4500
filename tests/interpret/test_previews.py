"""Which long texts are taken for media, and so have no preview and are not found: only what looks like base64."""

from __future__ import annotations

import base64
import json
import random

import pytest

from tests.interpret.wire import body
from tracer.interpret.dispatch import interpret_request, interpret_response
from tracer.interpret.previews import content_text, one_line, plain_text, without_media

ORDERS = json.dumps({"orders": [{"sku": f"ZEBRA{n}", "qty": n} for n in range(40)]}, separators=(",", ":"))
NOISE = random.Random(7).randbytes(3_000)
TEXTS = {
    "minified JSON": ORDERS,
    "a list": json.dumps([f"ZEBRA{n}" for n in range(200)], separators=(",", ":")),
    "CSV": "\n".join(f"{n};ZEBRA{n};{n * 7}" for n in range(100)),
    "one URL a line": "\n".join(f"https://example.com/ZEBRA/{n}" for n in range(50)),
    "a query": "https://example.com/?" + "&".join(f"zebra{n}={n}" for n in range(100)),
    "hex": "ZEBRA\n".lower() + NOISE.hex(),
    "one line of hex": NOISE.hex(),
    "a genome": "ACGTTGCA" * 100,
    "one word a line": "\n".join(f"Zebra{n}" for n in range(200)),
    "a long path": "/srv" + "/zebra" * 200,
    "XML": "<a>" + "<b/>" * 300 + "</a>",
    "a rule": "-" * 800,
    "Chinese": "斑马" * 400,
}
MEDIA = {
    "base64": base64.b64encode(NOISE).decode(),
    "base64 in lines": base64.encodebytes(NOISE).decode(),
    "base64 in lines of CR LF": base64.encodebytes(NOISE).decode().replace("\n", "\r\n"),
    "safe in URLs": base64.urlsafe_b64encode(NOISE).decode(),
    "pieces with padding": "".join(base64.b64encode(NOISE[at : at + 100]).decode() for at in range(0, 1000, 100)),
    "silence": "A" * 1200,
    "a data URL": "data:image/png;base64,iVBORw0KGgo=",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_long_text_without_a_blank_is_a_text(text: str) -> None:
    assert content_text(text) == text
    assert plain_text({"text": text}) == text
    assert one_line(text)
    asked = interpret_request("chat", body({"model": "m", "messages": [{"role": "user", "content": text}]}))
    answer = {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}
    for view in (asked, interpret_response("chat", body(answer))):
        assert view.text == text
        assert view.preview
        assert view.preview[:20] == " ".join(text.split())[:20]


@pytest.mark.parametrize("text", MEDIA.values(), ids=MEDIA)
def test_base64_is_none(text: str) -> None:
    assert content_text(text) == ""
    assert plain_text(["a", text]) == "a"


def test_only_base64_is_taken_out_of_json() -> None:
    told = json.dumps({"genome": TEXTS["a genome"], "picture": MEDIA["base64"]})
    assert without_media(told) == told.replace(MEDIA["base64"], "…")
