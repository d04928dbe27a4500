# /// script
# dependencies = ["ag2[openai]<1"]
# ///
"""`a_initiate_chat` makes calls in threads without a context: each is a trace of its own."""

from autogen import ConversableAgent, LLMConfig

from tests.beside.ways import api, way

config = LLMConfig({"model": "gpt-5", "api_key": "k", "base_url": api.base_url, "api_type": "openai"})
HI = [{"role": "user", "content": "Hi"}]


def make(name: str) -> ConversableAgent:
    return ConversableAgent(name, llm_config=config, human_input_mode="NEVER")


@way("generate_reply")
def generate() -> None:
    make("a").generate_reply(messages=HI)


@way("a_generate_reply")
async def generate_async() -> None:
    await make("a").a_generate_reply(messages=HI)


@way("initiate_chat")
def chat() -> None:
    make("a").initiate_chat(make("b"), message="Hi", max_turns=2, silent=True)


@way("a_initiate_chat")
async def chat_async() -> None:
    await make("a").a_initiate_chat(make("b"), message="Hi", max_turns=2, silent=True)
