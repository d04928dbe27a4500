"""Where spans are sent, as ``otlp_endpoint`` or a tracking URI says it."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urlsplit

from tracer._exceptions import ConfigurationError
from tracer.otlp.installed import check_grpc_installed, check_installed

__all__ = ["Endpoint", "read_endpoint"]

_FORM = "use http://host:4318, https://host, grpc://host:4317 or grpcs://host"
_PATH = "/v1/traces"
_GRPC_PORT = 4317


class Endpoint(NamedTuple):
    """A receiver of OTLP.

    Attributes:
        is_grpc: gRPC, else HTTP with protobuf.
        is_secure: Over TLS.
        target: What is posted to, ``http://host:4318/v1/traces``; over gRPC ``host:4317``.
    """

    is_grpc: bool
    is_secure: bool
    target: str


def read_endpoint(text: object, name: str = "otlp_endpoint") -> Endpoint:
    """Read an endpoint: ``http(s)://host[:port][/path]`` or ``grpc(s)://host[:port]``.

    As with ``OTEL_EXPORTER_OTLP_ENDPOINT``, ``/v1/traces`` is added to an address over HTTP, unless it ends so.

    Raises:
        ConfigurationError: It is malformed. The message does not show what stands before an ``@``.
        MissingDependencyError: A package is missing that it needs.
    """
    if not isinstance(text, str):
        raise ConfigurationError(f"{name} must be a string, got {text!r}; {_FORM}")
    shown = re.sub(r"//.*@", "//***@", text.strip())
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigurationError(f"{name} can't be read ({error}), got {shown!r}; {_FORM}") from None
    if (
        parts.scheme not in ("http", "https", "grpc", "grpcs")
        or not host
        or re.search(r"[\s\x00-\x1f\\]", text.strip())
    ):
        raise ConfigurationError(f"{name} must be an address, got {shown!r}; {_FORM}")
    if "@" in parts.netloc:
        raise ConfigurationError(f"{name} must have no user or token, got {shown!r}; put it into otlp_headers")
    if parts.query or parts.fragment:
        raise ConfigurationError(f"{name} must have no options, got {shown!r}; {_FORM}")
    if parts.scheme.startswith("grpc"):
        if parts.path.strip("/"):
            raise ConfigurationError(f"{name} must have no path over gRPC, got {shown!r}; {_FORM}")
        check_grpc_installed()
        host = f"[{host}]" if ":" in host else host
        return Endpoint(True, parts.scheme == "grpcs", f"{host}:{port or _GRPC_PORT}")
    check_installed()
    path = parts.path.rstrip("/")
    return Endpoint(
        False,
        parts.scheme == "https",
        f"{parts.scheme}://{parts.netloc}{path if path.endswith(_PATH) else path + _PATH}",
    )
