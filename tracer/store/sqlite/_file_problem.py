"""Finds out why a file can't be our database. Only looks: changes nothing, takes no locks, waits for nobody."""

from __future__ import annotations

import contextlib
import enum
import os
import sqlite3
import stat
from pathlib import Path
from typing import NamedTuple

from tracer.store.sqlite._gate import Gate
from tracer.store.sqlite._schema import APPLICATION_ID, SCHEMA_VERSION, newer_schema_message

__all__ = ["BESIDE", "REACHABLE", "Kind", "Problem", "find_problem", "identity", "is_damage", "owner_of_damage"]

LOOKS = 3
REACHABLE = "name one that can be reached, by its whole path, as in sqlite:////var/tmp/tracer.db"
_ANOTHER = "name another file"
BESIDE = ("-wal", "-shm", "-journal", "-lock", "-spool")
"""What may lie beside a database, with its name and these endings; the last one is a directory."""
_MAGIC = b"SQLite format 3\0"


class Kind(enum.Enum):
    """What is wrong with a file. Only a damaged one may be moved aside; the others are left as they are."""

    UNREACHABLE = "unreachable"  # a directory, a link, without permission, of another user, below no directory
    FOREIGN = "foreign"  # another program's database, sound or not
    NEWER = "newer"  # of a later version of tracer
    DAMAGED = "damaged"  # no database at all, or one of ours with damaged pages


class Problem(NamedTuple):
    """What is wrong with a file, in words; `str` gives the remedy too.

    `why_kept` says why a damaged file can't be moved aside; None if it can.
    """

    kind: Kind
    text: str
    remedy: str
    why_kept: str | None = None

    def __str__(self) -> str:
        return f"{self.text}; {self.remedy}"

    @property
    def can_be_moved_aside(self) -> bool:
        """Tell whether the file may be moved aside, so that a new one can take its place."""
        return self.kind is Kind.DAMAGED and self.why_kept is None


def find_problem(path: Path) -> Problem | None:
    """Return why the path can't be our database; None if it can, or if only opening it can tell."""
    try:
        return _problem_with_path(path) or _problem_with_owner(path) or _problem_with_content(path)
    except FileNotFoundError:
        return None  # deleted or moved during the look: opening will find out what is there then
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        return Problem(Kind.UNREACHABLE, f"its file can't be looked at ({reason})", REACHABLE)


def identity(path: Path | str) -> tuple[int, int] | None:
    """Return which file a path leads to, as device and inode; None if there is none, or if it can't be looked at."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def is_damage(error: BaseException | None) -> bool:
    """Tell whether SQLite says that a file is damaged or no database. Locked, busy, full and I/O errors don't count."""
    if not isinstance(error, sqlite3.DatabaseError) or isinstance(error, sqlite3.OperationalError):
        return False
    # Judged by the message, since Python 3.10 has no `sqlite_errorcode` (SQLITE_CORRUPT, SQLITE_NOTADB).
    return any(words in str(error) for words in ("malformed", "not a database", "unsupported file format"))


def _problem_with_path(path: Path) -> Problem | None:
    if path.is_symlink():
        return _unreachable(f"{path} is a symbolic link, which is not followed", "name the file itself")
    if path.is_dir():
        return _unreachable(f"{path} is a directory", f"name a file in it, as in {path.name}/tracer.db")
    if not path.exists():
        return _problem_with_parent(path.parent)
    if not path.is_file():
        return _unreachable(f"{path} is not a regular file", "name another")
    if not os.access(path, os.R_OK | os.W_OK):
        return _unreachable(f"{path} can't be read and written by this user", "change its mode or name another file")
    return _problem_with_parent(path.parent)  # SQLite makes its log beside the file


def _problem_with_parent(parent: Path) -> Problem | None:
    """Look at the nearest directory that exists: the missing ones are made when the store opens."""
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    if not parent.is_dir():
        return _unreachable(f"{parent} is not a directory", "name a file in a directory")
    if not os.access(parent, os.W_OK | os.X_OK):
        return _unreachable(f"no file can be made in {parent}", "change its mode or name another directory")
    return None


def _problem_with_owner(path: Path) -> Problem | None:
    """Refuse what another user may have put there: that user could read all that is written to it.

    The owner of a directory can read its new files anyway, by replacing them. So a file may belong to the owner of its
    directory, if nobody else has rights to it or if we are root and can take them away.
    """
    if not hasattr(os, "geteuid"):  # Windows
        return None
    user, owners = os.geteuid(), {os.geteuid()}
    if path.exists():
        found = path.stat()
        is_at_home = found.st_uid == path.parent.stat().st_uid and (user == 0 or not found.st_mode & stat.S_IRWXO)
        if found.st_uid != user and not is_at_home:
            return _of_another_user(path, found.st_uid, "name another file or run as that user")
        owners.add(found.st_uid)
    for suffix in BESIDE:
        beside = Path(f"{path}{suffix}")
        with contextlib.suppress(FileNotFoundError):
            found = beside.lstat()
            if stat.S_ISLNK(found.st_mode):
                return _unreachable(f"{beside} is a symbolic link, which is not followed", "delete it")
            if found.st_uid not in owners and suffix != "-lock":  # nothing is written to a lock
                return _of_another_user(beside, found.st_uid, "move it away or name another file")
    return None


