"""Reads what was rendered, as a browser would: elements, their attributes and their text."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "rect", "wbr"}


class Element:
    """An element: its name, attributes, and what is inside."""

    def __init__(self, tag: str, attributes: dict[str, str | None], parent: Element | None) -> None:
        self.tag = tag
        self.attributes = {name: value or "" for name, value in attributes.items()}
        self.parent = parent
        self.children: list[Element | str] = []

    def __getitem__(self, name: str) -> str:
        return self.attributes[name]

    @property
    def classes(self) -> set[str]:
        return set(self.attributes.get("class", "").split())

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    @property
    def words(self) -> str:
        return " ".join(self.text.split())

    def all(self, tag: str | None = None, css: str | None = None, **attributes: str) -> list[Element]:
        """Everything inside with this tag, this class and these attributes."""
        found = []
        for child in self.children:
            if isinstance(child, str):
                continue
            wanted = tag in (None, child.tag) and (css is None or css in child.classes)
            if wanted and all(child.attributes.get(key.replace("_", "-")) == v for key, v in attributes.items()):
                found.append(child)
            found += child.all(tag, css, **attributes)
        return found

    def one(self, tag: str | None = None, css: str | None = None, **attributes: str) -> Element:
        [found] = self.all(tag, css, **attributes)
        return found

    def inside(self, css: str) -> bool:
        """It stands inside an element of this class."""
        return self.parent is not None and (css in self.parent.classes or self.parent.inside(css))


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = self.at = Element("", {}, None)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs), self.at)
        self.at.children.append(element)
        if tag not in VOID:
            self.at = element

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.at.children.append(Element(tag, dict(attrs), self.at))

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        assert self.at.tag == tag, f"</{tag}> closes <{self.at.tag}>"
        assert self.at.parent is not None
        self.at = self.at.parent

    def handle_data(self, data: str) -> None:
        self.at.children.append(data)


def read(html: str) -> Element:
    """Parse HTML in which every element is closed."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    assert reader.at is reader.root, f"<{reader.at.tag}> is not closed"
    return reader.root
