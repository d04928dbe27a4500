"""The overview: totals of the traces that a query selects, over time, by model and by name.

Every number is a link to the list of the traces behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tracer._exceptions import ConfigurationError, ReadTimeoutError
from tracer._format import did_you_mean, format_cost
from tracer.server import _charts
from tracer.server._errors import status_of
from tracer.server._format import brief, count, duration, moment, share, stretch
from tracer.server._listing import View, is_narrowed
from tracer.server._params import read_query
from tracer.server._source import store_of
from tracer.server._templates import render
from tracer.store.summaries import Histogram, ModelSummary, NameSummary, Overview, OverviewPoint

__all__ = ["ROUTES"]

BUCKETS = 60
ROWS = 20  # of the tables by model and by name
TOP = 10  # rows of the slowest and the costliest traces
_COLOURS = 6
_MEASURES: dict[str, Callable[[OverviewPoint], float]] = {
    "calls": lambda point: point.calls,
    "errors": lambda point: point.errors,
    "tokens": lambda point: point.total_tokens,
    "cost": lambda point: point.cost or 0,
}
_FORMATS: dict[str, Callable[[float], str]] = {"cost": format_cost}


class Figure(NamedTuple):
    """A number at the top, and the link to the traces behind it; None if there are none."""

    title: str
    value: str
    note: str = ""
    url: str | None = None
    kind: str = ""


class Chart(NamedTuple):
    """One drawing over time.

    Attributes:
        note: The meaning of its height.
        fills: (class, path) of areas; `lines` are (class, points).
        legend: (class, words).
        hits: (x, words) of the stretches of time that contain traces.
    """

    title: str
    note: str
    legend: list[tuple[str, str]]
    hits: list[tuple[float, str]]
    fills: Sequence[tuple[str, str]] = ()
    lines: Sequence[tuple[str, str]] = ()


class Cell(NamedTuple):
    """A number of a table, with the link to the traces behind it."""

    text: str
    url: str | None = None


class Row(NamedTuple):
    """A model, or a name: its numbers, and one of them over time."""

    name: str
    url: str
    cells: list[Cell]
    spark: str
    spark_words: str


async def overview(request: Request) -> Response:
    """Show what the traces add up to."""
    view = View(request.query_params, "/overview")
    store = await store_of(request)
    page: dict[str, Any] | None
    try:
        measure = _measure(view.get("spark") or "calls")
        found = await store.overview(read_query(request.query_params), buckets=BUCKETS, limit=ROWS)
        page, problem, status = _page(view, found, measure), None, 200
    except (ConfigurationError, ReadTimeoutError) as error:
        page, problem, status = None, str(error), status_of(error)[0]
    return render(
        request,
        "overview.html",
        status=status,
        view=view,
        problem=problem,
        page=page,
        narrowed=is_narrowed(request.query_params),
        uri=request.app.state.source.name,
    )


def _measure(name: str) -> str:
    if name not in _MEASURES:
        raise ConfigurationError(
            f"spark must be one of {', '.join(_MEASURES)}, got {name[:40]!r}{did_you_mean(name, _MEASURES)}"
        )
    return name


def _page(view: View, found: Overview, measure: str) -> dict[str, Any]:
    about = "" if found.scope.exact else "≈"
    starts = [bucket.start_ns for bucket in found.histogram.buckets]
    rows: dict[str, Sequence[NameSummary]] = {"model": found.models, "name": found.names}
    return {
        "scope": found.scope,
        "ranked_exactly": found.ranked_exactly,
        "figures": _figures(view, found, about),
        "charts": _charts_of(found) if starts else [],
        "from_ns": starts[0] if starts else 0,
        "to_ns": starts[-1] + found.histogram.width_ns if starts else 0,
        "steps": len(starts),
        "tables": {field: [_row(view, field, each, about, measure, starts) for each in rows[field]] for field in rows},
        "cut": {field: len(rows[field]) == ROWS for field in rows},
        "measure": measure,
        "measures": [(name, view.link(spark=None if name == "calls" else name)) for name in _MEASURES],
        "top": {"Slowest": found.slowest[:TOP], "Costliest": found.costliest[:TOP]},
    }


# --- numbers ----------------------------------------------------------------------------------------------------------


def _figures(view: View, found: Overview, about: str) -> list[Figure]:
    traces, tokens = found.scope.traces, found.total_tokens
    figures = [
        Figure("Traces", about + brief(traces), url=view.elsewhere("/")),
        Figure(
            "Errors",
            (about if found.errors else "") + brief(found.errors),
            f"{share(found.errors, traces)} of traces",
            view.elsewhere("/", status="ERROR") if found.errors else None,
            "bad" if found.errors else "",
        ),
    ]
    if found.running:
        figures.append(Figure("Running", about + brief(found.running), url=view.elsewhere("/", status="IN_PROGRESS")))
    for title, words, value in (
        ("Median", "half take longer", found.p50_ns),
        ("p95", "5% take longer", found.p95_ns),
        ("p99", "1% take longer", found.p99_ns),
    ):
        figures.append(Figure(title, duration(value) or "–", words, _longer(view, value)))
    split = f"{brief(found.input_tokens)} in, {brief(found.output_tokens)} out"
    dear = view.elsewhere("/", order_by="cost desc") if found.cost else None
    return [
        *figures,
        Figure(
            "Tokens",
            (about if tokens else "") + brief(tokens),
            split,
            view.elsewhere("/", order_by="total_tokens desc") if tokens else None,
        ),
        Figure("Cost", "–" if found.cost is None else about + format_cost(found.cost), _each(found), dear),
    ]


def _each(found: Overview) -> str:
    if found.cost is None:
        return "no price known"
    return f"{format_cost(found.cost / found.scope.traces)} a trace" if found.scope.traces else ""


def _longer(view: View, nanoseconds: int | None, **parameters: str) -> str | None:
    """Return the link to the traces that took at least this long, the longest first."""
    if nanoseconds is None:
        return None
    return view.elsewhere("/", min_duration=_exact_seconds(nanoseconds), order_by="duration desc", **parameters)


def _exact_seconds(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e9:.9f}".rstrip("0").rstrip(".")


# --- by model and by name ---------------------------------------------------------------------------------------------


def _row(view: View, field: str, summary: NameSummary, about: str, measure: str, starts: Sequence[int]) -> Row:
    known = summary.name or field == "model"
    narrow = {field: summary.name} if known else {"filter": "name IS NULL"}

    def sorted_by(order: str) -> str:
        return view.elsewhere("/", **narrow, order_by=f"{order} desc")

    def longer(value: int | None) -> Cell:
        return Cell(duration(value), _longer_than(view, summary, value, narrow))

    cells = [
        Cell(about + brief(summary.calls), view.elsewhere("/", **narrow)),
        Cell(about + brief(summary.errors), _failed(view, summary, narrow)) if summary.errors else Cell("0"),
        longer(summary.p50_ns),
        longer(summary.p95_ns),
        Cell(brief(summary.input_tokens), sorted_by("input_tokens") if summary.input_tokens else None),
        Cell(brief(summary.output_tokens), sorted_by("output_tokens") if summary.output_tokens else None),
        Cell(format_cost(summary.cost), sorted_by("cost") if summary.cost is not None else None),
    ]
    values = _over_time(summary, measure)
    words = f"{measure} over time, at most {_told(measure, max(values.values(), default=0))}"
    return Row(summary.name or "(no name)", view.elsewhere("/", **narrow), cells, _charts.spark(values, starts), words)


def _failed(view: View, summary: NameSummary, narrow: dict[str, str]) -> str:
    """Return the link to the traces that failed; for a model, those in which a call failed, even if it was handled."""
    if isinstance(summary, ModelSummary):
        return view.elsewhere("/", **narrow, filter="span.status = 'ERROR'")
    return view.elsewhere("/", **narrow, status="ERROR")


def _longer_than(view: View, summary: NameSummary, value: int | None, narrow: dict[str, str]) -> str | None:
    """Return the link to the traces that took at least this long; for a model, those in which a span did."""
    if value is None or not isinstance(summary, ModelSummary):
        return _longer(view, value, **narrow)
    return view.elsewhere("/", **narrow, filter=f"span.duration >= {_exact_seconds(value)}", order_by="duration desc")


def _over_time(summary: NameSummary, measure: str) -> dict[int, float]:
    read = _MEASURES[measure]
    return {point.start_ns: value for point in summary.points if (value := read(point))}


def _told(measure: str, value: float) -> str:
    return _FORMATS.get(measure, brief)(value)


# --- over time --------------------------------------------------------------------------------------------------------


def _charts_of(found: Overview) -> list[Chart]:
    charts = [_calls(found.histogram), _latency(found.histogram)]
    return [*charts, *(chart for measure in ("tokens", "cost") if (chart := _by_model(found, measure)))]


def _calls(histogram: Histogram) -> Chart:
    laid_out = _charts.bars(histogram.buckets, histogram.width_ns)
    most = max(bucket.calls for bucket in histogram.buckets)
    step = stretch(histogram.width_ns)
    heights = {
        "chart-calls": [(bar, bar.calls_height) for bar in laid_out],
        "chart-errors": [(bar, bar.errors_height) for bar in laid_out],
    }
    fills = [
        (
            kind,
            "".join(f"M{bar.x} {_charts.HEIGHT}v-{high}h{bar.width * 0.88:.1f}v{high}z" for bar, high in bars if high),
        )
        for kind, bars in heights.items()
    ]
    words = (
        (bucket.calls, f"{count(bucket.calls)} traces, {count(bucket.errors)} errors") for bucket in histogram.buckets
    )
    legend = [("chart-calls", "traces"), ("chart-errors", "of them errors")]
    return Chart("Traces", f"up to {count(most)} in {step}", legend, _hits(histogram, words), fills=fills)


def _latency(histogram: Histogram) -> Chart:
    buckets = histogram.buckets
    most = max((bucket.p95_ns or 0 for bucket in buckets), default=0)
    series = {
        "chart-latency": [bucket.p95_ns for bucket in buckets],
        "chart-median": [bucket.p50_ns for bucket in buckets],
    }
    lines = [(kind, points) for kind, values in series.items() for points in _charts.polyline(values, most)]
    words = (
        (bucket.p50_ns is not None, f"median {duration(bucket.p50_ns)}, p95 {duration(bucket.p95_ns)}")
        for bucket in buckets
    )
    legend = [("chart-median", "median"), ("chart-latency", "p95")]
    return Chart("Latency", f"up to {duration(most)}", legend, _hits(histogram, words), lines=lines)


def _by_model(found: Overview, measure: str) -> Chart | None:
    """Draw tokens or cost of the models as stacked bars; rarer models are combined into one. None if there are none."""
    series = _series(found.models, measure)
    starts = [bucket.start_ns for bucket in found.histogram.buckets]
    drawn = _charts.stack(list(series.values()), starts)
    if not drawn.most:
        return None
    words = []
    for start in starts:
        told = [f"{name}: {_told(measure, values[start])}" for name, values in series.items() if start in values]
        words.append((bool(told), "\n".join(told)))
    step = stretch(found.histogram.width_ns)
    colours = [f"c{index}" for index in range(len(series))]
    return Chart(
        f"{measure.capitalize()} by model",
        f"up to {_told(measure, drawn.most)} in {step}",
        [
            (colour, f"{name} {_told(measure, sum(values.values()))}")
            for colour, (name, values) in zip(colours, series.items(), strict=True)
            if values
        ],
        _hits(found.histogram, words),
        fills=[(colour, path) for colour, path in zip(colours, drawn.paths, strict=True) if path],
    )


def _series(models: Sequence[ModelSummary], measure: str) -> dict[str, Mapping[int, float]]:
    """Return each model's values by start, in the order of the table, so that the colours mean the same models."""
    whole = models if len(models) <= _COLOURS else models[: _COLOURS - 1]
    series: dict[str, Mapping[int, float]] = {model.name: _over_time(model, measure) for model in whole}
    rest: dict[int, float] = {}
    for model in models[len(whole) :]:
        for start, value in _over_time(model, measure).items():
            rest[start] = rest.get(start, 0) + value
    return {**series, "others": rest} if rest else series


def _hits(histogram: Histogram, words: Iterable[tuple[Any, str]]) -> list[tuple[float, str]]:
    step = _charts.WIDTH / len(histogram.buckets)
    return [
        (round(index * step, 2), f"{moment(bucket.start_ns)} UTC\n{told}")
        for index, (bucket, (there, told)) in enumerate(zip(histogram.buckets, words, strict=True))
        if there
    ]


ROUTES = (Route("/overview", overview),)
