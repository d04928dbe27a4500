"""E-mail addresses, API keys and card numbers in texts, found by regular expressions."""

from __future__ import annotations

import functools
import re

__all__ = ["api_keys", "card_numbers", "emails"]

EMAIL, API_KEY, CARD_NUMBER = "[email]", "[api key]", "[card number]"


_compiled = functools.cache(re.compile)  # on first use: importing tracer must stay light

# --- e-mail -----------------------------------------------------------------------------------------------------------

# Its lengths are limited as in RFC 5321 (section 4.5.3.1), so that a long text without spaces takes linear time.
_EMAIL = r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}"


def emails(text: str) -> str:
    """Replace e-mail addresses by ``[email]``.

    >>> emails("ada@example.com, grace.hopper+navy@example.co.uk")
    '[email], [email]'
    """
    return _compiled(_EMAIL).sub(EMAIL, text) if "@" in text else text


# --- keys -------------------------------------------------------------------------------------------------------------

# Each begins with a text by which its issuer lets programs like this one find it.
_KEY = r"""(?x)
    \b(?:
        (?:sk|gsk|xai|pplx)[-_][A-Za-z0-9_-]{12,}                           # OpenAI, Anthropic, Stripe, Groq, xAI, …
      | (?:pk|rk)_(?:live|test)_[A-Za-z0-9]{12,} | sess-[A-Za-z0-9]{16,} | key-[0-9a-f]{32}
      | (?:gh[pousr]|github_pat|hf|npm)_[A-Za-z0-9_]{16,} | glpat-[A-Za-z0-9_-]{16,} | pypi-[A-Za-z0-9_-]{16,}
      | xox[abeprs]-[A-Za-z0-9-]{10,}                                       # Slack
      | (?:AKIA|ASIA)[A-Z0-9]{16}\b                                         # Amazon
      | AIza[A-Za-z0-9_-]{30,}                                              # Google
      | eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*             # JSON web tokens
    )
  | -----BEGIN\ [A-Z ]{0,40}PRIVATE\ KEY-----(?:.|\n)*?(?:-----END\ [A-Z ]{0,40}PRIVATE\ KEY-----|\Z)
"""
# What follows these words is a key, whatever it looks like. The words themselves stay.
_NAMED_KEY = r"""(?ix)
    (   \b(?:bearer|basic)\s+
      | \b(?:api[-_ ]?key|apikey|access[-_]?token|client[-_]?secret|authorization)\b
        ["']? \s*[=:]\s* (?:bearer\s+|basic\s+)? ["']?
    )
    (?=[A-Za-z0-9._~+/=-]*[0-9]) [A-Za-z0-9._~+/=-]{16,}
"""
# These are searched first: that is ten times as fast as the expressions, and most texts have none of them.
_KEY_MARKS = (
    "sk-", "sk_", "xai-", "xai_", "pplx-", "pplx_", "pk_", "rk_", "sess-", "key-", "ghp_", "gho_", "ghu_", "ghs_",
    "ghr_", "github_pat_", "hf_", "npm_", "glpat-", "pypi-", "xox", "AKIA", "ASIA", "AIza", "eyJ", "PRIVATE KEY",
)  # fmt: skip
_KEY_WORDS = ("bearer", "basic", "key", "token", "secret", "authorization")


def api_keys(text: str) -> str:
    """Replace API keys, tokens and private keys by ``[api key]``: what looks like one, or has such a name before it.

    >>> api_keys("OPENAI_API_KEY=sk-proj-0123456789abcdef")
    'OPENAI_API_KEY=[api key]'
    >>> api_keys("Authorization: Bearer 0123456789abcdef")
    'Authorization: Bearer [api key]'
    """
    if any(mark in text for mark in _KEY_MARKS):
        text = _compiled(_KEY).sub(API_KEY, text)
    lower = text.lower()
    if any(word in lower for word in _KEY_WORDS):
        text = _compiled(_NAMED_KEY).sub(rf"\1{API_KEY}", text)
    return text


# --- cards ------------------------------------------------------------------------------------------------------------

_DIGIT_RUN = r"(?<!\d)\d(?:[ -]?\d){11,63}(?!\d)"
_CARD_DIGITS = range(12, 20)  # ISO/IEC 7812
_FIRST_GROUP = 4  # digits: cards are written 4-4-4-4, 4-6-5, 4-6-4 or without a gap
_CARD_STARTS = "23456"  # Mastercard, American Express and Diners, Visa, UnionPay and Maestro


def card_numbers(text: str) -> str:
    """Replace payment card numbers by ``[card number]``: 12 to 19 digits, in groups or not, with a right checksum.

    >>> card_numbers("paid with 4111 1111 1111 1111 on 2026-11-22")
    'paid with [card number] on 2026-11-22'
    """
    return _compiled(_DIGIT_RUN).sub(_hide_cards, text)


def _hide_cards(run: re.Match[str]) -> str:
    """Replace the cards in a run of digits, which may begin or end with other numbers."""
    groups = _compiled(r"\d+|[ -]").findall(run[0])
    kept: list[str] = []
    start = 0
    while start < len(groups):
        end = _card_end(groups, start)
        kept.append(CARD_NUMBER if end else groups[start])
        start = end or start + 1
    return "".join(kept)


def _card_end(groups: list[str], start: int) -> int | None:
    """Return the end of the longest card number that begins with this group; None if none begins there."""
    if len(groups[start]) < _FIRST_GROUP or groups[start][0] not in _CARD_STARTS:
        return None
    for end in range(min(len(groups), start + 11), start, -1):
        digits = "".join(group for group in groups[start:end] if group.isdigit())
        if groups[end - 1].isdigit() and len(digits) in _CARD_DIGITS and _has_luhn_checksum(digits):
            return end
    return None


_DOUBLED = [sum(divmod(2 * digit, 10)) for digit in range(10)]


def _has_luhn_checksum(digits: str) -> bool:
    """Check the last digit as ISO/IEC 7812-1, annex B, says."""
    numbers = [int(digit) for digit in reversed(digits)]
    return (sum(numbers[::2]) + sum(_DOUBLED[digit] for digit in numbers[1::2])) % 10 == 0
