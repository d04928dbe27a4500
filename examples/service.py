"""An ASGI service: each request is a trace, to its last byte, with the user and the session it belongs to.

Sends itself twenty concurrent requests, then looks at what was recorded. Needs ``pip install starlette httpx``. As a
server, in this folder and with OPENAI_API_KEY set: ``uvicorn service:app``.
"""

import asyncio

import httpx
from _server import MODEL, openai_or_fake
from openai import AsyncOpenAI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import tracer
from tracer import SpanType
from tracer.asgi import TraceMiddleware

tracer.autolog()
tracer.set_experiment("service")


@tracer.trace(span_type=SpanType.CHAIN)
async def answer(question: str, session_id: str, user_id: str) -> str:
    """Answer one question. Everything called in here belongs to one trace."""
    tracer.update_current_trace(session_id=session_id, user_id=user_id, tags={"route": "/ask"})
    async with AsyncOpenAI() as client:
        response = await client.responses.create(model=MODEL, input=question)
    return response.output_text


async def ask(request: Request) -> JSONResponse:
    """Handle ``POST /ask``."""
    body = await request.json()
    return JSONResponse({"answer": await answer(body["question"], body["session"], body["user"])})


app = Starlette(routes=[Route("/ask", ask, methods=["POST"])], middleware=[Middleware(TraceMiddleware)])


async def main() -> None:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as browser:
        await asyncio.gather(
            *(
                browser.post("/ask", json={"question": f"What is {n} + {n}?", "session": f"s{n % 4}", "user": "ann"})
                for n in range(20)
            )
        )
    page = await tracer.search_traces(experiment="service", session_id="s1")
    print(f"{len(page)} traces in session s1:")
    for trace in page:
        print(f"  {trace.info.state}  {trace.info.user_id}  {' > '.join(span.name for span in trace.data.spans)}")
    stats = tracer.stats()
    print(f"{stats.written} records written, {sum(stats.dropped.values())} dropped")


if __name__ == "__main__":
    with openai_or_fake():
        asyncio.run(main())
