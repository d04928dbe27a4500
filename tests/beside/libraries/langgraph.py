# /// script
# dependencies = ["langgraph", "langchain-openai", "langchain"]
# ///
"""Graphs run in threads and tasks with a copy of the context, so nodes stay in the caller's trace."""

from langchain.agents import create_agent
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, MessagesState, StateGraph

from tests.beside.ways import CITY, way

chat = ChatOpenAI(model="gpt-5")


def get_weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"rainy in {city}"


agent = create_agent(chat, [get_weather])


def answer(state: MessagesState) -> MessagesState:
    return {"messages": [chat.invoke(state["messages"])]}


graph = StateGraph(MessagesState)
graph.add_node("one", answer)
graph.add_node("two", answer)
graph.add_edge(START, "one")
graph.add_edge(START, "two")
graph.add_edge("one", END)
graph.add_edge("two", END)
app = graph.compile()
ASKED = {"messages": [{"role": "user", "content": CITY}]}


@way("two nodes at once")
def parallel() -> None:
    app.invoke(ASKED)


@way("agent")
def run_agent() -> None:
    agent.invoke(ASKED)


@way("agent, async")
async def run_agent_async() -> None:
    await agent.ainvoke(ASKED)


@way("agent, streamed")
async def stream_agent() -> None:
    [part async for part in agent.astream(ASKED, stream_mode="messages")]
