"""Tools that act on a computer: shells, patches, mouse and screen, custom tools. Most run on the caller's side."""

from __future__ import annotations

from tracer.testing._answer import NEW_CALL, Answer, Json, Prompt

__all__ = ["apply_patch", "computer", "custom", "local_shell", "shell"]

_COMMAND = "ls"
_LISTING = "notes.md\n"
_CALL: Json = {"status": "completed", "call_id": NEW_CALL}


def shell(tool: Json, prompt: Prompt) -> Answer:
    """List a directory: in the server's own container, or else by asking the caller."""
    environment = tool.get("environment") or {"type": "local"}
    action = {"commands": [_COMMAND], "max_output_length": None, "timeout_ms": None}
    call = {"type": "shell_call", **_CALL, "action": action, "environment": {"type": "local"}}
    if environment["type"] == "local":
        return Answer(items=(call,))
    container = environment.get("container_id", "cntr_000001")
    printed = {"stdout": _LISTING, "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}
    result = {"type": "shell_call_output", **_CALL, "output": [printed], "max_output_length": None}
    call["environment"] = {"type": "container_reference", "container_id": container}
    return Answer(text=f"The shell printed {_LISTING.strip()}.", items=(call, result))


def local_shell(tool: Json, prompt: Prompt) -> Answer:
    """Ask the caller to list a directory."""
    action = {"type": "exec", "command": [_COMMAND], "env": {}}
    return Answer(items=({"type": "local_shell_call", **_CALL, "action": action},))


def apply_patch(tool: Json, prompt: Prompt) -> Answer:
    """Ask the caller to write its own words into a file."""
    operation = {"type": "create_file", "path": "notes.md", "diff": f"+{prompt.text}\n"}
    return Answer(items=({"type": "apply_patch_call", **_CALL, "operation": operation},))


def computer(tool: Json, prompt: Prompt) -> Answer:
    """Ask the caller to click. The first computer tool had one action per call, its successor has several."""
    click = {"type": "click", "button": "left", "x": 1, "y": 2}
    action = {"actions": [click]} if tool["type"] == "computer" else {"action": click}
    return Answer(items=({"type": "computer_call", **_CALL, "pending_safety_checks": [], **action},))


def custom(tool: Json, prompt: Prompt) -> Answer:
    """Pass the question to a custom tool unchanged."""
    return Answer(
        items=({"type": "custom_tool_call", "call_id": NEW_CALL, "name": tool["name"], "input": prompt.text},)
    )
