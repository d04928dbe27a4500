"""``tracer doctor``: what may keep tracing from working here."""

from __future__ import annotations

import asyncio
import os
import platform
import re
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from tracer._config import Settings, from_environment
from tracer._exceptions import TracerError
from tracer._format import did_you_mean
from tracer.cli._options import json_option, uri_option
from tracer.cli._output import Head, print_json, print_table, size_text
from tracer.process.native_threads import why_there_are_none
from tracer.store.sqlite._file_problem import Problem
from tracer.store.sqlite.check import find_uri_problem
from tracer.store.uri import MEMORY_URI, is_clickhouse, is_otlp, is_postgres, parse_uri, redact_uri, spool_directory

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["Finding", "doctor", "masked"]

_DISTRIBUTION = "openai-tracer"
_LITTLE_SPACE = 500 * 1024 * 1024
_PATIENCE = 5.0  # seconds that a server has to answer
_OWN_VARIABLES = ("TRACER_TRACKING_URI", "TRACER_EXPERIMENT", "TRACER_TOKEN")
_SHOWN_VARIABLES = re.compile(r"(TRACER|OPENAI|AZURE_OPENAI)_\w+")
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL|HEADERS", re.IGNORECASE)
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)([^;]*)(?:;(.*))?")
_EXTRA = re.compile(r"""extra\s*==\s*["']([\w-]+)["']""")
_STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}


class Finding(msgspec.Struct, kw_only=True):
    """One thing that was checked.

    Attributes:
        state: ``ok``, ``warning`` or ``problem``; a problem makes the command fail.
        remedy: What to do about it; empty if nothing.
    """

    topic: str
    name: str
    value: str
    state: str = "ok"
    remedy: str = ""


@click.command()
@json_option
@uri_option
def doctor(as_json: bool, uri: str) -> int:
    """Check versions, what can be patched, the database and the environment. Exits with 1 if there is a problem."""
    findings = [*_versions(), *_patching(), *_threads(), *_database(uri), *_environment(os.environ), *_extras()]
    failed = any(finding.state == "problem" for finding in findings)
    if as_json:
        print_json({"ok": not failed, "findings": findings})
    else:
        heads = [Head("state"), Head("topic"), Head("what"), Head("found", shrinks=True)]
        print_table(heads, [_row(finding) for finding in findings])
        for finding in findings:
            if finding.remedy:
                click.echo(f"{finding.state}: {finding.name}: {finding.remedy}")
    return 1 if failed else 0


def _row(finding: Finding) -> tuple[Text, str, str, str]:
    from rich.text import Text

    return Text(finding.state, style=_STYLES[finding.state]), finding.topic, finding.name, finding.value


# --- versions and extras ----------------------------------------------------------------------------------------------


def _versions() -> Iterator[Finding]:
    python = f"{platform.python_implementation()} {platform.python_version()} ({sys.executable})"
    yield Finding(topic="versions", name="python", value=python)
    yield Finding(topic="versions", name="system", value=platform.platform())
    yield Finding(topic="versions", name="sqlite", value=sqlite3.sqlite_version)
    yield Finding(
        topic="versions", name=_DISTRIBUTION, value=_version(_DISTRIBUTION) or "not installed, run from source"
    )
    for package, wanted, extra in _requirements():
        if extra is None:
            yield _required(package, wanted)


def _required(package: str, wanted: str) -> Finding:
    version = _version(package)
    if version is not None:
        return Finding(topic="versions", name=package, value=version)
    remedy = f"pip install '{package}{wanted}'"
    return Finding(topic="versions", name=package, value="missing", state="problem", remedy=remedy)


def _extras() -> Iterator[Finding]:
    """Tell which extras are installed. A missing extra is not a problem: the user may not want it."""
    packages: dict[str, list[str]] = {}
    for package, _, extra in _requirements():
        if extra not in (None, "dev", "all", "servers") and package != _DISTRIBUTION:
            packages.setdefault(str(extra), []).append(package)
    for extra, names in packages.items():
        missing = [name for name in names if _version(name) is None]
        there = ", ".join(f"{name} {version}" for name in names if (version := _version(name)))
        value = f"lacks {', '.join(missing)}: pip install '{_DISTRIBUTION}[{extra}]'" if missing else there
        yield Finding(topic="extras", name=extra, value=value)


