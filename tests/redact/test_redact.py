"""The ready-made redactors: what they find, what they leave, and that no text makes them slow."""

from __future__ import annotations

import functools
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tracer
from tests.openai.calling import HELLO, only_span
from tracer.redact import api_keys, card_numbers, emails
from tracer.testing import FakeOpenAI, reply

ALL = [emails, api_keys, card_numbers]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ask ada@example.com!", "ask [email]!"),
        ("<grace.hopper+navy@mail.example.co.uk>", "<[email]>"),
        ("jörg@exämple.de", "[email]"),
        ("a@b.c,d@e.f", "[email],[email]"),
        ('{"to": "ada@example.com"}', '{"to": "[email]"}'),
        ("mailto:ada@example.com?subject=x", "mailto:[email]?subject=x"),
        ("a user@host, 3 @ 4.5, @ada, a @ b", "a user@host, 3 @ 4.5, @ada, a @ b"),
        ("", ""),
    ],
)
def test_emails(text: str, expected: str) -> None:
    assert emails(text) == expected


KEYS = [
    "sk-0123456789abcdefABCDEF",
    "sk-proj-Abc_123-def456ghi789",
    "sk-ant-api03-abcdefghijkl",
    "gsk_0123456789abcdef0123",
    "sk_live_0123456789abcdef",
    "ghp_0123456789abcdefghijABCDEFGHIJ012345",
    "github_pat_11ABCDEFG0123456789_abcdefghij",
    "hf_abcdefghijklmnopqrstuvwxyz012345",
    "xoxb-123456789012-abcdefghij",
    "AKIAIOSFODNN7EXAMPLE",
    "AIzaSyA-0123456789abcdefghijklmnopqrstu",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P",
]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("around", ["{}", "key {}.", '{{"k": "{}"}}', "url?k={}&x=1"])
def test_keys_that_look_like_keys(key: str, around: str) -> None:
    assert api_keys(around.format(key)) == around.format("[api key]")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Authorization: Bearer 0123456789abcdef", "Authorization: Bearer [api key]"),
        ("authorization: basic dXNlcjpwYXNzd29yZDEyMw==", "authorization: basic [api key]"),
        ('{"api_key": "0123456789abcdef"}', '{"api_key": "[api key]"}'),
        ("api-key=0123456789abcdef&x=1", "api-key=[api key]&x=1"),
        ("Api Key : 0123456789abcdef", "Api Key : [api key]"),
        ("client_secret='abcdefghijklmnop1'", "client_secret='[api key]'"),
    ],
)
def test_keys_that_are_called_keys(text: str, expected: str) -> None:
    assert api_keys(text) == expected


def test_private_keys_go_also_where_their_end_is_missing() -> None:
    key = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nIBAAK\n-----END RSA PRIVATE KEY-----"
    assert api_keys(f"a {key} b") == "a [api key] b"
    assert api_keys(f"a {key[:40]}") == "a [api key]"


@pytest.mark.parametrize(
    "text",
    [
        "risk-free desk-top ask-me-anything-about-it",
        "the basic configurations of an api key",
        "bearer of bad news, internationalization",
        "key_value_store_of_2026 key-value-store-of-2026 pk_of_the_table_1 session-id-of-2026",
        "api_key = os.environ['KEY']",
        "123e4567-e89b-12d3-a456-426614174000",
    ],
)
def test_words_are_no_keys(text: str) -> None:
    assert api_keys(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4111111111111111", "[card number]"),
        ("card 4111 1111 1111 1111, thanks", "card [card number], thanks"),
        ("5500-0000-0000-0004", "[card number]"),
        ("3782 822463 10005", "[card number]"),
        ("on 22 4111 1111 1111 1111 12", "on 22 [card number] 12"),
        ("4111 1111 1111 1111 5500 0000 0000 0004", "[card number] [card number]"),
        ("4111 1111 1111 1112", "4111 1111 1111 1112"),
        ("1795000000000", "1795000000000"),
        ("tel +49 30 901820", "tel +49 30 901820"),
        ("0.4111111111111112", "0.4111111111111112"),
        ("41111111111111114111111111111111", "41111111111111114111111111111111"),
        ("2026-11-22 17:03:55", "2026-11-22 17:03:55"),
    ],
)
def test_card_numbers(text: str, expected: str) -> None:
    assert card_numbers(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("call +49 30 901820 now", "call [phone] now"),
        ("+1 (650) 253-0000", "[phone]"),
        ("(650) 253-0000", "(650) 253-0000"),
        ("on 2026-11-22 for 1795000000 s", "on 2026-11-22 for 1795000000 s"),
    ],
)
def test_phone_numbers(text: str, expected: str) -> None:
    pytest.importorskip("phonenumbers")
    assert tracer.redact.phone_numbers(text) == expected


def test_phone_numbers_of_a_region() -> None:
    pytest.importorskip("phonenumbers")
    american = functools.partial(tracer.redact.phone_numbers, region="US")
    assert american("call (650) 253-0000 or +49 30 901820") == "call [phone] or [phone]"


def test_without_its_package_phone_numbers_says_what_to_install() -> None:
    script = (
        "import sys; sys.modules['phonenumbers'] = None; import tracer\n"
        "tracer.redact.emails\n"
        "try: tracer.redact.phone_numbers\n"
        "except tracer.MissingDependencyError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "pip install 'openai-tracer[redact]'" in done.stdout


def test_what_is_not_there_is_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'passports'"):
        tracer.redact.passports  # noqa: B018


@given(st.text(alphabet=st.sampled_from("sk-_@.4 1eyJBEGIN\n\"'=:abcZÄ\ud800")))
def test_redactors_take_any_text_and_have_nothing_left_to_do_the_second_time(text: str) -> None:
    for redactor in ALL:
        once = redactor(text)
        assert redactor(once) == once


@pytest.mark.parametrize(
    "part", ["a", "a.", "1 ", "1-", "sk-", "key=", "eyJ", "eyJaaaaaaaaaaa.", "bearer ", "-----BEGIN PRIVATE KEY-----"]
)
def test_no_text_takes_more_than_linear_time(part: str) -> None:
    """A text of a quadratic expression would take minutes here."""
    for text in (part * 50_000, part * 50_000 + "@", part * 50_000 + "@a"):
        for redactor in ALL:
            redactor(text)


async def test_redactors_clean_what_is_stored(server: FakeOpenAI) -> None:
    tracer.configure(redact=ALL)
    tracer.autolog()
    server.enqueue(reply.text("I wrote to ada@example.com about 4111 1111 1111 1111."))
    async with server.async_client() as client:
        question = [*HELLO, {"role": "user", "content": f"my key is {KEYS[0]}"}]
        await client.chat.completions.create(model="gpt-5", messages=question)
    span = await only_span()
    assert span.inputs["messages"][1]["content"] == "my key is [api key]"
    assert span.outputs["choices"][0]["message"]["content"] == "I wrote to [email] about [card number]."
    assert tracer.stats().redaction_failed == 0
