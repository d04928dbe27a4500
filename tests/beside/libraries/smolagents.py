# /// script
# dependencies = ["smolagents[openai,litellm]"]
# ///
"""What is said of litellm holds for `LiteLLMModel`. `InferenceClientModel` has an HTTP client of its own: expect
nothing (it was not tried).
"""

from smolagents import CodeAgent, LiteLLMModel, OpenAIModel, ToolCallingAgent

from tests.beside.ways import api, way
from tracer.testing import reply

HI = [{"role": "user", "content": "Hi"}]
model = OpenAIModel(model_id="gpt-4o", api_base=api.base_url, api_key="k")


@way("OpenAIModel")
def call() -> None:
    model(HI)


@way("CodeAgent")
def code_agent() -> None:
    api.enqueue(reply.text("Thought: done\n<code>\nfinal_answer('Hi')\n</code>"))
    CodeAgent(tools=[], model=model, verbosity_level=0).run("Hi")


@way("ToolCallingAgent")
def tool_agent() -> None:
    api.enqueue(reply.tool_calls(("final_answer", {"answer": "Hi"})))
    ToolCallingAgent(tools=[], model=model, verbosity_level=0).run("Hi")


@way("LiteLLMModel (openai/)")
def litellm() -> None:
    LiteLLMModel(model_id="openai/gpt-4o", api_base=api.base_url, api_key="k")(HI)
