"""The storm, small enough for every run; `make storm` blows a thousand kills."""

from tests.integration.outbox.storm.storm import storm

KILLS = 22


async def test_no_event_is_lost_repeated_or_inverted_in_a_storm() -> None:
    outcome = await storm(KILLS, seed=7)

    assert (outcome.lost, outcome.repeated, outcome.inverted) == (0, 0, 0)
    assert outcome.events > 1000
    assert sum(outcome.kills.values()) >= KILLS
    assert outcome.kills["postgres"] > 0
    assert outcome.kills["kafka"] > 0
    assert outcome.aborted > 0, "the kills must hit transactions that hold data"
