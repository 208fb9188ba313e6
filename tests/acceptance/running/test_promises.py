"""One fault and one planted bug: no promise but the bug's is broken. `make chaos-short` and `make chaos` do more."""

from tests.chaos.bugs import ALL
from tests.chaos.run import Plan, run
from tests.chaos.stack import throwaway_stack

BUG = "events-are-told-twice"
#: They show something of each kind.
COMMANDS = 100


async def test_through_a_fault_only_the_promise_is_broken_that_a_planted_bug_breaks() -> None:
    _, _, broken = ALL[BUG]
    async with throwaway_stack([BUG]) as stack:
        outcome = await run(stack, Plan(faults=("kill relay",), commands=COMMANDS, broken=frozenset(broken)))

    assert [strike.recovery is not None for strike in outcome.strikes] == [True]
    assert len(outcome.history.log) > COMMANDS / 3
    assert outcome.breaches.keys() == set(broken)
