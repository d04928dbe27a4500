"""Makes rows of spans that others recorded, and sent by OpenTelemetry's protocol (`tracer.otlp`)."""

from __future__ import annotations

from typing import Any

from tracer import _semconv as sc
from tracer._models import MODEL_CALL_TYPES, SpanStatusCode, TraceState
from tracer.assembly._media_rows import take_media
from tracer.assembly._payload_views import read_request, read_response, view_inputs, view_outputs
from tracer.assembly._privacy import Privacy
from tracer.assembly._row_parts import link_ids, seconds_after
from tracer.capture.records import Codec, Payload
from tracer.interpret import RequestView, ResponseView, encode_value
from tracer.interpret.cost import Prices, cost_of
from tracer.otlp.meaning import Meaning, read_meaning
from tracer.otlp.received import ReceivedSpan
from tracer.store.batch import Batch, ProcessRow, SpanRow, TracePatch

__all__ = ["make_batch"]


_FINISHES = ("completed", "incomplete", "failed", "cancelled", "abandoned")


def make_batch(spans: list[ReceivedSpan], process: ProcessRow, prices: Prices | None = None) -> Batch:
    """Return the rows of spans. Sending a span once more changes nothing.

    What a log record told of a span becomes the row of a start: it only fills in what the span itself leaves open.

    Of model calls within one another, as an agent framework's and the SDK's own, the innermost counts.
    """
    batch = Batch(process=process)
    patches: dict[str, _Patch] = {}
    read = [(span, read_meaning(span)) for span in sorted(spans, key=lambda span: span.start_ns)]
    outer = _outer_calls(read)
    for span, meaning in read:
        row, asked, answered = _row(span, meaning, prices)
        row.counted = row.counted and (span.trace_id, span.span_id) not in outer
        batch.media += take_media(row)
        batch.spans.append(row)
        patch = patches.get(span.trace_id) or patches.setdefault(span.trace_id, _Patch(span, process))
        patch.add(span, meaning, row, asked, answered)
    batch.traces = [patch.row for patch in patches.values()]
    return batch


def _outer_calls(read: list[tuple[ReceivedSpan, Meaning]]) -> set[tuple[str, str]]:
    """Return the spans below which there is a model call that reports tokens."""
    parents = {(span.trace_id, span.span_id): span.parent_id for span, _ in read}
    outer: set[tuple[str, str]] = set()
    for span, meaning in read:
        if meaning.span_type not in MODEL_CALL_TYPES or meaning.usage is None:
            continue
        above = span.parent_id
        while above is not None and (span.trace_id, above) not in outer:
            outer.add((span.trace_id, above))
            above = parents.get((span.trace_id, above))
    return outer


class _Patch:
    """What a request says of one trace. Its spans are added in the order in which they began.

    A root without texts of its own takes what the first model call was asked, and what the last one answered.
    """

    def __init__(self, first: ReceivedSpan, process: ProcessRow) -> None:
        self.row = TracePatch(
            trace_id=first.trace_id,
            process_id=process.process_id,
            start_time_ns=first.start_ns,
            experiment=_experiment(first),
        )
        self._answers_itself = False

    def add(self, span: ReceivedSpan, meaning: Meaning, row: SpanRow, asked: str | None, answered: str | None) -> None:
        patch = self.row
        patch.session_id = patch.session_id or meaning.session_id
        patch.user_id = patch.user_id or meaning.user_id
        patch.metadata.update(meaning.metadata)
        if span.begins_here and patch.root_span_id is None:
            patch.root_span_id, patch.true_root = span.span_id, span.parent_id is None
            patch.name = meaning.name
            patch.state = TraceState.ERROR if row.status_code is SpanStatusCode.ERROR else TraceState.OK
            patch.end_time_ns = span.end_ns
            patch.request_preview, self._answers_itself = asked or patch.request_preview, answered is not None
        elif meaning.span_type not in MODEL_CALL_TYPES:
            return
        patch.request_preview = patch.request_preview or asked
        if answered is not None and (span.span_id == patch.root_span_id or not self._answers_itself):
            patch.response_preview = answered


