"""Run many seeds, or one: ``python -m tests.simulation --seeds 10000``, ``--seed 17``."""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.simulate import simulate


def holds(seed: int) -> bool:
    """Say so if a seed breaks a law."""
    try:
        simulate(seed)
    except AssertionError as error:
        print(error, flush=True)
        return False
    return True


def main() -> int:
    """Return how many seeds failed, at most 100."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", type=int, default=2_000, help="run the seeds from 0 to this one")
    parser.add_argument("--seed", type=int, help="run this seed only")
    given = parser.parse_args()
    seeds = range(given.seeds) if given.seed is None else [given.seed]
    began, failed = time.perf_counter(), 0
    for seed in seeds:
        failed += not holds(seed)
    print(f"{len(seeds)} seeds, {failed} failed, {time.perf_counter() - began:.1f} s")
    return min(failed, 100)


if __name__ == "__main__":
    sys.exit(main())
