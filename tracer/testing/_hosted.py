"""Built-in tools of the Responses API: which one a question asks for, and which items it adds to the output."""

from __future__ import annotations

import re
from collections.abc import Callable

from tracer.testing import _acting
from tracer.testing._answer import Answer, Json, Prompt, encode

__all__ = ["answer_with", "wanted"]

# A 1 × 1 PNG, base64.
_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII="

_ASKS_FOR = {
    "web_search": r"\b(search|browse|look up)\b.*\b(web|internet|online)\b|\bweb search\b|\bnews\b",
    "file_search": r"\b(search|look|find)\b.*\b(files?|documents?|docs)\b|\bfile search\b",
    "code_interpreter": r"\b(python|run (some )?code|compute|calculate|code interpreter)\b",
    "image_generation": r"\b(draw|paint|sketch)\b|\b(generate|create|make)\b.*\b(image|picture|photo|logo)\b",
    "mcp": r"\bmcp\b",
    "shell": r"\b(shell|terminal|directory)\b",
    "local_shell": r"\b(shell|terminal|directory)\b",
    "apply_patch": r"\bpatch\b|\b(change|create|delete|edit|write)\b.*\bfile\b",
    "computer": r"\b(browser|click|screen|screenshot)\b",
    "custom": r"\bcustom tool\b",
}


def wanted(prompt: Prompt) -> Json | None:
    """The hosted tool that the caller forces or that the question asks for."""
    if prompt.choice == "none":
        return None
    known = [tool for tool in prompt.hosted if _family(tool) in _ANSWERS]
    for tool in known:
        if prompt.choice in {tool["type"], _family(tool), tool.get("name")} or _asked(tool, prompt.text):
            return tool
    return known[0] if known and prompt.choice == "required" and not prompt.functions else None


def answer_with(tool: Json, prompt: Prompt) -> Answer:
    """What the model says after it used the tool, with the items that the tool added."""
    return _ANSWERS[_family(tool)](tool, prompt)


def _family(tool: Json) -> str:
    """`web_search` for `web_search_preview`, `web_search_2025_08_26` and so on."""
    kind = str(tool["type"])
    return next((family for family in ("web_search", "computer") if kind.startswith(family)), kind)


def _asked(tool: Json, text: str) -> bool:
    label = tool.get("server_label") or tool.get("name")
    said = text.lower()
    return bool(re.search(_ASKS_FOR[_family(tool)], said)) or bool(label and str(label).lower() in said)


def _cited(text: str, source: str, annotation: Json) -> Answer:
    """An answer that cites a source: `source` is the part of the text that the citation covers."""
    start = text.index(source)
    spans = annotation["type"] == "url_citation"
    place = {"start_index": start, "end_index": start + len(source)} if spans else {"index": start + len(source)}
    return Answer(text=text, annotations=({**annotation, **place},))


def _web_search(tool: Json, prompt: Prompt) -> Answer:
    url = "https://example.com/"
    answer = _cited(
        f"The web says about “{prompt.text}”: see Example Domain ({url}).",
        f"({url})",
        {"type": "url_citation", "url": url, "title": "Example Domain"},
    )
    action = {
        "type": "search",
        "query": prompt.text,
        "queries": [prompt.text],
        "sources": [{"type": "url", "url": url}],
    }
    return _after(answer, {"type": "web_search_call", "status": "completed", "action": action})


def _file_search(tool: Json, prompt: Prompt) -> Answer:
    file = {"file_id": "file-000001", "filename": "notes.md"}
    answer = _cited("The files say so, see notes.md.", "notes.md", {"type": "file_citation", **file})
    result = {**file, "score": 0.9, "text": prompt.text, "attributes": {}}
    call = {"type": "file_search_call", "status": "completed", "queries": [prompt.text], "results": [result]}
    return _after(answer, call)


def _code_interpreter(tool: Json, prompt: Prompt) -> Answer:
    numbers = [int(number) for number in re.findall(r"\d{1,15}", prompt.text)]
    logs = str(sum(numbers))
    call = {
        "type": "code_interpreter_call",
        "status": "completed",
        "code": f"print(sum({numbers}))",
        "container_id": "cntr_000001",
        "outputs": [{"type": "logs", "logs": f"{logs}\n"}],
    }
    return _after(Answer(text=f"The code printed {logs}."), call)


def _image_generation(tool: Json, prompt: Prompt) -> Answer:
    call = {
        "type": "image_generation_call",
        "status": "completed",
        "result": _PIXEL,
        "revised_prompt": prompt.text,
        "action": "generate",
        "background": "opaque",
        "output_format": tool.get("output_format") or "png",
        "quality": "low",
        "size": "1024x1024",
    }
    return _after(Answer(text="Here is the image."), call)


def _mcp(tool: Json, prompt: Prompt) -> Answer:
    label = tool.get("server_label", "server")
    allowed = tool.get("allowed_tools")
    name = allowed[0] if isinstance(allowed, list) and allowed else "search"
    schema = {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}
    listed = {
        "type": "mcp_list_tools",
        "server_label": label,
        "tools": [{"name": name, "description": "Search.", "input_schema": schema, "annotations": None}],
    }
    call = {"server_label": label, "name": name, "arguments": encode({"query": prompt.text}).decode()}
    # As in the real API, a server's tools run only when the caller has waived or given approval.
    if tool.get("require_approval") != "never" and not prompt.approved:
        return Answer(items=(listed, {"type": "mcp_approval_request", **call}))
    output = f"{name} found “{prompt.text}”."
    done = {"type": "mcp_call", "status": "completed", **call, "output": output, "error": None}
    return _after(Answer(text=f"According to {label}, {output}"), listed, done)


def _after(answer: Answer, *items: Json) -> Answer:
    return Answer(text=answer.text, annotations=answer.annotations, items=items)


_ANSWERS: dict[str, Callable[[Json, Prompt], Answer]] = {
    "web_search": _web_search,
    "file_search": _file_search,
    "code_interpreter": _code_interpreter,
    "image_generation": _image_generation,
    "mcp": _mcp,
    "shell": _acting.shell,
    "local_shell": _acting.local_shell,
    "apply_patch": _acting.apply_patch,
    "computer": _acting.computer,
    "custom": _acting.custom,
}
