"""`/moderations`, `/decisions` and `/vector_stores/{id}/search`: small judges that look for words."""

from __future__ import annotations

from tracer.testing._answer import Answer, Json, count_words
from tracer.testing._prompts import text_of
from tracer.testing._wire import Mint

__all__ = ["decisions", "moderations", "search_results"]

_CATEGORIES = {
    "harassment": ("idiot", "stupid"),
    "hate": ("hate",),
    "self-harm": ("suicide",),
    "sexual": ("naked",),
    "violence": ("kill", "murder"),
}


def moderations(body: Json, mint: Mint) -> Json:
    """A result for each input; a category is flagged if the input has one of its words."""
    given = body.get("input") or ""
    inputs = given if isinstance(given, list) and all(isinstance(text, str) for text in given) else [given]
    return {
        "id": mint("modr-"),
        "model": body.get("model") or "omni-moderation-latest",
        "results": [_judge(text_of(text).lower()) for text in inputs],
    }


def _judge(text: str) -> Json:
    found = {category: any(word in text for word in words) for category, words in _CATEGORIES.items()}
    return {
        "flagged": any(found.values()),
        "categories": found,
        "category_scores": {category: 0.99 if hit else 0.01 for category, hit in found.items()},
        "category_applied_input_types": {category: ["text"] if hit else [] for category, hit in found.items()},
    }


def decisions(body: Json, mint: Mint) -> Json:
    """An answer to each question: that it is likely, the first choice, the lowest level."""
    words = count_words(str(body.get("input")))
    questions = body.get("questions") or []
    usage = {
        "input_tokens": words,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": len(questions),
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": words + len(questions),
    }
    return {"answers": [_answer(question) for question in questions], "model": body["model"], "usage": usage}


def _answer(question: Json) -> Json:
    kind = question["type"]
    made: Json = {"type": kind, "name": question.get("name")}
    if kind == "predicate":
        return made | {"probability": 0.9}
    if kind == "choice":
        values = [choice["value"] for choice in question["choices"]]
        shares = [{"value": value, "probability": float(not place)} for place, value in enumerate(values)]
        return made | {"choice": values[0], "confidence": 1.0, "probabilities": shares}
    levels = [level["label"] for level in question["levels"]]
    shares = [{"label": label, "value": place, "probability": float(not place)} for place, label in enumerate(levels)]
    return made | {"score": 0.0, "confidence": 1.0, "probabilities": shares}


def search_results(body: Json, answer: Answer | None) -> Json:
    """A page with one document, which contains the scripted text, or repeats the query."""
    query = body.get("query")
    text = (answer.text if answer is not None else None) or f"All about {text_of(query)}."
    document = {
        "file_id": "file-1",
        "filename": "notes.txt",
        "score": 0.75,
        "attributes": {},
        "content": [{"type": "text", "text": text}],
    }
    return {
        "object": "vector_store.search_results.page",
        "search_query": query if isinstance(query, list) else [query],
        "data": [document],
        "has_more": False,
        "next_page": None,
    }
