"""Two thousand simulated services keep the laws. ``make simulate SEEDS=100000`` runs more of them."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tests.simulation.simulate import simulate
from tracer.store.sqlite._database import Database
from tracer.store.sqlite._gate import Gate

SEEDS, GROUPS = 2_000, 8


def simulate_all(seeds: Iterable[int]) -> None:
    for seed in seeds:
        simulate(seed)


@pytest.mark.parametrize("group", range(GROUPS))
def test_no_seed_breaks_a_law(group: int) -> None:
    simulate_all(range(group, SEEDS, GROUPS))


@pytest.mark.parametrize(
    ("owner", "name", "without", "law"),
    [
        (Gate, "is_used", property(lambda _: False), "inherited open connections"),
        (Database, "was_open", property(lambda _: False, lambda _self, _value: None), "loses a batch"),
        (Database, "is_open", property(lambda self: self.was_open), "used again and again"),
    ],
    ids=["C1: a child does not know", "C2: an open that fails again is for good", "C2: nothing is opened again"],
)
def test_faults_that_were_mended_would_be_found(
    monkeypatch: pytest.MonkeyPatch, owner: type, name: str, without: property, law: str
) -> None:
    monkeypatch.setattr(owner, name, without, raising=False)
    with pytest.raises(AssertionError, match=law):
        simulate_all(range(100))


def test_a_seed_decides_everything() -> None:
    """What a seed did once, it does again: otherwise a failure could not be repeated."""
    from tests.simulation import simulate as module

    told = []
    judge = module.World.judge

    def telling(world: module.World) -> None:
        rows = world.connection.execute("SELECT name, end_time_ns, status_code, attributes FROM spans").fetchall()
        told.append((sorted(rows), world.lost, world.unringed, world.made, world.recorded))
        judge(world)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.World, "judge", telling)
        for _ in range(2):
            for seed in range(5):
                module.simulate(seed)
    assert told[:5] == told[5:]
