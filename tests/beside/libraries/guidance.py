# /// script
# dependencies = ["guidance", "openai"]
# ///
"""Every `gen` is a call."""

from guidance import assistant, gen, models, user

from tests.beside.ways import api, way


@way("gen")
def generate() -> None:
    lm = models.OpenAI("gpt-4o", api_key="k", base_url=api.base_url, echo=False)
    with user():
        lm += "Hi"
    with assistant():
        lm += gen("answer", max_tokens=20)
