"""Traces as a pandas DataFrame."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tracer._exceptions import MissingDependencyError
from tracer._models import Trace
from tracer.export._rows import TIME, columns_of, rows_of

if TYPE_CHECKING:
    import pandas

__all__ = ["to_pandas"]


def to_pandas(traces: Iterable[Trace], *, rows: str = "traces") -> pandas.DataFrame:
    """Return traces as a pandas DataFrame. Needs the extra ``pandas``.

    Args:
        traces: A page of `tracer.search_traces`, or any traces.
        rows: ``traces`` for a row for each trace, or ``spans`` for a row for each span.

    Returns:
        The columns of `tracer.export.write_traces`: numbers nullable (``Int64``, ``Float64``), ``start_time`` in UTC;
        inputs, outputs, tags and other nested values stay dicts and lists.

    Raises:
        ConfigurationError: Unknown `rows`.
        MissingDependencyError: pandas is not installed.
    """
    columns = columns_of(rows)
    try:
        import pandas
    except ImportError as error:
        raise MissingDependencyError("to_pandas()", package="pandas", extra="pandas") from error
    types = {int: "Int64", float: "Float64", TIME: "datetime64[us, UTC]", str: "string"}
    table = [row for trace in traces for row in rows_of(trace, rows)]
    return pandas.DataFrame(
        {
            name: pandas.Series([row[name] for row in table], dtype=types.get(kind, "object"))
            for name, kind in columns.items()
        }
    )
