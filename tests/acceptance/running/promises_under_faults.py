"""One small run of everything: the promises hold under a few faults, and what is planted is caught by its name."""

import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.chaos import bugs
from tests.chaos.checker import check
from tests.chaos.planted import PLANTED, plant
from tests.chaos.run import Plan, run
from tests.chaos.stack import ChaosStack
from tests.infrastructure import throwaway_folder

FAULTS = ("kill relay", "dropped links to kafka", "kill event-api", "kill postgres", "lose the events topic")
#: So many show something of each kind.
COMMANDS = 300
#: Some bugs show by chance only: a round more is cheaper than a long one each time.
ROUNDS = 6


@pytest.fixture
async def stack() -> AsyncIterator[ChaosStack]:
    folder = throwaway_folder()
    try:
        with (folder / "screen.txt").open("w") as screen:
            async with ChaosStack(folder / "stack", screen).running() as stack:
                yield stack
    finally:
        shutil.rmtree(folder)


async def test_promises_hold_under_faults_and_planted_bugs_are_caught_by_name(stack: ChaosStack) -> None:
    outcome = await run(stack, Plan(faults=FAULTS, held=(1.0, 1.0), commands=COMMANDS))

    assert outcome.breaches == {}
    assert len(outcome.strikes) == len(FAULTS)
    assert len(outcome.history.log) > 100
    for name, (invariant, _) in PLANTED.items():
        assert invariant in check(plant(name, outcome.history)), name

    for together in bugs.BUGS:
        await stack.run_instead([sys.executable, str(Path(bugs.__file__)), ",".join(together)])
        missing = {invariant for _, _, invariants in together.values() for invariant in invariants}
        for seed in range(ROUNDS):
            broken = await run(stack, Plan(seed=seed, faults=(), commands=COMMANDS // 2), catch_up=0)
            missing -= broken.breaches.keys()
            if not missing:
                break
        assert not missing
