"""Printing: a table for people, one JSON object for machines."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from benchmarks._environment import QUIET_CORES, Environment
from benchmarks._results import Estimate, Goal, Result

__all__ = ["format_footer", "format_header", "format_row", "format_titles", "to_json"]

_NOISY = "other processes used {cores:.2f} cores: intervals are wide, compare nothing but ratios of one run"

_WIDTHS = (44, 12, 22, 7, 12, 16, 16, 7)
_TITLES = ("", "value", "95 % interval", "n", "unit", "design", "this stage", "others")


def format_header(environment: Environment) -> str:
    """Return for which machine and versions the figures hold."""
    versions = ", ".join(f"{name} {number or '-'}" for name, number in environment.versions.items())
    lines = [
        f"tracer {environment.commit} · {versions}",
        f"{environment.cpu}, {environment.cores} cores · {environment.system} · {environment.started}",
        f"load average at start: {_load(environment.load_average)}",
    ]
    if environment.load_average is not None and environment.load_average > QUIET_CORES * environment.cores:
        lines.append("WARNING: the machine was busy before the benchmark began; the A/A rows show the noise")
    return "\n".join(lines)


def format_titles() -> str:
    """Return the table's head."""
    return _columns(_TITLES).rstrip()


def format_row(result: Result) -> str:
    """Return one row of the table, its details on a second line."""
    estimate = result.estimate
    columns = (
        result.name,
        _number(estimate.value),
        _interval(estimate),
        f"{estimate.n:,}",
        result.unit,
        _judged(result.goal, result.goal.design, estimate) if result.goal else "",
        _judged(result.goal, result.goal.stage, estimate) if result.goal else "",
        "" if result.others is None else f"{result.others:.2f}",
    )
    details = " · ".join(f"{name} {_number(value)}" for name, value in result.details.items())
    return _columns(columns).rstrip() + (f"\n    {details}" if details else "")


def format_footer(results: Iterable[Result], load: float | None, not_measured: Iterable[str]) -> str:
    """Return what to keep in mind when reading the table."""
    others = [result.others for result in results if result.others is not None]
    lines = [f"load average at end: {_load(load)}"]
    if others and max(others) > QUIET_CORES:
        lines.append(f"WARNING: {_NOISY.format(cores=max(others))}")
    lines.append("design, this stage: the limit and the verdict, with ? where the interval allows for either")
    lines.append("others: cores that other processes used meanwhile")
    lines.append("not measured here:")
    lines.extend(f"  - {item}" for item in not_measured)
    return "\n".join(lines)


def to_json(environment: Environment, results: list[Result], load: float | None, not_measured: Iterable[str]) -> bytes:
    """Return the whole run as JSON."""
    rows = [_plain(result) for result in results]
    run = {"environment": environment, "results": rows, "load_average_at_end": load, "not_measured": [*not_measured]}
    return msgspec.json.format(msgspec.json.encode(run), indent=2)


def _plain(result: Result) -> dict[str, Any]:
    verdicts = {"verdict": result.verdict, "stage_verdict": result.stage_verdict}
    return {**msgspec.structs.asdict(result), **verdicts}


def _judged(goal: Goal, limit: float, estimate: Estimate) -> str:
    return f"{'≤' if goal.at_most else '≥'} {limit:,g} {goal.judge(limit, estimate)}"


def _interval(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    return f"[{_number(estimate.low)}, {_number(estimate.high)}]"


def _number(value: float) -> str:
    """Return a number with three or four digits that mean something."""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _load(load: float | None) -> str:
    return "unknown" if load is None else f"{load:.2f}"


def _columns(texts: Iterable[str]) -> str:
    first, *rest = zip(texts, _WIDTHS, strict=True)
    return first[0].ljust(first[1]) + "".join(text.rjust(width) for text, width in rest)
