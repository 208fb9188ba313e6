"""The storm, small enough for every run; `make storm` blows a thousand kills."""

from pathlib import Path

from tests.integration.outbox.private_servers import private_servers
from tests.integration.outbox.storm import Storm

KILLS = 22


async def test_no_event_is_lost_repeated_or_inverted_in_a_storm(server_folder: Path) -> None:
    async with private_servers(server_folder) as private:
        outcome = await Storm(private, KILLS, seed=7).run()

    assert (outcome.lost, outcome.repeated, outcome.inverted) == (0, 0, 0)
    assert outcome.events > 1000
    assert sum(outcome.kills.values()) >= KILLS
    assert outcome.kills["postgres"] > 0
    assert outcome.kills["kafka"] > 0
    assert outcome.aborted > 0, "the kills must hit transactions that hold data"
