"""MLflow's assessments over tracer's feedback.

An expectation is feedback whose name begins with ``expected.``, so it is shown and found like any other:
``feedback.expected.answer = 'Paris'``.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from tracer._models import Feedback as StoredFeedback
from tracer.mlflow.exceptions import MlflowException

__all__ = ["Assessment", "AssessmentSource", "AssessmentSourceType", "Expectation", "Feedback", "read_assessment"]

EXPECTED = "expected."
_TYPES = {"human": "HUMAN", "llm": "LLM_JUDGE", "code": "CODE"}


class AssessmentSourceType:
    """Who may assess."""

    HUMAN = "HUMAN"
    LLM_JUDGE = "LLM_JUDGE"
    AI_JUDGE = "AI_JUDGE"
    CODE = "CODE"


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


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """What somebody, or something, thought of a trace or a span."""

    name: str = "feedback"
    value: Any = None
    source: AssessmentSource | None = None
    rationale: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    assessment_id: str | None = None
    create_time_ms: int | None = None
    valid: bool = True

    def to_dictionary(self) -> dict[str, Any]:
        """Return plain data."""
        return {key: value for key, value in asdict(self).items() if value is not None}


class Feedback(Assessment):
    """A judgement."""


class Expectation(Assessment):
    """What would have been right."""


def read_assessment(stored: StoredFeedback) -> Assessment:
    """Return feedback as MLflow shows it."""
    kind, _, who = stored.source.partition(":")
    is_expectation = stored.name.startswith(EXPECTED)
    return (Expectation if is_expectation else Feedback)(
        name=stored.name.removeprefix(EXPECTED),
        value=read_value(stored.value),
        source=AssessmentSource(_TYPES[kind], who or "default"),
        rationale=stored.comment,
        trace_id=stored.trace_id,
        span_id=stored.span_id,
        assessment_id=stored.id,
        create_time_ms=stored.created_ns // 1_000_000,
    )


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
