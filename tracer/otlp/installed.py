"""Whether the packages are there that OTLP needs."""

from __future__ import annotations

import importlib.util

from tracer._exceptions import MissingDependencyError

__all__ = ["check_grpc_installed", "check_installed"]


def check_installed() -> None:
    """Raise MissingDependencyError if the extra `otlp` is not installed."""
    _check("OTLP", "otlp", ("opentelemetry.proto", "opentelemetry-proto"), ("google.rpc", "googleapis-common-protos"))


def check_grpc_installed() -> None:
    """Raise MissingDependencyError if the extra `otlp-grpc` is not installed."""
    check_installed()
    _check("OTLP over gRPC", "otlp-grpc", ("grpc", "grpcio"))


def _check(feature: str, extra: str, *packages: tuple[str, str]) -> None:
    for name, package in packages:
        try:
            found = importlib.util.find_spec(name)
        except ImportError:  # of what contains it
            found = None
        if found is None:
            raise MissingDependencyError(feature, package=package, extra=extra)
