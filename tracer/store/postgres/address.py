"""What a tracking URI says about a PostgreSQL server: ``postgresql://user:password@host:port/database?options``."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

__all__ = ["Address", "place_name", "read_address"]

_FOR_CLIENT = "statement_cache_size"


class Address(NamedTuple):
    """Where to connect, as asyncpg takes it."""

    dsn: str
    statement_cache_size: int

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of ``asyncpg.connect``."""
        return {
            "dsn": self.dsn,
            "statement_cache_size": self.statement_cache_size,
            "server_settings": {"application_name": "tracer"},
        }

    def __repr__(self) -> str:
        return "Address(…)"  # the password is no one's business


def read_address(uri: str) -> Address:
    """Take a URI apart that `tracer.store.uri.parse_uri` has accepted."""
    parts = urlsplit(uri)
    options = dict(parse_qsl(parts.query))
    cached = int(options.pop(_FOR_CLIENT, 100))
    return Address(urlunsplit(parts._replace(query=urlencode(options))), cached)


def place_name(uri: str) -> str:
    """Return the URI without user, password and what only concerns the connection: the same for all who write there."""
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]
    options = {key: value for key, value in parse_qsl(parts.query) if key in ("host", "port", "search_path")}
    return urlunsplit(parts._replace(netloc=host, query=urlencode(options)))