def _request(meaning: Meaning, privacy: Privacy) -> RequestView | None:
    if meaning.inputs is None:
        return None
    if meaning.operation is None:
        return view_inputs(privacy.clean(meaning.inputs), privacy)
    return read_request(meaning.operation, _payload(meaning.inputs), privacy)


def _answer(meaning: Meaning, privacy: Privacy) -> ResponseView | None:
    if meaning.outputs is None:
        return None
    if meaning.operation is None:
        return view_outputs(privacy.clean(meaning.outputs), privacy)
    return read_response(meaning.operation, _payload(meaning.outputs), privacy)


def _payload(value: Any) -> Payload:
    return Payload(Codec.WIRE, encode_value(value))


def _row(span: ReceivedSpan, meaning: Meaning, prices: Prices | None) -> tuple[SpanRow, str | None, str | None]:
    """Return the row, and the previews of what went in and out."""
    privacy = Privacy()
    request, answer = _request(meaning, privacy), _answer(meaning, privacy)
    views = [view for view in (request, answer) if view is not None]
    has_ended = span.end_ns is not None
    status = SpanStatusCode(span.status) if span.status != "UNSET" or not has_ended else SpanStatusCode.OK
    finish = "completed" if answer is None or answer.finish != "incomplete" else "incomplete"
    finish = "failed" if status is SpanStatusCode.ERROR else finish
    if span.attributes.get(sc.FINISH) in _FINISHES:  # tracer's own
        finish = span.attributes[sc.FINISH]
    attributes: dict[str, Any] = {}
    for view in views:
        attributes.update(view.attributes)
    attributes |= span.attributes
    if has_ended:
        attributes[sc.FINISH] = finish
    if meaning.operation is not None:
        attributes[sc.OPERATION] = meaning.operation
    if meaning.first_token_ns is not None:
        attributes |= seconds_after(span.start_ns, [(sc.TIME_TO_FIRST_TOKEN, meaning.first_token_ns)])
    if span.scope:
        attributes["otel.scope.name"] = span.scope
    row = SpanRow(
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_id=span.parent_id,
        name=meaning.name,
        span_type=meaning.span_type,
        operation=meaning.operation,
        start_time_ns=span.start_ns,
        end_time_ns=span.end_ns,
        status_code=status,
        status_description=span.message or (_exception(span) if status is SpanStatusCode.ERROR else ""),
        finish=finish if has_ended else None,
        model=meaning.model or next((view.model for view in reversed(views) if view.model), None),
        inputs=None if request is None else request.inputs,
        outputs=None if answer is None else answer.outputs,
        events=encode_value(span.events) if span.events else None,
        usage=meaning.usage or (None if answer is None else answer.usage),
        text="\n".join(view.text for view in views if view.text) or None,
        links=link_ids(meaning.operation, attributes),
    )
    row.cost = _cost(meaning, row, attributes, prices)
    row.counted = (
        has_ended and meaning.span_type in MODEL_CALL_TYPES and (row.usage is not None or row.cost is not None)
    )
    row.attributes = encode_value(attributes)
    if meaning.span_type == "EMBEDDING":
        return row, None, None  # a vector is no answer
    return row, None if request is None else request.preview, None if answer is None else answer.preview


def _exception(span: ReceivedSpan) -> str:
    """Return what the last exception event says, for a failed span without a message of its own."""
    exceptions = [attributes for name, _, attributes in span.events if name == sc.EVENT_EXCEPTION]
    told: dict[str, Any] = exceptions[-1] if exceptions else {}
    return ": ".join(str(told[key]) for key in ("exception.type", "exception.message") if told.get(key))


def _cost(meaning: Meaning, row: SpanRow, attributes: dict[str, Any], prices: Prices | None) -> float | None:
    if meaning.cost is not None:
        return meaning.cost
    if meaning.span_type not in MODEL_CALL_TYPES or row.usage is None:
        return None
    cost = cost_of(row.usage, attributes, row.start_time_ns, prices)
    return None if cost is None else cost.total


def _experiment(span: ReceivedSpan) -> str | None:
    """Return Phoenix' project, or the name of the service; None for a service without a name."""
    for key in ("tracer.experiment", "openinference.project.name", "service.name"):
        value = span.resource.get(key)
        if isinstance(value, str) and value and not value.startswith("unknown_service"):
            return value
    return None
