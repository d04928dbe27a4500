"""What the installed openai package has. If an older one lacks what a test needs, the test is skipped, and says so.

Most of these tests are found while they run (`lacking`, with ``pytest --older-sdk``): the SDK itself says what it does
not know. `requires_sdk` is for the other tests.
"""

from __future__ import annotations

import functools
import itertools
import re
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openai
import pytest
from openai import NOT_GIVEN, _base_client

if TYPE_CHECKING:
    import httpx2
else:
    # The SDK's own HTTP library: httpx2 since 3.0, httpx before.
    httpx2 = getattr(_base_client, "httpx2", None) or _base_client.httpx

__all__ = ["READ_FAILED", "READ_TIMED_OUT", "has_sdk", "httpx2", "lacking", "omit", "requires_sdk"]

SDK, TESTS = Path(openai.__file__).parent, Path(__file__).parent
UNKNOWN_ARGUMENT = re.compile("got an unexpected keyword argument|Expected entry at `")

omit: Any = getattr(openai, "omit", NOT_GIVEN)
"""What stands for an argument that is left out; the older sentinel if the SDK has only that one."""

READ_FAILED = (openai.APIConnectionError, httpx2.RemoteProtocolError)
"""What a stream raises when it is cut off; older SDKs pass on the exception of their HTTP library."""
READ_TIMED_OUT = (openai.APITimeoutError, httpx2.ReadTimeout)


@functools.cache
def has_sdk(name: str) -> bool:
    """Tell whether a client has this (``responses.compact``), or the package (``openai.omit``)."""
    first, *names = name.split(".")
    found: Any = openai
    if first != "openai":
        with openai.OpenAI(api_key="sk-none") as client:
            found = getattr(client, first, None)
    for part in names:
        found = getattr(found, part, None)
    return found is not None


def requires_sdk(*names: str) -> pytest.MarkDecorator:
    """Mark a test that is about something that older SDKs don't have; as ``pytestmark``, mark a whole module."""
    missing = [name for name in names if not has_sdk(name)]
    return pytest.mark.skipif(bool(missing), reason=_reason(f"no {' and no '.join(missing)}"))


def lacking(error: BaseException) -> str | None:
    """Return what the SDK lacks, if a test failed only because of that, and not because of anything tracer did."""
    frames = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
    below_test = list(itertools.takewhile(lambda path: TESTS not in path.parents, reversed(frames)))
    if isinstance(error, AttributeError):
        kind = error.obj if isinstance(error.obj, type) else type(error.obj)
        theirs = not below_test and (error.obj is openai or kind.__module__.partition(".")[0] == "openai")
    else:
        theirs = UNKNOWN_ARGUMENT.search(str(error)) is not None and all(SDK in path.parents for path in below_test)
    return _reason(str(error)) if theirs else None


def _reason(what: str) -> str:
    return f"openai {openai.__version__}: {what}"
