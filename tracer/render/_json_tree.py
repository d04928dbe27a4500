"""JSON values as trees that open and close without scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from tracer.interpret._json import TOO_DEEP
from tracer.render._format import format_bytes
from tracer.render._media import MediaLinks

if TYPE_CHECKING:
    from markupsafe import Markup

__all__ = ["json_text", "json_tree", "one_line", "summarize_numbers"]

MAX_NODES = 3_000
MAX_DEPTH = 40
MAX_TEXT = 20_000
OPEN_DEPTH = 2
OPEN_ITEMS = 30
_NUMBERS = 12  # a longer list of numbers is a vector: its first values say enough


def json_tree(value: Any, links: MediaLinks) -> Markup:
    """Return a tree: objects and lists as ``<details>``, media shown, vectors summarised.

    At most `MAX_NODES` values of at most `MAX_DEPTH` levels; what is left out is counted.
    """
    from markupsafe import Markup

    tree = _Tree(links)
    tree.add(value, 0)
    return Markup('<div class="json">{}</div>').format(Markup("".join(tree.pieces)))


def json_text(value: Any, *, indent: int | None = 2) -> str:
    """Return JSON text for reading; values that JSON can't hold appear as their ``repr``."""
    try:
        encoded = msgspec.json.encode(value, enc_hook=repr)
        return (encoded if indent is None else msgspec.json.format(encoded, indent=indent)).decode()
    except RecursionError:
        return TOO_DEEP
    except (TypeError, ValueError, OverflowError):
        return repr(value)


def one_line(value: Any, limit: int = 120) -> str:
    """Return the beginning of a value on one line."""
    text = value if isinstance(value, str) else json_text(value, indent=None)
    text = " ".join(text[: limit * 4].split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def summarize_numbers(value: Any) -> str | None:
    """Return ``1,536 numbers: 0.0023, -0.009, …`` for a long list of numbers; None for anything else."""
    if type(value) is not list or len(value) <= _NUMBERS:
        return None
    if not all(type(item) in (int, float) for item in value):
        return None
    return f"{len(value):,} numbers: {', '.join(f'{item:.4g}' for item in value[:5])}, …"


class _Tree:
    """Collects the pieces of HTML, since joining them at each level would copy them at each level."""

    def __init__(self, links: MediaLinks) -> None:
        from markupsafe import escape

        self.pieces: list[str] = []
        self._links = links
        self._left = MAX_NODES
        self._escape = escape

    def add(self, value: Any, depth: int, key: str | int | None = None) -> None:
        """Add one value, with the key that it stands under."""
        self._left -= 1
        if type(value) in (dict, list) and value and summarize_numbers(value) is None:
            self._add_nested(value, depth, key)
        else:
            self._put(self._label(key), self._leaf(value))

    def _put(self, *texts: str) -> None:
        self.pieces.extend(texts)

    def _label(self, key: str | int | None) -> str:
        if key is None:
            return ""
        kind = "i" if type(key) is int else "k"
        return f'<span class="{kind}">{self._escape(key if type(key) is int else str(key)[:500])}</span>: '

    def _add_nested(self, value: Any, depth: int, key: str | int | None) -> None:
        size = f"{{{len(value)}}}" if type(value) is dict else f"[{len(value)}]"
        if depth >= MAX_DEPTH:
            self._put(self._label(key), f'<span class="more">{self._escape(one_line(value))}</span>')
            return
        is_open = depth < OPEN_DEPTH and len(value) <= OPEN_ITEMS
        label = self._label(key) or ("object " if type(value) is dict else "list ")
        self._put("<details open>" if is_open else "<details>", f'<summary>{label}<span class="more">{size}</span>')
        self._put("</summary><ul>")
        items = value.items() if type(value) is dict else enumerate(value)
        for done, (inner_key, inner) in enumerate(items):
            if self._left <= 0:
                self._put(f'<li class="more">… {len(value) - done:,} more</li>')
                break
            self._put("<li>")
            self.add(inner, depth + 1, inner_key)
            self._put("</li>")
        self._put("</ul></details>")

    def _leaf(self, value: Any) -> str:
        if isinstance(value, str):
            return self._text(value)
        if (numbers := summarize_numbers(value)) is not None:
            return f'<span class="num">[{self._escape(numbers)}]</span>'
        kind = "num" if type(value) in (int, float) else "lit"
        return f'<span class="{kind}">{self._escape(json_text(value, indent=None)[:MAX_TEXT])}</span>'

    def _text(self, text: str) -> str:
        shown = self._links.find(text)
        if shown is None:
            more = (
                f' <span class="more">… {len(text) - MAX_TEXT:,} more characters</span>' if len(text) > MAX_TEXT else ""
            )
            return f'<span class="str">{self._escape(text[:MAX_TEXT])}</span>{more}'
        return self._medium(shown)

    def _medium(self, shown: Any) -> str:
        size = f", {format_bytes(shown.size)}" if shown.size is not None else ""
        words = self._escape(f"{shown.content_type}{size}")
        if shown.url is None or shown.kind == "file":
            return f'<span class="more">[{words}]</span>'
        url = self._escape(shown.url)
        if shown.kind == "image":
            return f'<img src="{url}" alt="{words}" loading="lazy">'
        return f'<audio controls preload="none" src="{url}"></audio>'
