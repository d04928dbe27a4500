"""Tracking URIs: which ones are valid."""

from __future__ import annotations

import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from tracer._exceptions import ConfigurationError, MissingDependencyError
from tracer.otlp.endpoint import read_endpoint

__all__ = [
    "MEMORY_URI",
    "ServerAddress",
    "has_file",
    "is_clickhouse",
    "is_otlp",
    "is_postgres",
    "is_server",
    "otlp_endpoint",
    "parse_uri",
    "redact_uri",
    "server_address",
    "spool_directory",
    "sqlite_path",
]

MEMORY_URI = "memory://"
_REMEDY = (
    "use sqlite:///tracer.db, memory://, http://host:port, postgresql://user:password@host/db, "
    "clickhouse://user:password@host/db or otlp+http://host:port"
)
_SERVER_FORM = "use http://host:port or https://token@host:port"
_POSTGRES_FORM = "use postgresql://user:password@host:port/database"
_SECRETS = r"(?i)\b((?:ssl)?password)=[^&]*"
_CLICKHOUSE_FORM = "use clickhouse://user:password@host:port/database"
_CHDB_FORM = "use chdb:///absolute/directory"
_CLICKHOUSE_OPTIONS = frozenset({"secure", "verify", "ca_cert", "server_host_name"})


class ServerAddress(NamedTuple):
    """What the URI of a tracking server says. `url` has neither a token nor a slash at its end."""

    url: str
    host: str
    token: str | None


def parse_uri(uri: str) -> str:
    """Return the tracking URI in normal form without a look at what it names. Raises ConfigurationError."""
    if not isinstance(uri, str):
        raise ConfigurationError(f"tracking_uri must be a string, got {uri!r}; {_REMEDY}")
    scheme, separator, rest = uri.strip().partition("://")
    normal = f"{scheme.lower()}://{rest}"
    if not separator or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        raise _wrong(uri, "must be a URI", _path_remedy(uri))
    if normal == MEMORY_URI:
        return normal
    if is_postgres(normal):
        _check_postgres(normal)
        return normal
    if is_otlp(normal):
        read_endpoint(otlp_endpoint(normal), "tracking_uri")
        return normal.rstrip("/")
    if is_clickhouse(normal):
        _check_clickhouse(normal)
        return normal
    if is_server(normal):
        server_address(normal)
        return normal.rstrip("/")
    if scheme.lower() != "sqlite":
        raise _wrong(
            uri, "must begin with sqlite:///, http://, postgresql:// or clickhouse:// or be memory://", _REMEDY
        )
    _path_of(normal)
    return normal


def is_otlp(uri: str) -> bool:
    """Tell whether a URI in normal form names a receiver of OpenTelemetry's protocol, which keeps nothing for us."""
    return uri.startswith("otlp+")


def otlp_endpoint(uri: str) -> str:
    """Return the endpoint of a URI that `is_otlp`."""
    return uri.removeprefix("otlp+")


def is_postgres(uri: str) -> bool:
    """Tell whether a URI in normal form names a PostgreSQL database."""
    return uri.startswith("postgresql://")


def _check_postgres(uri: str) -> None:
    if "asyncpg" not in sys.modules and find_spec("asyncpg") is None:
        raise MissingDependencyError("tracking_uri postgresql://", package="asyncpg", extra="postgres")
    try:
        parts = urlsplit(uri)
        options = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query), keep_blank_values=True))
        _ = parts.port
        cached = int(options.get("statement_cache_size", 0))
    except ValueError as error:
        raise _wrong(uri, f"can't be read ({error})", _POSTGRES_FORM) from None
    if not parts.path.strip("/") or "/" in parts.path.strip("/"):
        raise _wrong(uri, "must name a database", _POSTGRES_FORM)
    if not parts.hostname and "host" not in options:
        raise _wrong(uri, "must name a host", _POSTGRES_FORM)
    if parts.fragment or cached < 0 or re.search(_SECRETS, parts.query):
        raise _wrong(uri, "must have its password before the @ (written as %23 what is a # in it)", _POSTGRES_FORM)


def is_clickhouse(uri: str) -> bool:
    """Tell whether a URI in normal form names a ClickHouse database, on a server or in a directory (chdb)."""
    return uri.startswith(("clickhouse://", "clickhouses://", "chdb://"))


