"""`tracer.redact.phone_numbers`, apart since it needs the package phonenumbers."""

from __future__ import annotations

import re

from tracer._exceptions import MissingDependencyError

try:
    from phonenumbers import PhoneNumberMatcher
except ImportError as error:
    raise MissingDependencyError("tracer.redact.phone_numbers", package="phonenumbers", extra="redact") from error

__all__ = ["phone_numbers"]

PHONE_NUMBER = "[phone]"
# The matcher takes 0.3 ms a KB. A text without so many digits close to one another has no number for it to find.
_MAYBE = re.compile(r"(?:\d[\s()./\-\u2010-\u2015]{0,3}){6}\d")


def phone_numbers(text: str, region: str | None = None) -> str:
    """Replace phone numbers by ``[phone]``: those that begin with ``+`` and a country, and a region's own.

    >>> phone_numbers("call +49 30 901820")
    'call [phone]'

    Args:
        text: Any text.
        region: Two letters (ISO 3166) of the country whose numbers are meant where none is said:
            ``functools.partial(tracer.redact.phone_numbers, region="US")``.
    """
    if not _MAYBE.search(text):
        return text
    kept, end = [], 0
    for match in PhoneNumberMatcher(text, region):
        kept += [text[end : match.start], PHONE_NUMBER]
        end = match.end
    return "".join([*kept, text[end:]])
