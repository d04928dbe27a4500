"""MLflow's exception: what `tracer.mlflow` raises."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from tracer._exceptions import MissingDependencyError, TracerError

__all__ = ["MissingNameError", "MlflowException", "UnsupportedError", "raises_mlflow"]

P = ParamSpec("P")
R = TypeVar("R")


class MlflowException(TracerError):  # noqa: N818  MLflow's name
    """Something is wrong with a call of `tracer.mlflow`; tracer's own error is chained as ``__cause__``."""

    @property
    def message(self) -> str:
        """What went wrong."""
        return str(self)

    @property
    def error_code(self) -> str:
        """MLflow's word for it: what is not stored, what was given wrongly, or a fault of the database."""
        if isinstance(self.__cause__, LookupError):
            return "RESOURCE_DOES_NOT_EXIST"
        wrong = self.__cause__ is None or isinstance(self.__cause__, ValueError)
        return "INVALID_PARAMETER_VALUE" if wrong else "INTERNAL_ERROR"


class UnsupportedError(MlflowException, AttributeError, NotImplementedError):
    """MLflow has this and tracer has not; the message says what to use."""


class MissingNameError(MlflowException, ImportError):
    """MLflow has this, or may have it, and tracer has not: raised by ``from tracer.mlflow import …``.

    It can't be an `UnsupportedError` as well, because Python allows no class that is both an `AttributeError` and an
    `ImportError`.
    """


def raises_mlflow(function: Callable[P, R]) -> Callable[P, R]:
    """Raise tracer's errors as `MlflowException`, which is what code that was written for MLflow catches."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except (MlflowException, MissingDependencyError):
            raise
        except TracerError as error:
            raise MlflowException(str(error)) from error

    return call
