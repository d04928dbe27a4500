"""Settings: defaults, the environment, and the checks that turn bad ones into clear errors."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Literal
from urllib.parse import unquote

import msgspec

from tracer._exceptions import ConfigurationError
from tracer.interpret.cost import Prices
from tracer.interpret.rates import read_price_list
from tracer.otlp.endpoint import read_endpoint

__all__ = [
    "DEFAULT_EXPERIMENT",
    "DEFAULT_TRACKING_URI",
    "BodyRule",
    "Durability",
    "Headers",
    "Redactor",
    "Settings",
    "from_environment",
    "updated",
]

DEFAULT_TRACKING_URI = "sqlite:///tracer.db"
DEFAULT_EXPERIMENT = "Default"
MIB = 1024 * 1024
MIN_RING_BYTES = 64 * 1024

MIN_RETAINED_BYTES = MIB  # an empty database takes 0.2 MiB
CENTURY = 100 * 365 * 86_400.0  # in seconds

Redactor = Callable[[str], str]
Durability = Literal["normal", "full"]


class Headers(dict[str, str]):
    """Headers of requests. They may be credentials, so only their names are shown."""

    def __repr__(self) -> str:
        return f"{{{', '.join(f'{name!r}: ***' for name in self)}}}"


class BodyRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which spans keep their inputs and outputs: those for which one of these holds.

    Attributes:
        rate: Share of traces whose spans all keep them, 0 to 1. The trace's id decides, so several services that share
            a trace agree.
        errors: Those that did not complete: failed, incomplete, cancelled or abandoned.
        slower_than: Those that took more than so many seconds; None chooses none.
    """

    rate: float = 0.0
    errors: bool = True
    slower_than: float | None = None


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What `tracer.configure` sets. Each setting is also read from the environment as ``TRACER_<NAME>``.

    Attributes:
        queue_max_records: Records that may wait for the worker.
        queue_max_bytes: Bytes that may wait for the worker.
        batch_max_records: Records that are written in one transaction.
        batch_interval: Seconds between two looks at the queue while there is work. Reading and exit don't wait for it.
            A shorter interval costs a service with few calls more CPU (``python -m benchmarks.interval``).
        max_payload_bytes: Bytes of one body or value that are kept. The rest is cut off; the cut is marked and counted.
        crash_ring_bytes: Bytes of shared memory that keep waiting records if the process is killed. 0 switches that
            off; the least is 64 KiB. A change counts for databases that are opened after it.
        spool_max_bytes: Bytes that files beside the database may take with what it could not take so far, because it is
            locked or the disk refuses (``<database>-spool/``). The oldest ones give way. 0 allows no such files.
        durability: What a power failure may take. ``normal``: the database stays whole, but the newest transactions may
            be lost, back to when its log was last moved into the file. ``full``: no transaction that was committed is
            lost, so nothing that a `flush` has waited for; each transaction waits until the disk has it. A killed
            process loses no transaction either way. What still waits in memory or in the spool is not covered. A change
            counts from the next transaction on.
        retention_max_age: Seconds, or a `timedelta`, for which traces are kept after they have ended. None keeps them
            for ever. In the environment: seconds.
        retention_max_bytes: Bytes that the database may have in use. Beyond that, the oldest traces are deleted. The
            least is 1 MiB; None sets no limit. Of two limits, whichever is reached first deletes. Running traces are
            never deleted.
        enabled: False records no trace that begins from now on. Traces that run go on, and so do reading and writing.
        sample_rate: Share of traces that are recorded, 0 to 1. It is decided once, at the root span, for the whole
            trace.
        capture_content: True stores texts; False stores only structure, model, usage and times.
        keep_bodies: Which spans keep their inputs and outputs; None means all. The other spans are stored without them:
            with times, model, usage, cost, status and one line of each as a preview. Either a dict, as in ``{"rate":
            0.05, "errors": True, "slower_than": 10.0}`` (see `BodyRule`), or a number, the rate. In the environment: a
            number, or JSON.
        redact: Functions from text to text, applied to every text before it is written. In the environment:
            ``module:function``, several separated by commas.
        read_timeout: Seconds that a read (`get_trace`, `search_traces`, …) may take, not counting the wait until what
            you recorded is written. After that it is stopped, and raises `ReadTimeoutError`.
        prices: What models cost; these prices come before the shipped table. Either a dict of US dollars per million
            tokens by model, ``{"my-model": {"input": 1.0, "output": 2.0, "cached_input": 0.1}}``
            (`tracer.interpret.rates.UNITS` lists all names; ``*`` in a model's name matches anything;
            ``"tiers": {"flex": {…}}`` gives prices of service tiers), or a function from `tracer.PricedCall` to US
            dollars or None. In the environment: JSON, or ``module:name``.
        propagate_to_threads: Work that is handed to a ``ThreadPoolExecutor``, or to ``loop.run_in_executor``, belongs
            to the span that was current there. `autolog` with ``disable=True`` ends that. If False, each call in such a
            thread is a trace of its own.
        otlp_endpoint: Where what ends is sent by OpenTelemetry's protocol, beside the store: ``http(s)://host[:port]``
            or ``grpc(s)://host[:port]``. None sends nothing. Needs the extra ``otlp``, over gRPC ``otlp-grpc``.
        otlp_headers: Headers of these requests, such as ``{"authorization": "Bearer …"}``. In the environment:
            ``name=value,name=value``, values percent-encoded, as in ``OTEL_EXPORTER_OTLP_HEADERS`` (which is not read:
            it may have the key of another receiver).
        otlp_keys: Whose attribute keys are sent beside OpenTelemetry's: ``mlflow``, ``openinference``. In the
            environment: separated by commas.
    """

    queue_max_records: int = 16_384
    queue_max_bytes: int = 64 * MIB
    batch_max_records: int = 1_024
    batch_interval: float = 0.5
    max_payload_bytes: int = 16 * MIB
    crash_ring_bytes: int = 32 * MIB
    spool_max_bytes: int = 1024 * MIB
    durability: Durability = "normal"
    retention_max_age: float | None = None
    retention_max_bytes: int | None = None
    enabled: bool = True
    sample_rate: float = 1.0
    capture_content: bool = True
    keep_bodies: BodyRule | None = None
    redact: tuple[Redactor, ...] = ()
    read_timeout: float = 60.0
    prices: Prices | None = None
    propagate_to_threads: bool = False
    otlp_endpoint: str | None = None
    otlp_headers: Headers = msgspec.field(default_factory=Headers)
    otlp_keys: tuple[str, ...] = ()


def updated(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """Return `settings` with `changes`, checked.

    Raises:
        ConfigurationError: Unknown name, wrong type or value out of range.
    """
    checked = {}
    for name, value in changes.items():
        check = _CHECKS.get(name)
        if check is None:
            raise ConfigurationError(f"unknown setting {name!r}; known are {', '.join(sorted(_CHECKS))}")
        checked[name] = check(name, value)
    return msgspec.structs.replace(settings, **checked)


def from_environment(environ: Mapping[str, str] = os.environ) -> Settings:
    """Return the default settings, changed by the ``TRACER_…`` variables that are set.

    Raises:
        ConfigurationError: A variable can't be read as its setting; the message names the variable.
    """
    settings = {}
    for name, check in _CHECKS.items():
        variable = f"TRACER_{name.upper()}"
        if text := environ.get(variable):
            settings[name] = check(variable, _parse(name, variable, text))
    return Settings(**settings)


def _parse(name: str, variable: str, text: str) -> Any:
    """Convert a variable's text to its setting's type. The value itself is checked later, by the setting's check."""
    if name == "redact":
        return [_import(variable, path.strip()) for path in text.split(",")]
    if name == "prices":
        return _prices_of(variable, text)
    if name == "keep_bodies":
        return _body_rule_of(variable, text)
    if name in ("capture_content", "enabled", "propagate_to_threads"):
        word = text.strip().lower()
        if word not in _BOOLEANS:
            raise ConfigurationError(f"{variable} must be true or false, got {text!r}")
        return _BOOLEANS[word]
    if name == "durability":
        return text.strip().lower()
    if name == "otlp_endpoint":
        return text
    if name == "otlp_headers":
        return _headers_of(variable, text)
    if name == "otlp_keys":
        return [word.strip() for word in text.split(",") if word.strip()]
    try:
        return float(text) if name in _FRACTIONS else int(text)
    except ValueError:
        raise ConfigurationError(f"{variable} must be a number, got {text!r}") from None


