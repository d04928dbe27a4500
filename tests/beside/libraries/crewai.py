# /// script
# dependencies = ["crewai"]
# ///
"""Agents and tasks have no spans of their own."""

from crewai import LLM, Agent, Crew, Task

from tests.beside.ways import api, way
from tracer.testing import reply

llm = LLM(model="gpt-4o-mini", api_key="k", base_url=api.base_url)


def crew() -> Crew:
    agent = Agent(role="Forecaster", goal="tell", backstory="none", llm=llm)
    return Crew(agents=[agent], tasks=[Task(description="Say hi", expected_output="a word", agent=agent)])


def say() -> None:
    api.enqueue(reply.text("Thought: I now can give a great answer\nFinal Answer: Hi"))


@way("LLM.call")
def call() -> None:
    llm.call("Hi")


@way("kickoff")
def kickoff() -> None:
    say()
    crew().kickoff()


@way("kickoff_async")
async def kickoff_async() -> None:
    say()
    await crew().kickoff_async()
