"""Traces in one SQLite file, or in memory."""
