# /// script
# dependencies = ["mem0ai"]
# ///
"""`add` is several calls. The hosted `MemoryClient` calls models elsewhere: nothing is seen."""

from mem0 import Memory

from tests.beside.ways import api, way
from tracer.testing import reply

memory = Memory.from_config(
    {
        "vector_store": {"provider": "qdrant", "config": {"path": "qdrant", "embedding_model_dims": 1536}},
        "history_db_path": "history.db",
    }
)


@way("add")
def add() -> None:
    facts = '{"facts": ["likes quinces"], "memory": [{"id": "0", "text": "likes quinces"}]}'
    api.enqueue(reply.text(facts), path="/v1/chat/completions")
    memory.add("I like quinces", user_id="u")


@way("search")
def search() -> None:
    memory.search("quinces", filters={"user_id": "u"})
