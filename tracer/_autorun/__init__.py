"""Tracing without a change of the program: what Python runs at its start (`sitecustomize`)."""
