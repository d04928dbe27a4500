"""Experiments, and what the database holds and lost."""

from __future__ import annotations

import shlex
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tracer.server._source import store_of
from tracer.server._templates import render

__all__ = ["ROUTES"]


async def experiments(request: Request) -> Response:
    """Show all experiments, each with a link to its traces."""
    found = await (await store_of(request)).experiments()
    links = [(each, f"/?{urlencode({'experiment': each.name})}") for each in found]
    return render(request, "experiments.html", experiments=links, uri=request.app.state.source.name)


async def storage(request: Request) -> Response:
    """Show what the database holds, how much space it takes, what was lost, and how to make it smaller."""
    found = await (await store_of(request)).storage()
    losses = [(kind, count, f"/?{urlencode({'filter': _lost(kind)})}") for kind, count in found.dropped.items()]
    commands = _commands(found.uri)
    return render(request, "storage.html", found=found, losses=losses, whole_losses=found.losses, commands=commands)


def _lost(kind: str) -> str:
    return f"dropped.{kind} > 0" if kind.isidentifier() and kind.isascii() else f"dropped.`{kind}` > 0"


def _commands(uri: str) -> list[tuple[str, str, str]]:
    """Return the ways to make a database smaller: id, words, and the command for a terminal."""
    if not uri.startswith("sqlite:"):
        return []
    named = f" --uri {shlex.quote(uri)}"
    return [
        ("try", "See how many traces are older than 30 days", f"tracer traces prune --older-than 30d --dry-run{named}"),
        ("prune", "Delete them", f"tracer traces prune --older-than 30d{named}"),
        ("keep", "Or keep the newest 100,000", f"tracer traces prune --keep 100000{named}"),
        ("vacuum", "Give the freed space back to the disk", f"tracer db vacuum{named}"),
        ("check", "Look for damage", f"tracer db check{named}"),
    ]


ROUTES = (Route("/experiments", experiments), Route("/storage", storage))
