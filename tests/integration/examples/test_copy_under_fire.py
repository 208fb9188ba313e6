"""Copies under fire, small enough for every run; `make resume-copy` goes on for minutes."""

from tests.integration.examples.copy_under_fire import copy_under_fire


async def test_copies_miss_nobody_and_have_nobody_too_many_while_commands_go_on_and_everything_is_killed() -> None:
    # The seed makes it kill whatever brings changes to the copies, and both of these.
    outcome = await copy_under_fire(kills=6, rate=200, seed=111)

    assert (outcome.missing, outcome.extra, outcome.other_version) == (0, 0, 0)
    assert len(outcome.verifications) == 1
    assert outcome.difference
    assert outcome.holds, (outcome.verifications, outcome.planted, outcome.difference)
    assert outcome.users > 250
    assert set(outcome.kills) >= {"copy", "relay", "projectors"}