def _of_another_user(path: Path, owner: int, remedy: str) -> Problem:
    return _unreachable(f"{path} belongs to another user (uid {owner}), who could read what is written to it", remedy)


def _unreachable(text: str, remedy: str) -> Problem:
    return Problem(Kind.UNREACHABLE, text, remedy)


def _problem_with_content(path: Path) -> Problem | None:
    """Look into a file that exists. A problem counts only if each of several looks finds one.

    An "immutable" connection can see the file in the middle of another process's checkpoint, which is over a moment
    later.
    """
    problem = None
    for _ in range(LOOKS):
        if not path.exists() or (problem := _problem_with_database(path)) is None:
            return None
    if problem is not None and problem.kind is Kind.DAMAGED:
        return owner_of_damage(path, problem.text)
    return problem


def _problem_with_database(path: Path) -> Problem | None:
    """Judge by the main file's header, which SQLite reads. `migrate` judges again, under its lock.

    The file is not read directly: closing it would drop the locks that SQLite holds on it for this process, and with
    them the protection from other processes (https://sqlite.org/howtocorrupt.html section 2.2). An ordinary connection
    is not used either: it would recover a log that a killed process left, in this thread, and delete it on closing. An
    "immutable" connection ignores locks and logs (https://sqlite.org/uri.html).
    """
    if path.stat().st_size == 0:
        return None
    try:
        with (
            Gate(closes=False).turn(0),  # a fork waits: its child could find one of SQLite's own locks taken for ever
            contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as connection,
        ):
            version, application = (
                connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("user_version", "application_id")
            )
            # If a process died while it made the file, there is no table: `migrate` makes sure under its lock.
            is_in_use = connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone() is not None
    except sqlite3.OperationalError:
        return None  # opening it will tell
    except sqlite3.DatabaseError as error:
        if _has_log(path):
            return None
        words = "is not a SQLite database" if "not a database" in str(error) else f"is damaged ({error})"
        return Problem(Kind.DAMAGED, f"{path} {words}", _ANOTHER)
    if application != APPLICATION_ID and (application or version or is_in_use):
        return Problem(Kind.FOREIGN, f"{path} is another program's SQLite database", _ANOTHER)
    if version > SCHEMA_VERSION:
        return _newer(path, version)
    return None


def _newer(path: Path, version: int) -> Problem:
    text, _, remedy = newer_schema_message(version).partition("; ")
    return Problem(Kind.NEWER, f"{path} {text}", remedy)


def _has_log(path: Path) -> bool:
    """Tell whether a log beside the file may complete it: during a checkpoint its header is newer than its pages."""
    logs = (Path(f"{path}{suffix}") for suffix in ("-wal", "-journal"))
    return any(log.exists() and log.stat().st_size for log in logs)


def owner_of_damage(path: Path, text: str) -> Problem:
    """Say by its first bytes whose a damaged file is: only our own, or no program's, may be moved aside.

    Now that SQLite has called the file damaged, reading it is harmless: the locks that closing it may drop protect
    nothing any more. `_problem_with_database` explains why it must not be read before.
    """
    with path.open("rb", buffering=0) as file:
        header = file.read(100)
        found = os.fstat(file.fileno())
    if hasattr(os, "geteuid") and found.st_uid != os.geteuid():
        return Problem(Kind.DAMAGED, text, _ANOTHER, "it belongs to another user")
    if not header.startswith(_MAGIC) or len(header) < 100:
        return Problem(Kind.DAMAGED, text, _ANOTHER)
    page_size, version, application = (int.from_bytes(header[at : at + size], "big") for at, size in _HEADER_FIELDS)
    if application == APPLICATION_ID:
        return Problem(Kind.NEWER if version > SCHEMA_VERSION else Kind.DAMAGED, text, _ANOTHER)
    # Our own file is only an empty first page until its log, with the application id in it, is moved into it.
    if application or version or found.st_size > (page_size if page_size > 1 else 65_536):
        return Problem(Kind.FOREIGN, text, _ANOTHER)
    return Problem(Kind.DAMAGED, text, _ANOTHER)


_HEADER_FIELDS = ((16, 2), (60, 4), (68, 4))  # https://sqlite.org/fileformat.html section 1.3
