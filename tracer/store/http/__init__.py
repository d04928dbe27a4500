"""Traces on a tracking server."""
