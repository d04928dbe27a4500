"""Write down what MLflow's tracing API consists of: ``python tests/mlflow/list_names.py > tests/mlflow/names.json``.

For an environment with MLflow (``pip install mlflow-skinny openai``), where nothing of tracer is needed.
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
import tempfile
from types import ModuleType
from typing import Any

MODULES = (
    "mlflow",
    "mlflow.config",
    "mlflow.entities",
    "mlflow.exceptions",
    "mlflow.openai",
    "mlflow.tracing",
    "mlflow.tracing.constant",
)
ENTITIES = (
    "Assessment",
    "AssessmentError",
    "AssessmentSource",
    "AssessmentSourceType",
    "Document",
    "Expectation",
    "Feedback",
    "LiveSpan",
    "Span",
    "SpanEvent",
    "SpanLogLevel",
    "SpanStatus",
    "SpanStatusCode",
    "SpanType",
    "Trace",
    "TraceData",
    "TraceInfo",
    "TraceState",
)


def public(module: ModuleType) -> list[str]:
    """The names that a module offers, its submodules, and its constants; not what it has imported for itself."""
    offered = set(getattr(module, "__all__", ()))
    for name, value in vars(module).items():
        is_own = getattr(value, "__module__", "").startswith(module.__name__)
        if isinstance(value, ModuleType):  # `LazyLoader` is one, too
            is_own = value.__name__.startswith("mlflow.")
        if is_own or (name.isupper() and module.__name__ == "mlflow.tracing.constant"):
            offered.add(name)
    return sorted(name for name in offered if not name.startswith("_"))


def parameters(function: Any) -> list[str] | None:
    """The names of a function's parameters; None for what has no signature."""
    try:
        return [name for name in inspect.signature(function).parameters if name != "self"]
    except (TypeError, ValueError):
        return None


def members(cls: type, example: object) -> list[str]:
    return sorted(name for name in {*dir(cls), *dir(example)} if not name.startswith("_"))


def main() -> None:
    mlflow: Any = importlib.import_module("mlflow")
    entities: Any = importlib.import_module("mlflow.entities")
    modules = {name: importlib.import_module(name) for name in MODULES}
    functions = {
        f"{module.__name__}.{name}": parameters(value)
        for module in modules.values()
        if module.__name__ in ("mlflow", "mlflow.openai", "mlflow.tracing", "mlflow.config")
        for name in public(module)
        if inspect.isfunction(value := getattr(module, name))
    }
    directory = tempfile.mkdtemp()
    mlflow.set_tracking_uri(f"sqlite:///{directory}/names.db")
    with mlflow.start_span("example") as live:
        live.set_inputs(1)
    mlflow.flush_trace_async_logging()
    trace = mlflow.get_trace(live.trace_id)
    source = entities.AssessmentSource("HUMAN")
    examples = {
        "Feedback": entities.Feedback(),
        "Expectation": entities.Expectation("x", 1),
        "Assessment": entities.Feedback(),
        "AssessmentSource": source,
        "Document": entities.Document("x"),
        "LiveSpan": live,
        "Span": trace.data.spans[0],
        "SpanEvent": entities.SpanEvent("x"),
        "SpanStatus": trace.data.spans[0].status,
        "Trace": trace,
        "TraceData": trace.data,
        "TraceInfo": trace.info,
        "AssessmentError": entities.AssessmentError("x"),
    }
    enums = {name for name in ENTITIES if name not in examples}
    listed = {
        "version": mlflow.__version__,
        "names": {name: public(module) for name, module in modules.items()},
        "parameters": functions,
        "members": {
            name: members(getattr(entities, name), examples.get(name))
            if name not in enums
            else sorted(key for key in vars(getattr(entities, name)) if not key.startswith("_"))
            for name in ENTITIES
        },
        "exception": sorted(set(members(mlflow.MlflowException, mlflow.MlflowException("x"))) - set(dir(Exception))),
        "constructors": {name: parameters(getattr(entities, name)) for name in examples},
    }
    sys.stdout.write(json.dumps(listed).replace("], ", "],\n") + "\n")


if __name__ == "__main__":
    main()
