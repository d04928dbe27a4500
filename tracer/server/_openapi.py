"""OpenAPI 3.1 of the operations that are declared: https://spec.openapis.org/oas/v3.1.0."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tracer.server._params import LIST_PARAMETERS

__all__ = ["LIST", "Operation", "Parameter", "describe"]

Handler = Callable[[Request], Awaitable[Response]]


class Parameter(NamedTuple):
    """A query parameter. `schema` is a JSON Schema type."""

    name: str
    words: str
    schema: str = "string"


class Operation(NamedTuple):
    """One operation of the API.

    Attributes:
        handler: Its docstring describes it, its name identifies it.
        returns: The type that msgspec encodes; a content type if the answer is not JSON; None for no content.
        body: The type of the request's JSON; None if it has no body.
        slashes: The last parameter of the path may contain slashes.
    """

    method: str
    path: str
    handler: Handler
    returns: Any
    parameters: tuple[Parameter, ...] = ()
    body: Any = None
    status: int = 200
    slashes: bool = False

    @property
    def route(self) -> Route:
        """The route that runs it."""
        path = f"{self.path[:-1]}:path}}" if self.slashes else self.path
        return Route(path, self.handler, methods=[self.method], name=self.handler.__name__)


class ErrorDetail(msgspec.Struct):
    """What went wrong: a code for programs, a message for people.

    For a filter also the position, counted from 1; for a bad row of a batch its index, counted from 0.
    """

    code: str
    message: str
    position: int | None = None
    index: int | None = None


class Error(msgspec.Struct):
    """The body of every error response."""

    error: ErrorDetail


LIST = tuple(
    Parameter(name, words, "number" if name == "min_duration" else "array" if name == "tag" else "string")
    for name, words in LIST_PARAMETERS.items()
)


def describe(operations: Iterable[Operation]) -> dict[str, Any]:
    """Return the description of the operations as one JSON-like value."""
    operations = list(operations)
    told = [kind for operation in operations for kind in (operation.returns, operation.body)]
    types = [Error, *(kind for kind in told if kind is not None and not isinstance(kind, str))]
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    by_type = {id(kind): schema for kind, schema in zip(types, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, by_type)
    return {
        "openapi": "3.1.0",
        "info": {"title": "tracer", "version": "1", "description": "Traces of OpenAI calls, read from the store."},
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{"token": []}],
    }


def _operation(operation: Operation, schemas: dict[int, Any]) -> dict[str, Any]:
    words = inspect.getdoc(operation.handler) or ""
    told: dict[str, Any] = {
        "operationId": operation.handler.__name__,
        "summary": words.partition("\n")[0],
        "parameters": [*map(_in_path, re.findall(r"{(\w+)", operation.path)), *map(_in_query, operation.parameters)],
        "responses": {
            str(operation.status): {"description": "Done", **_content(operation.returns, schemas)},
            "default": {
                "description": "What went wrong",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            },
        },
    }
    if operation.body is not None:
        told["requestBody"] = {"required": True, **_content(operation.body, schemas)}
    return told


def _content(kind: Any, schemas: dict[int, Any]) -> dict[str, Any]:
    if kind is None:
        return {}
    if isinstance(kind, str):
        return {"content": {kind: {"schema": {"type": "string", "format": "binary"}}}}
    return {"content": {"application/json": {"schema": schemas[id(kind)]}}}


def _in_path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _in_query(parameter: Parameter) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": parameter.schema}
    if parameter.schema == "array":
        schema["items"] = {"type": "string"}
    return {"name": parameter.name, "in": "query", "description": parameter.words, "schema": schema}
