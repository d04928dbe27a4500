"""OpenTelemetry's protocol (OTLP): from the bytes of a request to what its spans mean.

Pure functions. `tracer.assembly.foreign_spans` makes rows of it. Needs the extra `otlp`.
"""
