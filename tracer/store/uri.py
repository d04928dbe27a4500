"""Tracking URIs: what they may be, and whether the file that one names can be used."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tracer._exceptions import ConfigurationError
from tracer.store._schema import APPLICATION_ID, SCHEMA_VERSION, newer_schema_message

__all__ = ["MEMORY_URI", "check_uri", "redact_uri", "sqlite_path"]

MEMORY_URI = "memory://"
_REMEDY = "use sqlite:///tracer.db or memory://"
_PLANNED = frozenset({"http", "https", "postgresql"})
_MAGIC = b"SQLite format 3\x00"


def check_uri(uri: str) -> str:
    """Return the tracking URI in normal form, having looked at the file it names, which may be missing yet.

    Creates nothing and opens no database: it reads the first 100 bytes at most.

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
    if problem := _problem_with_file(sqlite_path(normal)):
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


def _problem_with_file(path: Path) -> str | None:
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
    return _problem_with_header(path)


def _problem_with_parent(parent: Path) -> str | None:
    """Look at the nearest directory that exists: the missing ones are made when the store opens."""
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    if not parent.is_dir():
        return f"{parent} is not a directory; name a file in a directory"
    if not os.access(parent, os.W_OK | os.X_OK):
        return f"no file can be made in {parent}; change its mode or name another directory"
    return None


def _problem_with_header(path: Path) -> str | None:
    """Judge by the database header, see https://sqlite.org/fileformat.html section 1.3."""
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except OSError as error:
        return f"{path} can't be read ({error.strerror}); name another file"
    if not header:
        return None
    if len(header) < 100 or not header.startswith(_MAGIC):
        return f"{path} is not a SQLite database; name another file"
    version, application, pages = (int.from_bytes(header[at : at + 4], "big") for at in (60, 68, 28))
    # A file that died while it was made has one page and no table: `migrate` makes sure under its lock.
    if application != APPLICATION_ID and (application or version or pages > 1):
        return f"{path} is another program's SQLite database; name another file"
    return f"{path} {newer_schema_message(version)}" if version > SCHEMA_VERSION else None
