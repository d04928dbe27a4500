"""Which long texts are taken for media, and so have no preview and are not found: only what looks like base64."""

from __future__ import annotations

import base64
import json
import random
import string
from typing import Any

import pytest

from tests.interpret.wire import body
from tracer.interpret.dispatch import interpret_request, interpret_response
from tracer.interpret.previews import content_text, media_label, one_line, plain_text, without_media

ORDERS = json.dumps({"orders": [{"sku": f"ZEBRA{n}", "qty": n} for n in range(40)]}, separators=(",", ":"))
RANDOM = random.Random(7)
NOISE = RANDOM.randbytes(3_000)
LETTERS = string.ascii_letters + string.digits
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
    "a path of mixed names": "/srv/Zebra1" + "/releases/GetUserById/Main2" * 40,
    "paths": "\n".join(f"/srv/App{n}/releases/2024/GetUserById/src/Main/Zebra{n}/Component" for n in range(10, 40)),
    "a path of short names": "/Ab/3F/C9/dD" * 100,
    "a path of ids": "".join("/" + "".join(RANDOM.choices(LETTERS, k=8)) for _ in range(90)),
    "a path of long ids": "".join("/" + "".join(RANDOM.choices(LETTERS, k=20)) for _ in range(40)),
    "ids in one": "".join(RANDOM.choices(LETTERS, k=1_000)),
    "a slug": "My-Long-Title-2-With-Zebras-In-It-" * 30,
    "names of names": "Zebra1.Stripes_Count2.OfOneHerd/InTheWild3." * 30,
    "names in slashes": "GetZebraByIdV2/SetStripesX1/DoIt/" * 30,
    "UUIDs": "Item_3f2b8c1d-9d0c-4b6e-8a55-9b1d2c3e4f5a_" * 30,
    "digests": "\n".join(f"SHA256/{RANDOM.randbytes(32).hex()}" for _ in range(30)),
    "digests as base64": "\n".join(base64.b64encode(RANDOM.randbytes(64)).decode() for _ in range(30)),
    "capital digests": "\n".join(RANDOM.randbytes(32).hex().upper() for _ in range(30)),
    "ids of 64 characters": "\n".join("".join(RANDOM.choices(LETTERS, k=64)) for _ in range(30)),
    "ids of 64 characters, safe in URLs": "\n".join("".join(RANDOM.choices(LETTERS + "-_", k=64)) for _ in range(30)),
    "settings": "HOME=Zebra1/PATH=Abc9/" * 60,
    "a chess game": "e4e5Nf3Nc6Bb5a6Ba4Nf6O-OBe7Re1b5Bb3d6c3O-O" * 20,
    "a protein": "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQ" * 40,
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
    "almost silence": base64.b64encode(b"\0" * 600 + b"\1" + b"\0" * 600 + NOISE).decode(),
    "a PDF": base64.b64encode(b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj\n" * 20).decode(),
    "a text": base64.b64encode(ORDERS.encode()).decode(),
    "a Chinese text": base64.b64encode("斑马在草原上。".encode() * 60).decode(),
    "a text in lines": base64.encodebytes(ORDERS.encode()).decode(),
    "full lines": base64.encodebytes(NOISE[: 57 * 20]).decode(),
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
    assert media_label(text) == "[media]"
    assert plain_text(["a", text]) == "a"


def chat_preview(text: str) -> tuple[str | None, str]:
    view = interpret_request("chat", body({"model": "m", "messages": [{"role": "user", "content": text}]}))
    return view.preview, view.text


def chat_part_preview(text: str) -> tuple[str | None, str]:
    message = {"role": "user", "content": [{"type": "text", "text": text}]}
    view = interpret_request("chat", body({"model": "m", "messages": [message]}))
    return view.preview, view.text


def answer_preview(text: str) -> tuple[str | None, str]:
    view = interpret_response("chat", body({"choices": [{"message": {"role": "assistant", "content": text}}]}))
    return view.preview, view.text


def input_preview(text: str) -> tuple[str | None, str]:
    view = interpret_request("responses", body({"model": "m", "input": text}))
    return view.preview, view.text


def output_preview(text: str) -> tuple[str | None, str]:
    message = {"type": "message", "content": [{"type": "output_text", "text": text}]}
    view = interpret_response("responses", body({"object": "response", "status": "completed", "output": [message]}))
    return view.preview, view.text


def value_preview(text: str) -> tuple[str | None, str]:
    return one_line(text), plain_text([text])


LARGE = base64.b64encode(RANDOM.randbytes(200_000)).decode()
QUESTION = "What is in this zebra's picture?"
PLACES: dict[str, Any] = {
    "base64, a line": lambda media: f"{media.rstrip()}\n{QUESTION}",
    "base64, a blank": lambda media: f"{media.rstrip()} {QUESTION}",
    "a word and base64": lambda media: f"Picture\n\n{media.rstrip()}\n\n{QUESTION}",
    "a name and base64": lambda media: f"image={media.rstrip()}&{QUESTION}",
    "a data URL": lambda media: f"data:image/png;base64,{''.join(media.split())} {QUESTION}",
    "a data URL in Markdown": lambda media: f"See ![it](data:image/png;base64,{''.join(media.split())})\n{QUESTION}",
    "twice": lambda media: f"data:image/png;base64,{''.join(media.split())} and\n{media.rstrip()}\n\n{QUESTION}",
}


@pytest.mark.parametrize(
    "show", [chat_preview, chat_part_preview, answer_preview, input_preview, output_preview, value_preview]
)
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("media", [MEDIA["base64"], MEDIA["base64 in lines"], LARGE], ids=["short", "lines", "large"])
def test_words_beside_base64_are_shown_and_found(show: Any, place: Any, media: str) -> None:
    preview, text = show(place(media))
    assert QUESTION in preview
    assert QUESTION in text
    for shown in (preview, text):
        assert len(shown) < 100
        assert "…" in shown


def test_a_short_data_url_in_a_text_is_left_out_too() -> None:
    assert chat_preview(f"data:image/png;base64,iVBORw0KGgo= {QUESTION}")[0] == f"… {QUESTION}"
    assert chat_preview("Write data:image/png;base64, and then the data.")[0] == (
        "Write data:image/png;base64, and then the data."
    )


@pytest.mark.parametrize("size", [8_193, 100_000])
def test_a_word_that_nobody_looks_for_is_not_indexed(size: int) -> None:
    """The index keeps a word twice once its span is deleted, so with retention such words made files grow."""
    word = ("ab12" * size)[:size]
    assert plain_text(["before", word, {"key": word[:8_192]}, "after"]) == "\n".join(["before", word[:8_192], "after"])


def test_a_long_text_of_a_script_without_blanks_is_no_single_word() -> None:
    assert plain_text(["before", "斑马" * 5_000]) == "before\n" + "斑马" * 5_000


def test_only_base64_is_taken_out_of_json() -> None:
    told = json.dumps({"genome": TEXTS["a genome"], "picture": MEDIA["base64"]})
    assert without_media(told) == told.replace(MEDIA["base64"], "…")
