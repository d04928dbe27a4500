"""Traces in a ClickHouse database (extra ``clickhouse``)."""
