"""Traces for other tools: JSON Lines, CSV, Parquet, pandas.

>>> count = await tracer.export.write_traces(tracer.export.iterate_traces("prod"), "prod.jsonl")
"""

from __future__ import annotations

from tracer.export._frame import to_pandas
from tracer.export._iterate import iterate_query, iterate_traces
from tracer.export._write import FORMATS, encode_traces, write_traces

__all__ = ["FORMATS", "encode_traces", "iterate_query", "iterate_traces", "to_pandas", "write_traces"]
