"""`make chaos-short`: the promises hold under a few faults, and what is planted is caught by its name."""

import pytest

from tests.chaos.bugs import BUGS, Bugs, broken_by
from tests.chaos.checker import check
from tests.chaos.planted import PLANTED, plant
from tests.chaos.run import Plan, run
from tests.chaos.stack import throwaway_stack

FAULTS = ("kill relay", "dropped links to kafka", "kill event-api", "kill postgres", "lose the events topic")
#: So many show something of each kind.
COMMANDS = 300
#: What is planted strikes some commands only, and where nothing is published each read waits in vain.
PLANTED_COMMANDS = 500
WAITING_COMMANDS = 30


async def test_promises_hold_under_faults() -> None:
    async with throwaway_stack() as stack:
        outcome = await run(stack, Plan(faults=FAULTS, held=(1.0, 1.0), commands=COMMANDS))

    assert outcome.breaches == {}
    assert len(outcome.strikes) == len(FAULTS)
    assert len(outcome.history.log) > 100
    for name, (invariant, _) in PLANTED.items():
        assert invariant in check(plant(name, outcome.history)), name


@pytest.mark.parametrize("planted", BUGS, ids=", ".join)
async def test_bugs_in_running_processes_are_caught_by_name(planted: Bugs) -> None:
    expected = broken_by(planted)
    strikes = "not-recovered" in expected
    plan = Plan(
        faults=("kill query-api",) if strikes else (),
        commands=WAITING_COMMANDS if strikes else PLANTED_COMMANDS,
        recovery=10.0,
        catch_up=20.0,
        broken=expected,
    )
    async with throwaway_stack(planted) as stack:
        outcome = await run(stack, plan)

    assert expected - outcome.breaches.keys() == set()
