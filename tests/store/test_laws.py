"""What is stored does not depend on the order in which batches arrive, nor on how often one does."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from tests.recorded_calls import Records, everything, record_calls
from tracer.assembly.assembler import Assembler
from tracer.store import Batch, Store, current_process, open_store


@pytest.fixture(scope="module")
def recorded() -> Records:
    return record_calls()


def batches(records: Records, order: random.Random) -> list[Batch]:
    """The records in batches, cut at any places."""
    places = sorted(order.sample(range(1, len(records)), 12))
    assembler = Assembler(current_process())
    made = []
    for one, two in itertools.pairwise([0, *places, len(records)]):
        for record in records[one:two]:
            assembler.feed(record)
        made.append(assembler.take_batch())
    return made


async def stored(arriving: list[Batch]) -> Any:
    store = open_store("memory://")
    for batch in arriving:
        await store.write(batch)
    found = await everything(store)
    await store.aclose()
    return found


@pytest.mark.parametrize("seed", range(3))
async def test_batches_in_any_order_and_again_are_the_same_traces(
    any_store: Store, recorded: Records, seed: int
) -> None:
    """A batch that a killed process left comes after newer ones; one whose answer was lost comes again."""
    order = random.Random(seed)
    made = batches(recorded, order)
    expected = await stored(made)
    arriving = [*made, *order.choices(made, k=5)]
    order.shuffle(arriving)
    for batch in arriving:
        batch.once, batch.sources = [], {}  # what some stores number, so that it is written once
        await any_store.write(batch)
    for one, other in zip(await everything(any_store), expected, strict=True):
        assert one["info"] == other["info"]
        assert one == other
