"""Calls that tracer can't see, as a client's ``request`` is not the SDK's: found beforehand, or when one is made."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any

from openai import _base_client as sdk

from tracer.openai._operations import find_operation
from tracer.openai._redirect import held_by, leads_to
from tracer.spans.guard import guarded

__all__ = ["BYPASS", "do_not_suspect", "find_bypasses", "notice_bypass", "tell_of_bypasses"]

logger = logging.getLogger("tracer")

BYPASS = (
    "calls through %s may not be traced: its request() (%s) does not seem to call the SDK's; have it call "
    "super().request(), or the method that it replaces"
)

_AZURE_DEPLOYMENT = re.compile(r"^/deployments/[^/]+")  # Azure clients put it before the path
_told: set[str] = set()


def find_bypasses() -> dict[str, str]:
    """Return the client classes whose ``request`` does not seem to call the SDK's, each with where that was written.

    A ``request`` that calls ``super().request``, or holds the SDK's function in any way, is not among them.
    """
    found = {}
    for base in (sdk.SyncAPIClient, sdk.AsyncAPIClient):
        for cls in _with_subclasses(base):
            method = cls.__dict__.get("request")
            if method is not None and not _seems_to_lead_to(method, base.__dict__.get("request")):
                code = getattr(method, "__code__", None)
                found[_name_of(cls)] = (
                    code.co_filename if code is not None else f"an object of {_name_of(type(method))}"
                )
    return found


def tell_of_bypasses(found: Mapping[str, str]) -> None:
    """Warn of each, once."""
    for name in found.keys() - _told:
        _told.add(name)
        logger.warning(BYPASS, name, found[name])


def do_not_suspect(client: Any) -> None:
    """Calls through this class reach the seam: if one of them has no span, that has another reason, which was told."""
    _told.add(_name_of(type(client)))


@guarded
def notice_bypass(client: Any, options: Any) -> None:
    """A request is built for which no call has begun. Warn, once a class, if it should have been traced."""
    name = _name_of(type(client))
    if name in _told or find_operation(options.method, _AZURE_DEPLOYMENT.sub("", options.url)) is None:
        return
    _told.add(name)
    logger.warning(BYPASS, name, f"{options.method.upper()} {options.url} came past it")


def _name_of(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _with_subclasses(cls: type[Any]) -> Iterator[type[Any]]:
    yield cls
    for subclass in cls.__subclasses__():
        yield from _with_subclasses(subclass)


def _seems_to_lead_to(method: Any, function: Any) -> bool:
    if function is None or leads_to(method, function):
        return True
    codes = (getattr(held, "__code__", None) for held in held_by(method))
    return any("request" in code.co_names for code in codes if code is not None)
