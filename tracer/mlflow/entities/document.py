"""A document that a retriever found."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["Document"]


@dataclass
class Document:
    """One document of a RETRIEVER span's outputs."""

    page_content: str
    metadata: dict[str, Any] = field(default_factory=dict)
    id: str | None = None

    @classmethod
    def from_langchain_document(cls, document: Any) -> Document:
        """Return LangChain's document as one of these."""
        return cls(document.page_content, copy.deepcopy(document.metadata), getattr(document, "id", None))

    @classmethod
    def from_llama_index_node_with_score(cls, node_with_score: Any) -> Document:
        """Return LlamaIndex's node as one of these; its score is in the metadata."""
        node = node_with_score
        return cls(node.get_content(), {"score": node.get_score(), **copy.deepcopy(node.metadata)}, node.node_id)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)
