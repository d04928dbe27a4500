# /// script
# dependencies = ["litellm"]
# ///
"""Only what litellm sends through the openai package is seen: `openai/`, `azure/` and some other providers. `responses`
and the providers for which litellm has an HTTP client of its own are not. Call such a server with the openai package
(`OpenAI(base_url=…)`), or through `openai/` with `api_base`. `batch_completion` uses threads without a context, so each
call is a trace of its own.
"""

import litellm

from tests.beside.ways import api, way

HI = [{"role": "user", "content": "Hi"}]
AT = {"api_base": api.base_url, "api_key": "k", "messages": HI}


@way("completion (openai/)")
def completion() -> None:
    litellm.completion(model="openai/gpt-5", messages=HI)


@way("acompletion")
async def acompletion() -> None:
    await litellm.acompletion(model="openai/gpt-5", messages=HI)


@way("completion, streamed")
def stream() -> None:
    list(litellm.completion(model="openai/gpt-5", messages=HI, stream=True))


@way("embedding")
def embedding() -> None:
    litellm.embedding(model="openai/text-embedding-3-small", input=["Hi"])


@way("batch_completion")
def batch() -> None:
    litellm.batch_completion(model="openai/gpt-5", messages=[HI, HI])


@way("azure/")
def azure() -> None:
    litellm.completion(
        model="azure/gpt-5", messages=HI, api_base=api.url, api_key="k", api_version="2025-04-01-preview"
    )


@way("responses")
def responses() -> None:
    litellm.responses(model="openai/gpt-5", input="Hi")


@way("groq/")
def groq() -> None:
    litellm.completion(model="groq/llama-3.3-70b-versatile", **AT)


@way("hosted_vllm/")
def hosted_vllm() -> None:
    litellm.completion(model="hosted_vllm/qwen", **AT)


@way("deepseek/")
def deepseek() -> None:
    litellm.completion(model="deepseek/deepseek-chat", **AT)


@way("openrouter/")
def openrouter() -> None:
    litellm.completion(model="openrouter/openai/gpt-5", **AT)


@way("together_ai/")
def together() -> None:
    litellm.completion(model="together_ai/meta-llama/Llama-3-8b", **AT)


@way("mistral/")
def mistral() -> None:
    litellm.completion(model="mistral/mistral-small", **AT)


@way("xai/")
def xai() -> None:
    litellm.completion(model="xai/grok-4", **AT)


@way("custom_openai/")
def custom() -> None:
    litellm.completion(model="custom_openai/qwen", **AT)
