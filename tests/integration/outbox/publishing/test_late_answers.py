"""The end of a transaction that arrives within the next one; `make storm` has a thousand."""

from outbox.settings import RelaySettings
from tests.integration.outbox.publishing.late_answers import late_ends
from tests.integration.outbox.traffic import Connection

ROUNDS = 2


async def test_an_end_that_comes_within_the_next_transaction_loses_and_repeats_nothing(
    connection: Connection, relay_settings: RelaySettings
) -> None:
    outcome = await late_ends([(relay_settings, connection)], ROUNDS, seconds=1.0)

    assert (outcome.answers, outcome.requests) == (1, 1)
    assert (outcome.lost, outcome.repeated, outcome.inverted) == (0, 0, 0)
