# /// script
# dependencies = ["aisuite[openai]"]
# ///
"""`openai:` goes through the openai package, and so do the providers that build on it (`azure:`, `deepseek:` and others
were not tried). `groq:`, `mistral:`, `anthropic:` use packages of their own, and are not seen.
"""

import aisuite

from tests.beside.ways import CITY, api, way

HI = [{"role": "user", "content": "Hi"}]
client = aisuite.Client({"openai": {"api_key": "k", "base_url": api.base_url}})


def get_weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"rainy in {city}"


@way("openai:")
def plain() -> None:
    client.chat.completions.create(model="openai:gpt-4o", messages=HI)


@way("openai: with tools")
def tools() -> None:
    client.chat.completions.create(
        model="openai:gpt-4o", messages=[{"role": "user", "content": CITY}], tools=[get_weather], max_turns=2
    )
