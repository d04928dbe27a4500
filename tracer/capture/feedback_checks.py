"""What may be said about a trace: checks of `tracer.log_feedback`'s arguments."""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Callable
from typing import Any

from tracer._exceptions import ConfigurationError
from tracer._models import Feedback
from tracer.capture.argument_checks import check_text, optional_text
from tracer.capture.text import clean_text

__all__ = ["FeedbackValue", "make_feedback"]

FeedbackValue = bool | int | float | str
_SOURCE = re.compile(r"(human|llm|code)(:.+)?", re.IGNORECASE | re.DOTALL)
_MLFLOW_JUDGE = "LLM_JUDGE"


def make_feedback(
    trace_id: str,
    name: str,
    value: FeedbackValue,
    *,
    created_ns: int,
    span_id: str | None = None,
    comment: str | None = None,
    source: str | None = None,
    redact: Callable[[str], str] = lambda text: text,
) -> Feedback:
    """Return feedback that can be stored. Raises ConfigurationError, which names the argument that is wrong.

    `redact` is applied to the texts that people write: `comment`, and `value` if it is a text.
    """
    checked, said = _checked_value(value), optional_text("comment", comment)
    return Feedback(
        id=uuid.uuid4().hex,
        trace_id=check_text("trace_id", trace_id),
        span_id=optional_text("span_id", span_id),
        name=check_text("name", name),
        value=redact(checked) if isinstance(checked, str) else checked,
        comment=None if said is None else redact(said),
        source=_checked_source(source),
        created_ns=created_ns,
    )


def _checked_value(value: Any) -> FeedbackValue:
    if isinstance(value, bool) or (isinstance(value, str) and value):
        return clean_text(value) if isinstance(value, str) else value
    if isinstance(value, int) and abs(value) < 2**63:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    raise ConfigurationError(f"value must be True, False, a finite number or a non-empty string, got {value!r}")


def _checked_source(source: Any) -> str:
    """Return ``human``, ``llm`` or ``code``, with a colon and a name if given. ``LLM_JUDGE`` (MLflow) means ``llm``."""
    if source is None:
        return "code"
    kind, colon, who = source.partition(":") if isinstance(source, str) else ("", "", "")
    word = "llm" if kind.upper() == _MLFLOW_JUDGE else kind.lower()
    if not _SOURCE.fullmatch(f"{word}{colon}{who}"):
        raise ConfigurationError(
            f"source must be 'human', 'llm' or 'code', or with a name as in 'human:ann', got {source!r}"
        )
    return clean_text(f"{word}{colon}{who}")
