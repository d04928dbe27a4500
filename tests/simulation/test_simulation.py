"""Two thousand simulated services keep the laws. ``make simulate SEEDS=100000`` runs more of them."""

from __future__ import annotations

import pytest

from tests.simulation.simulate import simulate

SEEDS, GROUPS = 2_000, 8


@pytest.mark.parametrize("group", range(GROUPS))
def test_no_seed_breaks_a_law(group: int) -> None:
    for seed in range(group, SEEDS, GROUPS):
        simulate(seed)


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
