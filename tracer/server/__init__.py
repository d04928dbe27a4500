"""The web page over a store of traces: `create_app` for your own server, `tracer.server.run.serve_ui` for ours.

Needs the extra `ui`: ``pip install 'openai-tracer[ui]'``.
"""

from tracer._exceptions import MissingDependencyError

try:
    from tracer.server.app import create_app
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] == "tracer":
        raise
    raise MissingDependencyError("the web page", package=error.name or "starlette", extra="ui") from error

__all__ = ["create_app"]
