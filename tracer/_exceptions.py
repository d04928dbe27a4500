"""Every error that tracer raises to its users.

::

    TracerError(Exception)
    ├── ConfigurationError, also ValueError       a setting or argument is wrong; raised at that call
    ├── MissingDependencyError, also ImportError  an extra is not installed; the message names it
    ├── ClosedError, also RuntimeError            used after ``shutdown()``
    ├── TraceNotFoundError, also LookupError      no such trace was ever stored
    ├── MediaNotFoundError, also LookupError      no such image, recording or file is stored
    └── StoreError                                the database failed; the driver's error is chained
        ├── ReadTimeoutError                      a read took longer than its time limit
        ├── TransientStoreError                   … but trying again may help (internal)
        └── DamagedStoreError                     … because its file is damaged (internal)

A traced call never raises any of these errors: instrumentation logs to ``logging.getLogger("tracer")`` and counts in
``tracer.stats()`` instead.
"""

from __future__ import annotations

from pathlib import Path

__all__ = [
    "ClosedError",
    "ConfigurationError",
    "MediaNotFoundError",
    "MissingDependencyError",
    "ReadTimeoutError",
    "StoreError",
    "TraceNotFoundError",
    "TracerError",
]


class TracerError(Exception):
    """Base of every error that tracer raises."""


class ConfigurationError(TracerError, ValueError):
    """A setting or an argument is wrong. The message names it, its value and the remedy."""


class MissingDependencyError(TracerError, ImportError):
    """A feature needs a package that is not installed. The message gives the ``pip install`` line."""

    def __init__(self, feature: str, *, package: str, extra: str) -> None:
        super().__init__(f"{feature} needs the package {package!r}: pip install 'openai-tracer[{extra}]'")


class ClosedError(TracerError, RuntimeError):
    """tracer was used after ``shutdown()``; ``set_tracking_uri()`` opens it again."""


class TraceNotFoundError(TracerError, LookupError):
    """No trace with this id was ever stored."""


class MediaNotFoundError(TracerError, LookupError):
    """No image, recording or file with this hash is stored. Media is deleted with the last trace that refers to it."""


class StoreError(TracerError):
    """The trace store could not be read or written; the driver's error is chained as ``__cause__``."""


class ReadTimeoutError(StoreError):
    """A read took longer than its time limit (`tracer.Settings.read_timeout`), and was stopped."""


class TransientStoreError(StoreError):
    """The store is busy, full or out of reach for now. The pipeline keeps the records and tries again.

    Attributes:
        retry_after: Seconds until the next try, if the store knows; None leaves that to the pipeline.
        is_refusal: Trying again will not help before somebody changes something (a token, a version): readers need
            not wait.
    """

    def __init__(self, message: str, *, retry_after: float | None = None, is_refusal: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.is_refusal = is_refusal


class DamagedStoreError(StoreError):
    """SQLite says that the store's file is damaged, or that it is not a database.

    The store is closed, and the pipeline moves the file aside.

    Attributes:
        path: The file.
        identity: Device and inode of that file, because another file may be at `path` by now.
    """

    def __init__(self, message: str, *, path: Path, identity: tuple[int, int] | None) -> None:
        super().__init__(message)
        self.path = path
        self.identity = identity
