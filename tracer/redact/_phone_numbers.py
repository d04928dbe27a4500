"""`tracer.redact.phone_numbers`, in a module of its own because it needs the package phonenumbers."""

from __future__ import annotations

import re

from tracer._exceptions import MissingDependencyError

try:
    from phonenumbers import PhoneNumberMatcher
except ImportError as error:
    raise MissingDependencyError("tracer.redact.phone_numbers", package="phonenumbers", extra="redact") from error

__all__ = ["phone_numbers"]

PHONE_NUMBER = "[phone]"
# The matcher takes 0.3 ms a KB. In a text without so many digits close to one another it finds no number.
_MAYBE = re.compile(r"(?:\d[\s()./\-\u2010-\u2015]{0,3}){6}\d")


def phone_numbers(text: str, region: str | None = None) -> str:
    """Replace phone numbers by ``[phone]``: those with ``+`` and a country code, and those of a region.

    >>> phone_numbers("call +49 30 901820")
    'call [phone]'

    Args:
        text: Any text.
        region: Two letters (ISO 3166) of the country to which numbers without a country code belong:
            ``functools.partial(tracer.redact.phone_numbers, region="US")``.
    """
    if not _MAYBE.search(text):
        return text
    kept, end = [], 0
    for match in PhoneNumberMatcher(text, region):
        kept += [text[end : match.start], PHONE_NUMBER]
        end = match.end
    return "".join([*kept, text[end:]])
