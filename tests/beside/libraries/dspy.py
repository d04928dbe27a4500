# /// script
# dependencies = ["dspy", "numpy"]
# ///
"""dspy calls models through litellm, so what is said of litellm holds here. Answers from dspy's cache are no calls, and
no spans. `dspy.Parallel` uses threads without a context, so each call is a trace of its own.
"""

import dspy

from tests.beside.ways import api, way

dspy.configure(
    lm=dspy.LM("openai/gpt-5", api_base=api.base_url, api_key="k", cache=False, max_tokens=16000, temperature=1.0)
)
answer = dspy.Predict("question -> answer")


def say(text: str = "Paris") -> None:
    """Script what a dspy signature can read."""
    from tracer.testing import reply

    api.enqueue(reply.text(f"[[ ## answer ## ]]\n{text}\n\n[[ ## completed ## ]]"))


@way("Predict")
def predict() -> None:
    say()
    answer(question="Hi")


@way("Predict, async")
async def predict_async() -> None:
    say()
    await answer.acall(question="Hi")


@way("Parallel")
def parallel() -> None:
    say()
    say()
    dspy.Parallel(num_threads=2)([(answer, {"question": "Hi"}), (answer, {"question": "Ho"})])


@way("Embedder")
def embedder() -> None:
    dspy.Embedder("openai/text-embedding-3-small", api_base=api.base_url, api_key="k", caching=False)(["Hi"])


@way("Responses")
def responses() -> None:
    lm = dspy.LM(
        "openai/gpt-5",
        model_type="responses",
        api_base=api.base_url,
        api_key="k",
        cache=False,
        max_tokens=16000,
        temperature=1.0,
    )
    lm("Hi")
