"""Whether the file that a tracking URI names can be used."""

from __future__ import annotations

from tracer._exceptions import ConfigurationError
from tracer.store.sqlite._file_problem import REACHABLE, Kind, Problem, find_problem
from tracer.store.uri import parse_uri, redact_uri, sqlite_path

__all__ = ["check_uri", "find_uri_problem", "problem_text"]


def check_uri(uri: str) -> str:
    """Return the tracking URI in normal form, after a look at the file it names, which need not exist yet.

    Changes nothing, takes no locks and waits for nobody. Whether another process is in the way is found out when the
    file is opened.

    Raises:
        ConfigurationError: The URI is malformed, its scheme is not known here, or its file can't be ours. The
            message names the URI, without user and password, and the remedy.
    """
    normal = parse_uri(uri)
    if problem := find_uri_problem(normal):
        raise ConfigurationError(problem_text(normal, problem))
    return normal


def find_uri_problem(uri: str) -> Problem | None:
    """Return what is wrong with the file of a URI in normal form; None if nothing is wrong, or if it has no file."""
    if not uri.startswith("sqlite:"):
        return None
    try:
        return find_problem(sqlite_path(uri))
    except (OSError, UnicodeError) as error:  # from `abspath`: the working directory is gone
        reason = getattr(error, "strerror", None) or error
        return Problem(Kind.UNREACHABLE, f"its file can't be looked at ({reason})", REACHABLE)


def problem_text(uri: str, problem: Problem) -> str:
    """Say which URI names the file that is wrong, and what is wrong with it."""
    return f"tracking_uri {redact_uri(uri)!r}: {problem}"
