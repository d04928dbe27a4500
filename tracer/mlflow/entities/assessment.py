"""MLflow's assessments over tracer's feedback.

An expectation is feedback whose name begins with ``expected.``, so it is shown and found like any other:
``feedback.expected.answer = 'Paris'``.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from tracer._models import Feedback as StoredFeedback
from tracer.mlflow._refusing import refuse_given, refuse_members
from tracer.mlflow.exceptions import MlflowException

__all__ = ["Assessment", "AssessmentSource", "AssessmentSourceType", "Expectation", "Feedback", "read_assessment"]

EXPECTED = "expected."
_TYPES = {"human": "HUMAN", "llm": "LLM_JUDGE", "code": "CODE"}


@refuse_members
class AssessmentSourceType:
    """Who may assess."""

    HUMAN = "HUMAN"
    LLM_JUDGE = "LLM_JUDGE"
    AI_JUDGE = "AI_JUDGE"
    CODE = "CODE"
    SOURCE_TYPE_UNSPECIFIED = "SOURCE_TYPE_UNSPECIFIED"  # nobody can assess as this, in MLflow neither


@refuse_members
@dataclass(frozen=True)
class AssessmentSource:
    """Who assessed."""

    source_type: str
    source_id: str | None = "default"

    def __post_init__(self) -> None:
        word = str(self.source_type).upper()
        object.__setattr__(self, "source_type", "LLM_JUDGE" if word == AssessmentSourceType.AI_JUDGE else word)
        if self.source_type not in _TYPES.values():
            raise MlflowException(f"source_type must be HUMAN, LLM_JUDGE or CODE, got {self.source_type!r}")

    @property
    def stored(self) -> str:
        """The source as tracer writes it: ``human``, ``human:ann``."""
        kind = next(kind for kind, name in _TYPES.items() if name == self.source_type)
        return kind if self.source_id in (None, "default") else f"{kind}:{self.source_id}"

    def to_dictionary(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)

    @classmethod
    def from_dictionary(cls, source_dict: dict[str, Any]) -> AssessmentSource:
        """Undo `to_dictionary`."""
        return cls(**source_dict)


class _Value(NamedTuple):
    """What MLflow keeps an assessment's value in."""

    value: Any
    error: None = None


@refuse_members
@dataclass(frozen=True)
class Assessment:
    """What somebody, or something, thought of a trace or a span. Make a `Feedback` or an `Expectation`."""

    name: str
    value: Any
    source: AssessmentSource
    rationale: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    assessment_id: str | None = None
    create_time_ms: int | None = None
    valid: bool = True

    error = error_code = error_message = metadata = overrides = run_id = expectation = feedback = issue = None

    @property
    def last_update_time_ms(self) -> int | None:
        """As `create_time_ms`: an assessment is never changed."""
        return self.create_time_ms

    def to_dictionary(self) -> dict[str, Any]:
        """Return plain data."""
        return {key: value for key, value in asdict(self).items() if value is not None}


class Feedback(Assessment):
    """A judgement. `error`, `metadata` and `overrides` are not supported."""

    def __init__(
        self,
        name: str = "feedback",
        value: Any = None,
        error: None = None,
        source: AssessmentSource | None = None,
        trace_id: str | None = None,
        metadata: None = None,
        span_id: str | None = None,
        create_time_ms: int | None = None,
        last_update_time_ms: int | None = None,
        rationale: str | None = None,
        overrides: None = None,
        valid: bool = True,
        *,
        assessment_id: str | None = None,
    ) -> None:
        refuse_given("Feedback", error=error, metadata=metadata, overrides=overrides)
        source = source or AssessmentSource(AssessmentSourceType.CODE)
        super().__init__(name, value, source, rationale, trace_id, span_id, assessment_id, create_time_ms, valid)

    @property
    def feedback(self) -> _Value:  # type: ignore[override]
        """The value, once more."""
        return _Value(self.value)


class Expectation(Assessment):
    """What would have been right. `metadata` is not supported."""

    def __init__(
        self,
        name: str,
        value: Any,
        source: AssessmentSource | None = None,
        trace_id: str | None = None,
        metadata: None = None,
        span_id: str | None = None,
        create_time_ms: int | None = None,
        last_update_time_ms: int | None = None,
        *,
        assessment_id: str | None = None,
    ) -> None:
        refuse_given("Expectation", metadata=metadata)
        source = source or AssessmentSource(AssessmentSourceType.HUMAN)
        super().__init__(name, value, source, None, trace_id, span_id, assessment_id, create_time_ms)

    @property
    def expectation(self) -> _Value:  # type: ignore[override]
        """The value, once more."""
        return _Value(self.value)


def read_assessment(stored: StoredFeedback) -> Assessment:
    """Return feedback as MLflow shows it."""
    kind, _, who = stored.source.partition(":")
    common: dict[str, Any] = {
        "value": read_value(stored.value),
        "source": AssessmentSource(_TYPES[kind], who or "default"),
        "trace_id": stored.trace_id,
        "span_id": stored.span_id,
        "assessment_id": stored.id,
        "create_time_ms": stored.created_ns // 1_000_000,
    }
    if stored.name.startswith(EXPECTED):
        return Expectation(stored.name.removeprefix(EXPECTED), **common)
    return Feedback(stored.name, rationale=stored.comment, **common)


def write_value(value: Any) -> bool | int | float | str:
    """Return a value as tracer keeps it: a list or a dict as JSON text."""
    return json.dumps(value) if isinstance(value, (list, dict)) else value


def read_value(value: Any) -> Any:
    """Undo `write_value`."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value
