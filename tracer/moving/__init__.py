"""Moves traces into a store: from another store (`StoreSource`), or out of other tools' databases and exports."""

from __future__ import annotations

from tracer.moving.langfuse import read_langfuse
from tracer.moving.mlflow import open_mlflow
from tracer.moving.mover import Moved, Refusal, Source, move
from tracer.moving.phoenix import open_phoenix
from tracer.moving.stores import StoreSource

__all__ = ["Moved", "Refusal", "Source", "StoreSource", "move", "open_mlflow", "open_phoenix", "read_langfuse"]