def _headers_of(variable: str, text: str) -> dict[str, str]:
    """Read ``name=value,name=value`` (https://opentelemetry.io/docs/specs/otel/protocol/exporter/)."""
    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    if not all(name.strip() and sign for name, sign, _ in pairs):
        raise ConfigurationError(f"{variable} must be name=value, several separated by commas; its value is not shown")
    return {unquote(name.strip()): unquote(value.strip()) for name, _, value in pairs}


def _prices_of(variable: str, text: str) -> Any:
    if not text.lstrip().startswith("{"):
        return _import(variable, text.strip())
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"{variable} must be JSON or module:name, got {text!r} ({error})") from None


def _body_rule_of(variable: str, text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"{variable} must be a number or JSON, got {text!r} ({error})") from None


_FRACTIONS = ("batch_interval", "sample_rate", "read_timeout", "retention_max_age")
_BOOLEANS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def _import(variable: str, path: str) -> Any:
    module, _, attribute = path.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:  # any kind: importing the module runs the user's code
        raise ConfigurationError(f"{variable} must be module:function, got {path!r} ({error!r})") from error


def _whole(minimum: int) -> Callable[[str, Any], int]:
    def check(name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigurationError(f"{name} must be a whole number, got {value!r}")
        if value < minimum:
            raise ConfigurationError(f"{name} must be at least {minimum}, got {value}")
        return value

    return check


def _ring_bytes(name: str, value: Any) -> int:
    size = _whole(0)(name, value)
    if 0 < size < MIN_RING_BYTES:
        raise ConfigurationError(f"{name} must be 0, or at least {MIN_RING_BYTES}, got {value}")
    return size


def _number(minimum: float, maximum: float) -> Callable[[str, Any], float]:
    def check(name: str, value: Any) -> float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not minimum <= value <= maximum:  # the comparison is false for NaN, too
            raise ConfigurationError(f"{name} must be a number from {minimum:g} to {maximum:g}, got {value!r}")
        return float(value)

    return check


def _durability(name: str, value: Any) -> Durability:
    if value not in ("normal", "full"):
        raise ConfigurationError(f"{name} must be 'normal' or 'full', got {value!r}")
    durability: Durability = value
    return durability


def _age(name: str, value: Any) -> float | None:
    if value is None:
        return None
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not number or not 1 <= seconds <= CENTURY:
        raise ConfigurationError(
            f"{name} must be a number of seconds from 1 to {CENTURY:.0f}, a timedelta, or None, got {value!r}"
        )
    return float(seconds)


def _retained_bytes(name: str, value: Any) -> int | None:
    return None if value is None else _whole(MIN_RETAINED_BYTES)(name, value)


def _boolean(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name} must be True or False, got {value!r}")
    return value


def _body_rule(name: str, value: Any) -> BodyRule | None:
    if value is None or isinstance(value, BodyRule):
        return value
    given = value if isinstance(value, Mapping) else {"rate": value}
    try:
        rule = msgspec.convert(dict(given), BodyRule)
    except msgspec.ValidationError as error:
        example = '{"rate": 0.05, "errors": True, "slower_than": 10.0}'
        raise ConfigurationError(f"{name} must be None, a rate, or as in {example}; got {value!r} ({error})") from None
    _number(0, 1)(f"{name}['rate']", rule.rate)
    if rule.slower_than is not None:
        _number(0, CENTURY)(f"{name}['slower_than']", rule.slower_than)
    return rule


def _redactors(name: str, value: Any) -> tuple[Redactor, ...]:
    hooks = () if value is None else tuple(value) if isinstance(value, (list, tuple)) else (value,)
    for hook in hooks:
        if not callable(hook):
            raise ConfigurationError(f"{name} must be a function from str to str, or a list of them, got {hook!r}")
    return hooks


def _prices(name: str, value: Any) -> Prices | None:
    if isinstance(value, Mapping):
        try:
            return read_price_list(value)
        except ValueError as error:
            raise ConfigurationError(f"{name}: {error}") from None
    if value is not None and not callable(value):
        raise ConfigurationError(f"{name} must be a dict of prices by model, a function or None, got {value!r}")
    prices: Prices | None = value
    return prices


def _endpoint(name: str, value: Any) -> str | None:
    if value is not None:
        read_endpoint(value, name)
        value = value.strip()
    endpoint: str | None = value
    return endpoint


def _headers(name: str, value: Any) -> Headers:
    if value is None:
        return Headers()
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{name} must be a dict of texts by name, got {type(value).__name__}")
    for key, text in value.items():
        if not (isinstance(key, str) and re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", key)):
            raise ConfigurationError(f"{name} must have names that a header can have, got {key!r}")
        if not (isinstance(text, str) and text.isascii() and text.isprintable()):
            raise ConfigurationError(f"{name} must have values of printable ASCII characters; {key!r} has another one")
    return Headers(value)


def _otlp_keys(name: str, value: Any) -> tuple[str, ...]:
    words = () if value is None else (value,) if isinstance(value, str) else tuple(value)
    for word in words:
        if word not in _KEYS:
            raise ConfigurationError(f"{name} must be of {', '.join(map(repr, _KEYS))}, got {word!r}")
    return words


_KEYS = ("mlflow", "openinference")
_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "queue_max_records": _whole(1),
    "queue_max_bytes": _whole(1024),
    "batch_max_records": _whole(1),
    "batch_interval": _number(0.001, 60),
    "max_payload_bytes": _whole(1),
    "crash_ring_bytes": _ring_bytes,
    "spool_max_bytes": _whole(0),
    "durability": _durability,
    "retention_max_age": _age,
    "retention_max_bytes": _retained_bytes,
    "enabled": _boolean,
    "sample_rate": _number(0, 1),
    "capture_content": _boolean,
    "keep_bodies": _body_rule,
    "redact": _redactors,
    "read_timeout": _number(0.001, 86_400),
    "prices": _prices,
    "propagate_to_threads": _boolean,
    "otlp_endpoint": _endpoint,
    "otlp_headers": _headers,
    "otlp_keys": _otlp_keys,
}
