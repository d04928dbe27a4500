"""`@trace` changes nothing about a function but that its calls are recorded."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import inspect
import logging
import pickle
import traceback
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from typing import Any

import anyio
import pytest

import tracer
from tests.reading import last_span, last_spans, last_trace

pytestmark = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)
