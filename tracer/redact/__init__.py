"""Ready-made redactors for ``tracer.configure(redact=…)``: functions that return a text with markers in it.

>>> import tracer
>>> tracer.redact.emails("ask ada@example.com")
'ask [email]'
>>> tracer.configure(redact=[tracer.redact.emails, tracer.redact.api_keys, tracer.redact.card_numbers])

They run in the worker, before anything is written. A redactor finds only what looks like its kind of data: it
is no proof that nothing is left. E-mail addresses, keys and card numbers are found by rules of our own, since each is a
line of regular expression (for cards, with Luhn's checksum), and the libraries for them bring licences or weights that
a tracer can't ask for. Phone numbers are different: their rules differ by country, so `phone_numbers` uses the package
phonenumbers (extra ``redact``), which has Google's own tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracer.redact._patterns import api_keys, card_numbers, emails

if TYPE_CHECKING:
    from tracer.redact._phone_numbers import phone_numbers

__all__ = ["api_keys", "card_numbers", "emails", "phone_numbers"]


def __getattr__(name: str) -> Any:
    """Load `phone_numbers` when it is asked for, so that a missing package is reported at that moment."""
    if name == "phone_numbers":
        from tracer.redact._phone_numbers import phone_numbers

        return phone_numbers
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
