"""Traces in a PostgreSQL database, which many processes and machines may share."""
