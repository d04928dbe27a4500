"""From records to rows: spans put together, read by `tracer.interpret`, without what privacy withholds."""
