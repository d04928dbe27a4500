"""Tracking URIs: what they may be, and whether the file that one names can be used."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from pathlib import Path

from tracer._exceptions import ConfigurationError
from tracer.store._schema import APPLICATION_ID, SCHEMA_VERSION, newer_schema_message

__all__ = ["MEMORY_URI", "check_uri", "redact_uri", "sqlite_path"]

MEMORY_URI = "memory://"
_REMEDY = "use sqlite:///tracer.db or memory://"
_REACHABLE = "name one that can be reached, by its whole path, as in sqlite:////var/tmp/tracer.db"
LOOKS = 3
_PLANNED = frozenset({"http", "https", "postgresql"})


def check_uri(uri: str) -> str:
    """Return the tracking URI in normal form, having looked at the file it names, which may be missing yet.

    Changes nothing, takes no locks and waits for nobody: what another process is at is judged when it is opened.

    Raises:
        ConfigurationError: The URI is malformed, its scheme is not known here, or its file can't be ours. The
            message names the URI, without user and password, and the remedy.
    """
    if not isinstance(uri, str):
        raise ConfigurationError(f"tracking_uri must be a string, got {uri!r}; {_REMEDY}")
    scheme, separator, rest = uri.strip().partition("://")
    normal = f"{scheme.lower()}://{rest}"
    if not separator or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        raise _wrong(uri, "must be a URI", _path_remedy(uri))
    if normal == MEMORY_URI:
        return normal
    if scheme.lower() in _PLANNED:
        raise _wrong(uri, "must name a store that this version has (sqlite or memory)", _REMEDY)
    if scheme.lower() != "sqlite":
        raise _wrong(uri, "must begin with sqlite:/// or be memory://", _REMEDY)
    try:
        path = sqlite_path(normal)
        problem = _problem_with_path(path) or _problem_with_content(path)
    except (OSError, UnicodeError) as error:  # also from `abspath`: the working directory is gone
        reason = getattr(error, "strerror", None) or error
        problem = f"its file can't be looked at ({reason}); {_REACHABLE}"
    if problem:
        raise ConfigurationError(f"tracking_uri {redact_uri(uri)!r}: {problem}")
    return normal


def sqlite_path(uri: str) -> Path:
    """Return the absolute path of ``sqlite:///relative.db``, ``sqlite:////absolute.db`` or ``sqlite:///C:/file.db``."""
    path = uri.removeprefix("sqlite://")
    if not path.startswith("/") or path in ("/", "//"):
        raise _wrong(uri, "must have three slashes and a file name", "use sqlite:///tracer.db")
    if path == "/:memory:":
        raise _wrong(uri, "must name a file", f"use {MEMORY_URI}")
    if set(path) & set("?#\0"):
        raise _wrong(uri, "must have no options and none of ? # in its file name", "use sqlite:///tracer.db")
    return Path(os.path.abspath(os.path.expanduser(path[1:])))


def redact_uri(uri: str) -> str:
    """Return the URI fit for messages and logs: what stands before an ``@`` may be a password."""
    return re.sub(r"//.*@", "//***@", uri, flags=re.DOTALL)


def _wrong(uri: str, must: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(f"tracking_uri {must}, got {redact_uri(uri)!r}; {remedy}")


def _path_remedy(uri: str) -> str:
    if re.search(r"\.(db|sqlite3?)$", uri.strip()):
        return f"use sqlite:///{uri.strip()}"
    return _REMEDY


def _problem_with_path(path: Path) -> str | None:
    """Say what keeps the path from being our database, and the remedy; None if nothing does."""
    if path.is_symlink():
        return f"{path} is a symbolic link, which is not followed; name the file itself"
    if path.is_dir():
        return f"{path} is a directory; name a file in it, as in {path.name}/tracer.db"
    if not path.exists():
        return _problem_with_parent(path.parent)
    if not path.is_file():
        return f"{path} is not a regular file; name another"
    if not os.access(path, os.R_OK | os.W_OK):
        return f"{path} can't be read and written by this user; change its mode or name another file"
    return None


def _problem_with_content(path: Path) -> str | None:
    """Look into a file that exists; a verdict is given only if it stands.

    "Immutable" sees a file that others write to in the midst of a checkpoint too, which is over a moment later.
    """
    problem = None
    for _ in range(LOOKS):
        if not path.exists() or (problem := _problem_with_database(path)) is None:
            return None
    return problem


def _problem_with_parent(parent: Path) -> str | None:
    """Look at the nearest directory that exists: the missing ones are made when the store opens."""
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    if not parent.is_dir():
        return f"{parent} is not a directory; name a file in a directory"
    if not os.access(parent, os.W_OK | os.X_OK):
        return f"no file can be made in {parent}; change its mode or name another directory"
    return None


def _problem_with_database(path: Path) -> str | None:
    """Judge by the main file's header, as SQLite reads it; `migrate` judges again, under its lock.

    Not by reading the file: closing it would drop the locks that SQLite holds on it for this process, and with them
    the protection from other processes (https://sqlite.org/howtocorrupt.html section 2.2). Not as a user of the
    database either, who would recover a log that a killed process left, in this thread, and delete it on closing:
    "immutable" looks past locks and logs (https://sqlite.org/uri.html).
    """
    if path.stat().st_size == 0:
        return None
    try:
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
            version, application = (
                connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("user_version", "application_id")
            )
            # A file that died while it was made has no table: `migrate` makes sure under its lock.
            is_in_use = connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone() is not None
    except sqlite3.OperationalError:
        return None  # opening it will tell
    except sqlite3.DatabaseError as error:
        if "not a database" in str(error):
            return f"{path} is not a SQLite database; name another file"
        return None if _has_log(path) else f"{path} is damaged ({error}); name another file"
    if application != APPLICATION_ID and (application or version or is_in_use):
        return f"{path} is another program's SQLite database; name another file"
    return f"{path} {newer_schema_message(version)}" if version > SCHEMA_VERSION else None


def _has_log(path: Path) -> bool:
    """Tell whether a log beside the file may complete it: amid a checkpoint its header is ahead of its pages."""
    logs = (Path(f"{path}{suffix}") for suffix in ("-wal", "-journal"))
    return any(log.exists() and log.stat().st_size for log in logs)
