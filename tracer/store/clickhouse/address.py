"""What a tracking URI says about ClickHouse: ``clickhouse://user:password@host:port/database`` or ``chdb:///dir``."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

__all__ = ["Address", "place_name", "read_address"]

_DATABASE = "tracer"
_TRUE = ("1", "true", "yes", "on")


class Address(NamedTuple):
    """Where to connect, as clickhouse-connect takes it.

    Attributes:
        arguments: Of ``clickhouse_connect.get_client``, without the database.
        database: Its name.
        host: For messages; None for a directory.
    """

    arguments: dict[str, Any]
    database: str
    host: str | None

    def __repr__(self) -> str:
        return "Address(…)"  # the password is no one's business


def read_address(uri: str) -> Address:
    """Take a URI apart that `tracer.store.uri.parse_uri` has accepted."""
    parts = urlsplit(uri)
    options = dict(parse_qsl(parts.query))
    if parts.scheme == "chdb":
        return Address({"dsn": f"chdb://{parts.path}"}, options.get("database", _DATABASE), None)
    is_secure = parts.scheme == "clickhouses" or options.pop("secure", "").lower() in _TRUE
    port = parts.port or (8443 if is_secure else 8123)
    host = parts.hostname or ""
    login = {"username": unquote(parts.username)} if parts.username else {}
    if parts.password is not None:
        login["password"] = unquote(parts.password)
    arguments = {"host": host, "port": port, "secure": is_secure, **login, **_options(options)}
    return Address(arguments, unquote(parts.path.strip("/")), f"{host}:{port}")


def _options(options: dict[str, str]) -> dict[str, Any]:
    known: dict[str, Any] = {name: options[name] for name in ("ca_cert", "server_host_name") if name in options}
    if "verify" in options:
        known["verify"] = options["verify"].lower() in _TRUE
    return known


def place_name(uri: str) -> str:
    """Return the URI without user, password and what only concerns the connection: the same for all who write there."""
    address = read_address(uri)
    where = address.host or address.arguments["dsn"].removeprefix("chdb://")
    return f"clickhouse://{where}/{address.database}"
