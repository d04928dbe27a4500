"""What tracing costs, measured: ``python -m benchmarks.overhead``.

Measuring (`_measure`, `_transport`), statistics (`_statistics`) and printing (`_report`, `_environment`) are separate
modules. A section (`_calls`, `_event_loop`, `_storage`, `_crash_ring`, `_processes`) measures a few rows of the table;
each row is a `_results.Result`.
"""
