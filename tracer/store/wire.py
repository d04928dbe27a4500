"""What a tracking server and its clients say to one another: one description, used on both sides.

``POST /api/ingest`` takes an `Envelope`, ``POST /api/store/{method}`` the arguments of a method of `Store`; both are
msgpack. The arguments and results are those of the protocol itself (`METHODS` is read from its signatures), so nothing
about them is written twice. An error travels as its code and its words, and is raised on the other side as the same
class.
"""

from __future__ import annotations

import datetime
import inspect
import typing
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from tracer._exceptions import (
    ConfigurationError,
    MediaNotFoundError,
    MissingDependencyError,
    ReadTimeoutError,
    StoreError,
    TraceNotFoundError,
    TracerError,
    TransientStoreError,
)
from tracer._models import Trace, TracePage
from tracer.store.base import Store, TraceQuery
from tracer.store.batch import Batch, ProcessRow

__all__ = [
    "CODES",
    "CONTENT_TYPE",
    "MAX_COMPRESSED",
    "MAX_TRACES",
    "MAX_UNPACKED",
    "METHODS",
    "RECORDS",
    "ROWS",
    "VERSION",
    "VERSIONS",
    "VERSION_HEADER",
    "Envelope",
    "Method",
    "decode",
    "encode",
    "pack_batch",
    "raised_again",
    "read_arguments",
    "unpack_batch",
]

VERSION = 1
VERSIONS = (1,)
"""The versions of this description that this tracer speaks. A client sends `VERSION`."""
VERSION_HEADER = "Tracer-Version"
CONTENT_TYPE = "application/vnd.tracer+msgpack"
ROWS, RECORDS = "rows", "records"
MIB = 1024 * 1024
MAX_COMPRESSED, MAX_UNPACKED = 32 * MIB, 128 * MIB  # bytes of one body
MAX_TRACES = 10_000  # in one batch

# --- batches ----------------------------------------------------------------------------------------------------------


class Envelope(msgspec.Struct, array_like=True):
    """The body of ``POST /api/ingest``. An array that only ever grows at its end: older readers skip what they lack.

    Attributes:
        process: Who sends. What a batch of another, dead process holds says so itself (`Batch.process`).
        clock_ns: The sender's clock, nanoseconds since the epoch.
        number: How many envelopes this sender has sent, this one included.
        kind: What is in `body`, a `Batch`: ``rows`` or ``records``.
        body: msgpack.
    """

    version: int
    process: ProcessRow
    clock_ns: int
    number: int
    kind: str
    body: msgspec.Raw


def pack_batch(batch: Batch, process: ProcessRow, clock_ns: int, number: int) -> bytes:
    """Return a batch in its envelope."""
    kind = ROWS if batch.raw is None else RECORDS
    return _encoder.encode(Envelope(VERSION, process, clock_ns, number, kind, msgspec.Raw(encode(batch))))


def unpack_batch(envelope: Envelope) -> Batch:
    """Return the batch. Raises msgspec.ValidationError, with the place of what is wrong, as in ``$.spans[3].name``."""
    return _batch_decoder.decode(envelope.body)


# --- methods ----------------------------------------------------------------------------------------------------------


class Method(NamedTuple):
    """A method of `Store` that can be called from elsewhere.

    Attributes:
        scope: What a token must allow: ``read``, ``write`` or ``admin``.
        arguments: A struct with a field for each parameter.
        result: The type of what comes back.
    """

    name: str
    scope: str
    arguments: type[msgspec.Struct]
    result: Any


class _Page(msgspec.Struct):
    """A `TracePage`, which is a list with an attribute."""

    traces: list[Trace]
    next_page_token: str | None = None


_SCOPES = {
    "read": (
        "change_marker", "get_trace", "stored_traces", "get_media", "search_traces", "neighbours", "list_feedback",
        "facets", "histogram", "overview", "sessions", "experiments", "storage", "losses",
    ),
    # Whoever may only write must still be able to take over what a killed process left.
    "write": (
        "taken_over", "forget_source", "live_chunks", "end_process", "set_trace_tag", "delete_trace_tag",
        "add_feedback", "delete_feedback",
    ),
    "admin": ("delete_traces",),
}  # fmt: skip


_AnyQuery = msgspec.defstruct("query", [(name, Any, None) for name in TraceQuery.__struct_fields__])
"""A `TraceQuery` whose fields may be anything: the store checks them, and says what is wrong with them."""


