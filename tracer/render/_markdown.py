"""Untrusted Markdown and code of models: turned into HTML on the server, and then sanitised.

Raw HTML is shown as text. Images become links and are not loaded, because loading one tells the owner of its address
that somebody is reading. Line breaks are kept.
"""

from __future__ import annotations

import functools
import html
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markdown_it import MarkdownIt
    from markdown_it.token import Token
    from markupsafe import Markup

__all__ = ["MARKDOWN_CHARS", "highlight", "markdown", "plain"]

MARKDOWN_CHARS = 60_000
"""Longer text is shown as plain text: parsing takes the server's time."""

PLAIN_CHARS = 400_000
CODE_CHARS = 20_000
# Other languages are shown without colours: each lexer is many regular expressions that run over hostile text.
_LANGUAGES = """
    bash c c++ cpp cs csharp css diff dockerfile go html http ini java javascript js json jsx kotlin lua makefile php py
    pycon python python3 rb rs ruby rust scala sh shell sql swift toml ts tsx typescript xml yaml yml zsh
"""
_LEXERS = frozenset(_LANGUAGES.split())
_FORMATTING = "a blockquote br code del em h4 h5 h6 hr li ol p pre s span strong table tbody td th thead tr ul"
_TAGS = frozenset(_FORMATTING.split())
_ATTRIBUTES = {"a": {"href", "title"}, "ol": {"start"}, "span": {"class"}, "pre": {"class"}}
_SCHEMES = frozenset({"http", "https", "mailto"})
_STARTS = ("http://", "https://", "mailto:")


def markdown(text: str) -> Markup:
    """Return Markdown as HTML that contains only text, its formatting, and links to http(s) and mailto."""
    import nh3
    from markupsafe import Markup

    if len(text) > MARKDOWN_CHARS:
        return plain(text)
    made = _parser().render(text)
    clean = nh3.clean(
        made,
        tags=set(_TAGS),
        attributes={tag: set(names) for tag, names in _ATTRIBUTES.items()},
        url_schemes=set(_SCHEMES),
        attribute_filter=_outward,
        link_rel="noopener noreferrer nofollow",
    )
    return Markup(clean)


def _outward(_tag: str, attribute: str, value: str) -> str | None:
    """Remove links to our own pages: a model's text must not lead its reader around in them."""
    is_inward = attribute == "href" and not value.lower().startswith(_STARTS)
    return None if is_inward else value


def plain(text: str) -> Markup:
    """Return text as it is, spaces and line breaks included; the end of a very long one is left out."""
    from markupsafe import Markup

    cut = text[:PLAIN_CHARS]
    more = f'<p class="note">… {len(text) - PLAIN_CHARS:,} more characters</p>' if len(text) > PLAIN_CHARS else ""
    return Markup('<pre class="plain">{}</pre>{}').format(cut, Markup(more))


def highlight(code: str, language: str) -> Markup:
    """Return code as HTML with Pygments' classes (``hl-k``, …); plain for languages that we don't colour."""
    from markupsafe import Markup

    return Markup(_highlight(code, language, ""))


@functools.cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    # HTML inside the text is switched off: what is never produced need not be sanitised.
    parser = MarkdownIt("commonmark", {"html": False, "breaks": True, "highlight": _highlight})
    parser.enable(["table", "strikethrough"]).disable("image")
    for rule in ("heading_open", "heading_close"):
        parser.add_render_rule(rule, _lower_heading)
    return parser


def _lower_heading(_: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    """Put a text's headings below the page's own."""
    token = tokens[index]
    tag = f"h{min(6, int(token.tag[1:]) + 3)}"
    return f"<{tag}>" if token.nesting == 1 else f"</{tag}>\n"


def _highlight(code: str, language: str, _: str) -> str:
    language = language.strip().lower()
    if language not in _LEXERS or len(code) > CODE_CHARS:
        return f'<pre class="code">{html.escape(code)}</pre>'
    return f'<pre class="code">{_formatter(code, language)}</pre>'


def _formatter(code: str, language: str) -> str:
    from pygments import highlight as pygmentize
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import get_lexer_by_name

    lexer = get_lexer_by_name(language, stripnl=False)
    coloured: str = pygmentize(code, lexer, HtmlFormatter(nowrap=True, classprefix="hl-"))
    return coloured
