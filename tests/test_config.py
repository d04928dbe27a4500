"""Settings: what they accept, what they refuse, and in which words."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import msgspec
import pytest

import tracer
from tracer._config import BodyRule, Settings, from_environment, updated
from tracer._runtime import runtime
from tracer.interpret.rates import read_price_list


def shout(text: str) -> str:
    return text.upper()


BAD: list[tuple[str, Any, str]] = [
    ("queue_max_records", 0, "queue_max_records must be at least 1, got 0"),
    ("queue_max_records", "many", "queue_max_records must be a whole number, got 'many'"),
    ("queue_max_records", True, "queue_max_records must be a whole number, got True"),
    ("queue_max_records", 1.5, "queue_max_records must be a whole number, got 1.5"),
    ("queue_max_bytes", 10, "queue_max_bytes must be at least 1024, got 10"),
    ("batch_max_records", -1, "batch_max_records must be at least 1, got -1"),
    ("batch_interval", 0, "batch_interval must be a number from 0.001 to 60, got 0"),
    ("batch_interval", float("nan"), "batch_interval must be a number from 0.001 to 60, got nan"),
    ("batch_interval", 10**400, "batch_interval must be a number from 0.001 to 60"),
    ("max_payload_bytes", None, "max_payload_bytes must be a whole number, got None"),
    ("sample_rate", 1.1, "sample_rate must be a number from 0 to 1, got 1.1"),
    ("sample_rate", -0.1, "sample_rate must be a number from 0 to 1, got -0.1"),
    ("sample_rate", "0.5", "sample_rate must be a number from 0 to 1, got '0.5'"),
    ("sample_rate", True, "sample_rate must be a number from 0 to 1, got True"),
    ("read_timeout", 0, "read_timeout must be a number from 0.001 to 86400, got 0"),
    ("read_timeout", None, "read_timeout must be a number from 0.001 to 86400, got None"),
    ("durability", "fast", "durability must be 'normal' or 'full', got 'fast'"),
    ("durability", ["full"], "durability must be 'normal' or 'full', got ['full']"),
    (
        "retention_max_age",
        0,
        "retention_max_age must be a number of seconds from 1 to 3153600000, a timedelta, or",
    ),
    ("retention_max_age", float("nan"), "retention_max_age must be a number of seconds from 1 to 3153600000"),
    ("retention_max_age", True, "retention_max_age must be a number of seconds from 1 to 3153600000"),
    ("retention_max_age", "30d", "retention_max_age must be a number of seconds from 1 to 3153600000"),
    ("retention_max_age", timedelta(0), "retention_max_age must be a number of seconds from 1 to 3153600000"),
    ("retention_max_bytes", 1000, "retention_max_bytes must be at least 1048576, got 1000"),
    ("retention_max_bytes", 2e9, "retention_max_bytes must be a whole number, got 2000000000.0"),
    ("capture_content", 1, "capture_content must be True or False, got 1"),
    ("redact", "secret", "redact must be a function from str to str, or a list of them, got 'secret'"),
    ("redact", [shout, 3], "redact must be a function from str to str, or a list of them, got 3"),
    ("prices", 3, "prices must be a dict of prices by model, a function or None, got 3"),
    ("prices", {"m": {"inputs": 1}}, "prices: 'm': unknown price 'inputs'"),
    ("prices", {"m": {"input": -1}}, "prices: 'm': 'input' must be US dollars, 0 or more, got -1"),
    ("no_such_limit", 1, "unknown setting 'no_such_limit'; known are batch_interval"),
]


@pytest.mark.parametrize(("name", "value", "message"), BAD, ids=[f"{name}={value!r:.20}" for name, value, _ in BAD])
def test_a_bad_setting_is_told_by_name_value_and_remedy_and_changes_nothing(
    name: str, value: object, message: str
) -> None:
    before = runtime.settings
    with pytest.raises(tracer.ConfigurationError, match=f"^{re.escape(message)}"):
        tracer.configure(**{"max_payload_bytes": 5, name: value})
    assert runtime.settings == before


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("queue_max_records", 1, 1),
        ("batch_interval", 1, 1.0),
        ("propagate_to_threads", True, True),
        ("sample_rate", 0, 0.0),
        ("sample_rate", 1, 1.0),
        ("durability", "full", "full"),
        ("retention_max_age", None, None),
        ("retention_max_age", 60, 60.0),
        ("retention_max_age", timedelta(days=30), 2_592_000.0),
        ("retention_max_bytes", None, None),
        ("retention_max_bytes", 1 << 30, 1 << 30),
        ("redact", None, ()),
        ("redact", shout, (shout,)),
        ("redact", [shout, str], (shout, str)),
        ("prices", None, None),
        ("prices", shout, shout),
        ("prices", {"m": {"input": 1}}, read_price_list({"m": {"input": 1}})),
    ],
)
def test_good_settings_are_kept(name: str, value: object, kept: object) -> None:
    assert getattr(updated(Settings(), {name: value}), name) == kept


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("queue_max_records", "100", 100),
        ("queue_max_bytes", "65536", 65536),
        ("batch_max_records", "5", 5),
        ("batch_interval", "0.5", 0.5),
        ("propagate_to_threads", "yes", True),
        ("max_payload_bytes", "1000", 1000),
        ("sample_rate", "0.25", 0.25),
        ("read_timeout", "120", 120.0),
        ("durability", " FULL", "full"),
        ("retention_max_age", "86400", 86_400.0),
        ("retention_max_bytes", "2000000", 2_000_000),
        ("capture_content", "false", False),
        ("capture_content", " ON ", True),
        ("keep_bodies", "0.05", BodyRule(rate=0.05)),
        ("keep_bodies", '{"errors": false, "slower_than": 2}', BodyRule(errors=False, slower_than=2.0)),
        ("redact", "tests.test_config:shout", (shout,)),
        ("redact", "tests.test_config:shout, tests.test_config:shout", (shout, shout)),
        ("prices", '{"m": {"input": 1}}', read_price_list({"m": {"input": 1}})),
        ("prices", "tests.test_config:shout", shout),
    ],
)
def test_each_setting_is_read_from_the_environment(name: str, text: str, value: object) -> None:
    assert getattr(from_environment({f"TRACER_{name.upper()}": text}), name) == value


def test_every_setting_has_a_check_a_variable_and_a_line_of_documentation() -> None:
    for name in Settings.__struct_fields__:
        assert f"{name}: " in (Settings.__doc__ or "")
        with pytest.raises(tracer.ConfigurationError, match=f"TRACER_{name.upper()}"):
            from_environment({f"TRACER_{name.upper()}": "\0"})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("queue_max_records", "lots"),
        ("queue_max_records", "0"),
        ("sample_rate", "2"),
        ("sample_rate", "nan"),
        ("capture_content", "maybe"),
        ("keep_bodies", "few"),
        ("keep_bodies", '"few"'),
        ("redact", "no.such.module:function"),
        ("redact", "tests.test_config:missing"),
        ("redact", "tests.test_config:BAD"),
        ("redact", "shout"),
        ("redact", ","),
        ("prices", "{"),
        ("prices", "no.such.module:prices"),
    ],
)
def test_a_bad_variable_is_told_by_its_name(name: str, text: str) -> None:
    with pytest.raises(tracer.ConfigurationError, match=f"^TRACER_{name.upper()} must be"):
        from_environment({f"TRACER_{name.upper()}": text})


def test_an_empty_variable_is_none_at_all() -> None:
    assert from_environment({"TRACER_SAMPLE_RATE": ""}) == Settings()


def test_settings_cannot_be_changed_in_place() -> None:
    with pytest.raises(AttributeError):
        Settings().sample_rate = 0.5  # type: ignore[misc]
    assert msgspec.structs.asdict(Settings()).keys() == set(Settings.__struct_fields__)