def _check_clickhouse(uri: str) -> None:
    if find_spec("clickhouse_connect") is None:
        raise MissingDependencyError("tracking_uri clickhouse://", package="clickhouse-connect", extra="clickhouse")
    is_directory = uri.startswith("chdb:")
    form = _CHDB_FORM if is_directory else _CLICKHOUSE_FORM
    try:
        parts = urlsplit(uri)
        options = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query), keep_blank_values=True))
        _ = parts.port
    except ValueError as error:
        raise _wrong(uri, f"can't be read ({error})", form) from None
    if unknown := options.keys() - ({"database"} if is_directory else _CLICKHOUSE_OPTIONS):
        known = "database" if is_directory else ", ".join(sorted(_CLICKHOUSE_OPTIONS))
        raise _wrong(uri, f"must have none but these options: {known}; it has {min(unknown)}", form)
    if parts.fragment or re.search(r"[\s\x00-\x1f\\]", uri):
        raise _wrong(uri, "must have no # and no blanks (written as %23 and %20)", form)
    if is_directory:
        if parts.netloc or parts.path in ("", "/"):
            raise _wrong(uri, "must have three slashes and a directory", form)
        if find_spec("chdb") is None:
            raise MissingDependencyError("tracking_uri chdb://", package="chdb", extra="chdb")
        return
    if not parts.hostname:
        raise _wrong(uri, "must name a host", form)
    if not parts.path.strip("/") or "/" in parts.path.strip("/"):
        raise _wrong(uri, "must name a database", form)


def has_file(uri: str) -> bool:
    """Tell whether a URI in normal form names a file of this machine."""
    return uri.startswith("sqlite:")


def is_server(uri: str) -> bool:
    """Tell whether a URI in normal form names a tracking server."""
    return uri.startswith(("http://", "https://"))


def server_address(uri: str) -> ServerAddress:
    """Take the URI of a tracking server apart: ``http(s)://[token@]host[:port][/prefix]``."""
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise _wrong(uri, f"can't be read ({error})", _SERVER_FORM) from None
    if not host or re.search(r"[\s\x00-\x1f\\]", uri):
        raise _wrong(uri, "must name a host", _SERVER_FORM)
    if parts.query or parts.fragment or "?" in uri or "#" in uri:
        raise _wrong(uri, "must have no options", _SERVER_FORM)
    shown = f"[{host}]" if ":" in host else host
    url = f"{parts.scheme}://{shown}{'' if port is None else f':{port}'}{parts.path.rstrip('/')}"
    token = unquote(parts.netloc.rpartition("@")[0])
    if not token.isascii() or not token.isprintable():
        raise _wrong(uri, "must have a token of printable ASCII characters", _SERVER_FORM)
    return ServerAddress(url, host, token or None)


def sqlite_path(uri: str) -> Path:
    """Return the absolute path of ``sqlite:///relative.db``, ``sqlite:////absolute.db`` or ``sqlite:///C:/file.db``."""
    return Path(os.path.abspath(os.path.expanduser(_path_of(uri))))


def _path_of(uri: str) -> str:
    path = uri.removeprefix("sqlite://")
    if not path.startswith("/") or path in ("/", "//"):
        raise _wrong(uri, "must have three slashes and a file name", "use sqlite:///tracer.db")
    if path == "/:memory:":
        raise _wrong(uri, "must name a file", f"use {MEMORY_URI}")
    if set(path) & set("?#\0"):
        raise _wrong(uri, "must have no options and none of ? # in its file name", "use sqlite:///tracer.db")
    return path[1:]


def spool_directory(database: Path) -> Path:
    """Return where what belongs into a database, and can't be written to it yet, waits beside it."""
    return Path(f"{database}-spool")


def redact_uri(uri: str) -> str:
    """Return the URI for messages and logs, without what stands before an ``@`` and passwords behind it."""
    return re.sub(_SECRETS, r"\1=***", re.sub(r"//.*@", "//***@", uri, flags=re.DOTALL))


def _wrong(uri: str, must: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(f"tracking_uri {must}, got {redact_uri(uri)!r}; {remedy}")


def _path_remedy(uri: str) -> str:
    if re.search(r"\.(db|sqlite3?)$", uri.strip()):
        return f"use sqlite:///{uri.strip()}"
    return _REMEDY