def _method(name: str, scope: str) -> Method:
    function = getattr(Store, name)
    hints = typing.get_type_hints(function)
    if hints.get("query") is TraceQuery:  # and the numbers beside it are checked like it
        loose = {TraceQuery: _AnyQuery, int: Any}
        hints |= {each: loose.get(hint, hint) for each, hint in hints.items() if each != "return"}
    parameters = list(inspect.signature(function).parameters.values())[1:]
    fields: list[Any] = [
        (each.name, hints[each.name]) if each.default is each.empty else (each.name, hints[each.name], each.default)
        for each in parameters
    ]
    result = {TracePage: _Page, object: Any}.get(hints["return"], hints["return"])
    return Method(name, scope, msgspec.defstruct(f"arguments of {name}", fields, kw_only=True), result)


METHODS: Mapping[str, Method] = {name: _method(name, scope) for scope, names in _SCOPES.items() for name in names}

# --- encoding ---------------------------------------------------------------------------------------------------------

_BIG = 1  # msgpack extension: an integer beyond 64 bits, as decimal text
_encoder = msgspec.msgpack.Encoder(enc_hook=repr)  # the server's check names what it got
_batch_decoder = msgspec.msgpack.Decoder(Batch)
_decoders: dict[Any, msgspec.msgpack.Decoder[Any]] = {}


def encode(value: object) -> bytes:
    """Return arguments or a result as msgpack."""
    if isinstance(value, TracePage):
        value = _Page(list(value), value.next_page_token)
    try:
        return _encoder.encode(value)
    except (OverflowError, UnicodeEncodeError):  # as JSON text that somebody sent may have it
        return _encoder.encode(_tamed(msgspec.to_builtins(value, builtin_types=(bytes, datetime.datetime))))


def decode(data: bytes, kind: Any) -> Any:
    """Return what was encoded. Raises msgspec.DecodeError."""
    try:
        value = _decoder(kind).decode(data)
    except msgspec.ValidationError:
        if kind not in (Trace, _Page):
            raise
        value = _with_odd_attributes(_decoder(Any).decode(data), kind)
    return TracePage(value.traces, next_page_token=value.next_page_token) if isinstance(value, _Page) else value


def read_arguments(method: Method, data: bytes) -> dict[str, Any]:
    """Return the arguments of a call by their names. Raises msgspec.DecodeError."""
    arguments = msgspec.structs.asdict(decode(data, method.arguments))
    query = arguments.get("query")
    return arguments if query is None else {**arguments, "query": TraceQuery(**msgspec.structs.asdict(query))}


def _decoder(kind: Any) -> msgspec.msgpack.Decoder[Any]:
    if kind not in _decoders:
        _decoders[kind] = msgspec.msgpack.Decoder(kind, ext_hook=_extension)
    return _decoders[kind]


def _with_odd_attributes(plain: Any, kind: Any) -> Any:
    """Return traces with a span whose attributes are no object: what was stored as them may be any text."""
    odd: dict[tuple[str, str], Any] = {}
    for trace in plain["traces"] if kind is _Page else [plain]:
        for span in trace["data"]["spans"]:
            if not isinstance(span["attributes"], dict):
                odd[span["trace_id"], span["span_id"]] = span.pop("attributes")
    value = msgspec.convert(plain, kind)
    for trace in value.traces if kind is _Page else [value]:
        for number, span in enumerate(trace.data.spans):
            if (attributes := odd.get((span.trace_id, span.span_id))) is not None:
                trace.data.spans[number] = msgspec.structs.replace(span, attributes=attributes)
    return value


def _tamed(value: Any) -> Any:
    if isinstance(value, dict):
        return {_tamed(key): _tamed(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_tamed(each) for each in value]
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return msgspec.msgpack.Ext(_BIG, str(value).encode())
    return value


def _extension(code: int, data: memoryview) -> Any:
    if code != _BIG:
        raise ValueError(f"extension {code} is not known")
    return int(bytes(data))


# --- errors -----------------------------------------------------------------------------------------------------------

CODES: dict[type[TracerError], tuple[int, str]] = {
    ConfigurationError: (400, "invalid_request"),
    TraceNotFoundError: (404, "trace_not_found"),
    MediaNotFoundError: (404, "media_not_found"),
    MissingDependencyError: (501, "missing_dependency"),
    ReadTimeoutError: (503, "read_timeout"),
    TransientStoreError: (503, "store_busy"),
    StoreError: (503, "store_unavailable"),
}
"""The HTTP status and the code of each error that a store raises."""
_BY_CODE = {code: kind for kind, (_, code) in CODES.items()}


def raised_again(code: str, message: str) -> TracerError | None:
    """Return the error that a server answered with; None for a code that is no store's."""
    kind = _BY_CODE.get(code)
    if kind is None:
        return None
    error = kind.__new__(kind, message)
    Exception.__init__(error, message)  # some classes make their message of other arguments
    return error