def _requirements() -> Iterator[tuple[str, str, str | None]]:
    """Yield package, version wanted and extra (None: always needed) of each requirement of this distribution."""
    try:
        requirements = metadata.requires(_DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return
    for requirement in requirements:
        if match := _REQUIREMENT.match(requirement):
            extra = _EXTRA.search(match[3] or "")
            yield match[1].lower(), match[2].strip(), extra[1] if extra else None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


# --- what autolog() patches -------------------------------------------------------------------------------------------


def _patching() -> Iterator[Finding]:
    """Switch tracing on and off again, in this process, and tell which methods that patched."""
    import tracer

    try:
        tracer.autolog()
    except (TracerError, ImportError) as error:
        yield Finding(topic="patching", name="openai", value="failed", state="problem", remedy=str(error))
        return
    from tracer.openai import _patch
    from tracer.openai._bypasses import BYPASS, find_bypasses

    bypasses = find_bypasses()
    touched = [f"{owner.__name__}.{name}" for owner, name in _patch._patched]
    yield _judged(
        "patching", "openai", ", ".join(sorted(touched)), bool(touched), "tracer can't patch this openai package"
    )
    remedy = "; ".join(BYPASS % found for found in bypasses.items())
    yield _judged("patching", "by-passed by", ", ".join(bypasses) or "no client", not bypasses, remedy)
    tracer.autolog(disable=True)
    left = [f"{owner.__name__}.{name}" for owner, name in _patch._patched]
    remedy = "another library patched the same methods meanwhile; look for one that a .pth file imports"
    yield _judged("patching", "undone", ", ".join(left) or "completely", not left, remedy)


# --- threads ----------------------------------------------------------------------------------------------------------


def _threads() -> Iterator[Finding]:
    """Tell whether tracing works with the installed libraries that replace threads with greenlets."""
    if version := _version("gevent"):
        yield Finding(topic="threads", name="gevent", value=f"{version}: what it patches is traced")
    if version := _version("eventlet"):
        value = f"{version}: a process whose threads it replaces is not traced"
        yield _judged("threads", "eventlet", value, (reason := why_there_are_none()) is None, reason or "")


# --- the database -----------------------------------------------------------------------------------------------------


def _database(uri: str) -> Iterator[Finding]:
    """Look at what the tracking URI names, without creating or changing anything."""
    from tracer.store.sqlite import _upkeep
    from tracer.store.sqlite._schema import SCHEMA_VERSION

    yield Finding(topic="database", name="uri", value=redact_uri(uri))
    if uri.strip().lower() == MEMORY_URI:
        return
    if uri.strip().lower().startswith(("http:", "https:")):
        yield from _server(uri)
        return
    try:
        if is_otlp(checked := parse_uri(uri)):
            yield Finding(topic="database", name="kind", value="none: spans are sent to this address, and not kept")
            return
        if is_postgres(checked):
            from tracer.store.postgres.check import describe_server

            yield Finding(topic="database", name="server", value=asyncio.run(describe_server(checked)))
            return
        if is_clickhouse(checked):
            from tracer.store.clickhouse.check import describe_server as describe_clickhouse

            yield Finding(topic="database", name="server", value=describe_clickhouse(checked))
            return
        if (problem := find_uri_problem(checked)) is not None:
            yield Finding(topic="database", name="usable", value=_fate(problem), state="problem", remedy=f"{problem}")
            return
        path = _upkeep.file_of(uri)
        yield _space(uri)
        if not path.exists():
            yield Finding(topic="database", name="file", value=f"{path}: not there yet; the first trace makes it")
            return
        yield Finding(topic="database", name="file", value=f"{path}: {size_text(path.stat().st_size)}")
        version = _upkeep.schema_version(uri)
        remedy = f"run `tracer db upgrade --uri {redact_uri(uri)}`"
        yield _judged("database", "schema version", str(version), version == SCHEMA_VERSION, remedy, "warning")
        yield _ring(path)
        free = _upkeep.can_write(uri)
        yield _judged("database", "writable", "yes" if free else "locked", free, "another process keeps it locked")
    except (TracerError, OSError) as error:
        yield Finding(topic="database", name="usable", value="no", state="problem", remedy=str(error))


def _server(uri: str) -> Iterator[Finding]:
    """Ask a tracking server something that costs it nothing, and tell where what it can't take would wait."""
    from tracer.cli._reading import run
    from tracer.store import open_store

    try:
        store = open_store(uri)
    except TracerError as error:
        yield Finding(topic="database", name="usable", value="no", state="problem", remedy=str(error))
        return
    store.options.time_limit = _PATIENCE

    async def ask() -> None:
        try:
            await store.taken_over("doctor")
        finally:
            await store.aclose()

    try:
        run(ask)
        yield Finding(topic="database", name="answers", value="yes, and it takes the token")
    except TracerError as error:
        yield Finding(topic="database", name="answers", value="no", state="problem", remedy=str(error))
    if store.beside is None:
        remedy = "neither the home nor /tmp can be written to: what waits is lost if the process ends"
        yield Finding(topic="database", name="spool", value="none", state="warning", remedy=remedy)
    else:
        yield Finding(topic="database", name="spool", value=str(spool_directory(store.beside)))
        yield _ring(store.beside)


def _ring(path: Path) -> Finding:
    from tracer.pipeline._ring_file import describe_place
    from tracer.pipeline.crash_ring import keeps_texts

    settings = from_environment()
    if not settings.crash_ring_bytes:
        value = "switched off; a killed process loses what waits"
        return Finding(topic="database", name="crash ring", value=value)
    try:
        value = describe_place(path, settings.crash_ring_bytes)
        if not keeps_texts(settings):
            value += ", without texts"
        return Finding(topic="database", name="crash ring", value=value)
    except OSError as error:
        remedy = f"{error}; a killed process loses what waits"
        return Finding(topic="database", name="crash ring", value="none", state="warning", remedy=remedy)


def _fate(problem: Problem) -> str:
    """Say what a service does if it has this problem."""
    if problem.can_be_moved_aside:
        return "no: a service moves it aside, to a name ending in .damaged-<time>, and begins a new one"
    return "no: a service runs but traces nothing until this is repaired"


def _space(uri: str) -> Finding:
    from tracer.store.sqlite import _upkeep

    place = _upkeep.file_of(uri).parent
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    return _judged("database", "free disk", size_text(free), free >= _LITTLE_SPACE, f"make room in {place}", "warning")


# --- the environment --------------------------------------------------------------------------------------------------


def _environment(environ: Any) -> Iterator[Finding]:
    """Show the variables that concern tracer and openai, secrets masked; an unknown TRACER_… counts as a typo."""
    known = {*_OWN_VARIABLES, *(f"TRACER_{field.upper()}" for field in Settings.__struct_fields__)}
    for name in sorted(filter(_SHOWN_VARIABLES.fullmatch, environ)):
        strange = name.startswith("TRACER_") and name not in known
        remedy = f"tracer knows no such setting{did_you_mean(name, known)}" if strange else ""
        yield _judged("environment", name, masked(name, environ[name]), not strange, remedy, "warning")
    try:
        from_environment(environ)
    except TracerError as error:
        yield Finding(topic="environment", name="settings", value="unusable", state="problem", remedy=str(error))


def masked(name: str, value: str) -> str:
    """Return a variable's value in a form that is safe for a bug report: of a secret, only its length."""
    if _SECRET.search(name) and value:
        return f"set, {len(value)} characters"
    return re.sub(r"(://[^?]*)\?.*", r"\1?***", redact_uri(value))


def _judged(topic: str, name: str, value: str, fine: bool, remedy: str, otherwise: str = "problem") -> Finding:
    return Finding(
        topic=topic, name=name, value=value, state="ok" if fine else otherwise, remedy="" if fine else remedy
    )
