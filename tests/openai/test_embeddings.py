"""Embeddings: vectors look as they did to the caller, whatever the SDK had sent in between."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

import tracer
from tests.openai.calling import Caller, only_span
from tracer.testing import reply


@pytest.mark.parametrize("asked", [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}], ids=str)
async def test_vectors_are_shown_as_the_caller_got_them(caller: Caller, asked: dict[str, Any]) -> None:
    create = caller.client.embeddings.create
    answer = await caller.settle(create, model="m", input=["a", "b"], dimensions=5, **asked)
    span = await only_span()
    assert [vector["embedding"] for vector in span.outputs["data"]] == [vector.embedding for vector in answer.data]
    assert isinstance(answer.data[0].embedding, str if asked.get("encoding_format") == "base64" else list)
    if "encoding_format" in asked:  # otherwise the SDK adds it, openai 1.40 only where there is numpy
        assert span.inputs["encoding_format"] == asked["encoding_format"]
    [found] = await tracer.search_traces()
    assert found.data.spans[0].outputs == span.outputs
    assert span.get_attribute("gen_ai.embeddings.dimension.count") == 5


@pytest.mark.parametrize("way", ["with_raw_response", "with_streaming_response"])
async def test_vectors_of_other_ways_to_call(caller: Caller, way: str) -> None:
    create = getattr(caller.client.embeddings, way).create
    if way == "with_raw_response":
        answer = (await caller.settle(create, model="m", input="a", dimensions=5)).parse()
    else:
        async with caller.entered(create(model="m", input="a", dimensions=5)) as response:
            answer = await caller.settle(response.parse)
    assert (await only_span()).outputs["data"][0]["embedding"] == answer.data[0].embedding


async def test_vectors_that_the_caller_asked_for_by_hand_stay_as_they_came(caller: Caller) -> None:
    body = {"model": "m", "input": "a", "encoding_format": "base64"}
    answer = await caller.settle(caller.client.post, "/embeddings", cast_to=object, body=body)
    [vector] = (await only_span()).outputs["data"]
    assert isinstance(vector["embedding"], str)
    assert vector == answer["data"][0]


@pytest.mark.parametrize("text", ["", "AAAA", "not base64!", "AAAAAAA", "é"], ids=ascii)
async def test_vectors_that_are_none_stay_as_they_came(caller: Caller, text: str) -> None:
    vectors = [{"embedding": text, "index": 0}, {"index": 1}, "odd"]
    caller.server.enqueue(reply.json_body(200, {"object": "list", "model": "m", "data": vectors}))
    with contextlib.suppress(Exception):  # the SDK can't read them
        await caller.settle(caller.client.embeddings.create, model="m", input="a")
    first, *rest = (await only_span()).outputs["data"]
    assert first["embedding"] == (text or [])
    assert rest == vectors[1:]
