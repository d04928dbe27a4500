"""From records to rows: spans are put together and read by `tracer.interpret`, and private content is removed."""
