# /// script
# dependencies = ["portkey-ai"]
# ///
"""The package has its own copy of the openai package inside, which is not patched: use the openai package with
`base_url=PORTKEY_GATEWAY_URL` and `default_headers=createHeaders(…)`, as Portkey documents too.
"""

import openai
from portkey_ai import AsyncPortkey, Portkey, createHeaders

from tests.beside.ways import api, way

CHAT = {"model": "gpt-4", "messages": [{"role": "user", "content": "Hi"}]}


@way("Portkey")
def plain() -> None:
    Portkey(api_key="k", base_url=api.base_url).chat.completions.create(**CHAT)


@way("AsyncPortkey")
async def plain_async() -> None:
    await AsyncPortkey(api_key="k", base_url=api.base_url).chat.completions.create(**CHAT)


@way("openai with createHeaders")
def headers() -> None:
    client = openai.OpenAI(base_url=api.base_url, default_headers=createHeaders(api_key="k", provider="openai"))
    client.chat.completions.create(**CHAT)
