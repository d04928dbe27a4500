"""What tracing costs, measured: ``python -m benchmarks.overhead``.

Measuring (`_measure`, `_transport`), statistics (`_statistics`) and printing (`_report`, `_environment`) are separate
modules. A section (`_calls`, `_event_loop`, `_storage`, `_crash_ring`, `_processes`) measures a few rows of the table;
each row is a `_results.Result`.

``python -m benchmarks.soak`` measures nothing but levels: it lets a service (`_soak_service`, in a process of its own:
`_soak_process`) run under faults (`_soak_faults`) and judges it (`_soak_verdict`).
"""
