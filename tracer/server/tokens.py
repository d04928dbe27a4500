"""Tokens of a tracking server: what they allow, and the file that keeps them, as hashes only.

A token is kept as the SHA-256 of its digest. The digest is what a browser gets as its cookie, so whoever reads the file
can neither send a token nor forge a cookie.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from tracer._exceptions import ConfigurationError, StoreError
from tracer.store.uri import parse_uri, sqlite_path

try:
    import fcntl
except ImportError:  # Windows: two commands at the same moment may overwrite one another's change
    fcntl = None  # type: ignore[assignment]

__all__ = ["SCOPES", "Access", "Grant", "TokenFile", "default_token_file", "digest"]

SCOPES = ("read", "write", "admin")
_LOOK_EVERY = 1.0  # seconds between two looks at the file


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What a token allows.

    Attributes:
        id: Names the token in lists and logs.
        kept: SHA-256 of the token's digest, in hex.
        scopes: Some of `SCOPES`. None implies another.
        experiments: What may be read and written; None for all.
        rate: Spans a second that may be written; None sets no limit.
        created_ns: Nanoseconds since the epoch.
    """

    id: str
    kept: str
    name: str = ""
    scopes: tuple[str, ...] = SCOPES
    experiments: tuple[str, ...] | None = None
    rate: float | None = None
    created_ns: int = 0


class _Content(msgspec.Struct):
    version: int = 1
    tokens: list[Grant] = msgspec.field(default_factory=list)


def digest(token: str) -> str:
    """Return what is compared, and sent as the cookie, in place of the token."""
    return hashlib.sha256(f"tracer page {token}".encode(errors="replace")).hexdigest()


def _kept(digested: str) -> str:
    return hashlib.sha256(digested.encode(errors="replace")).hexdigest()


def default_token_file(uri: str) -> Path:
    """Return where the tokens of a store lie: beside its SQLite file, else in the user's configuration."""
    normal = parse_uri(uri)
    if normal.startswith("sqlite:"):
        return Path(f"{sqlite_path(normal)}-tokens.json")
    config = os.environ.get("XDG_CONFIG_HOME", "")
    home = Path(config) if os.path.isabs(config) else Path(os.path.expanduser("~")) / ".config"
    return home / "tracer" / "tokens.json"


class TokenFile:
    """The file. A running server sees changes within a second."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._grants: list[Grant] = []
        self._seen: tuple[int, int, int] | None = None
        self._next_look = 0.0

    def grants(self) -> list[Grant]:
        """Return all tokens. If the file has become unreadable, those that it had before.

        Raises:
            ConfigurationError: The file was never readable.
        """
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + _LOOK_EVERY
            try:
                found = os.stat(self.path)
                seen = (found.st_ino, found.st_mtime_ns, found.st_size)
            except FileNotFoundError:
                self._seen, self._grants = None, []
                return []
            if seen != self._seen:
                try:
                    self._grants = self._read()
                except ConfigurationError:
                    if self._seen is None:
                        raise
                self._seen = seen
        return self._grants

    def create(
        self,
        *,
        name: str = "",
        scopes: tuple[str, ...] = SCOPES,
        experiments: tuple[str, ...] | None = None,
        rate: float | None = None,
    ) -> tuple[str, Grant]:
        """Add a new token, and return it. It can't be read again.

        Raises:
            ConfigurationError: A scope is not known, or the file can't be read.
            StoreError: The file can't be written.
        """
        if unknown := [scope for scope in scopes if scope not in SCOPES]:
            raise ConfigurationError(f"scope must be one of {', '.join(SCOPES)}, got {unknown[0]!r}")
        token = secrets.token_urlsafe(24)
        grant = Grant(
            id=secrets.token_hex(4),
            kept=_kept(digest(token)),
            name=name,
            scopes=scopes,
            experiments=experiments,
            rate=rate,
            created_ns=time.time_ns(),
        )
        with self._changing() as grants:
            grants.append(grant)
        return token, grant

    def revoke(self, wanted: str) -> Grant:
        """Delete the token with this id or name. Raises ConfigurationError if there is none, or more than one."""
        with self._changing() as grants:
            found = [grant for grant in grants if wanted in (grant.id, grant.name)]
            if len(found) != 1:
                number = "no token has" if not found else f"{len(found)} tokens have"
                raise ConfigurationError(f"{number} the id or name {wanted!r}; `tracer serve token list` shows the ids")
            grants.remove(found[0])
        return found[0]

    def _read(self) -> list[Grant]:
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=_Content).tokens
        except FileNotFoundError:
            return []
        except (OSError, msgspec.MsgspecError, UnicodeError) as error:
            raise ConfigurationError(f"the tokens in {self.path} can't be read: {error}") from error

    @contextlib.contextmanager
    def _changing(self) -> Iterator[list[Grant]]:
        """Hand the tokens out to be changed, then replace the file."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._locked():
                grants = self._read()
                yield grants
                new = self.path.with_name(f"{self.path.name}.{secrets.token_hex(4)}.new")
                descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(msgspec.json.format(msgspec.json.encode(_Content(tokens=grants)), indent=2) + b"\n")
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(new, self.path)
        except OSError as error:
            raise StoreError(f"the tokens in {self.path} can't be changed: {error}") from error
        self._next_look = 0.0

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Have two commands change the file one after the other. What is locked is the folder: the file is replaced."""
        if fcntl is None:
            yield
            return
        descriptor = os.open(self.path.parent, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


class Access:
    """Who may do what: one shared token, and those of a file.

    Args:
        shared: A token that allows everything; None for none.
        file: More tokens; None for none.

    Raises:
        ConfigurationError: The file can't be read.
    """

    def __init__(self, shared: str | None = None, file: TokenFile | None = None) -> None:
        self._shared = None if not shared else Grant(id="shared", kept=_kept(digest(shared)))
        self._file = file
        self._is_required = False
        _ = self.is_required

    @property
    def is_required(self) -> bool:
        """There is a token, or there was one: a server does not become open when its last token is revoked."""
        if not self._is_required:
            self._is_required = self._shared is not None or (self._file is not None and bool(self._file.grants()))
        return self._is_required

    def find(self, digested: str | None) -> Grant | None:
        """Return what the token with this digest allows; None if there is no such token. Takes as long in any case."""
        if not digested:
            return None
        kept, found = _kept(digested), None
        for grant in ([] if self._shared is None else [self._shared]) + (
            [] if self._file is None else self._file.grants()
        ):
            if hmac.compare_digest(grant.kept.encode(), kept.encode()):
                found = grant
        return found
