"""Resuming, small enough for every run; `make resume` kills 200 times."""

from tests.integration.event_api.resume import resume


async def test_clients_have_each_event_once_and_in_order_whatever_is_killed() -> None:
    # The seed makes it kill the relay, both event APIs and two clients.
    outcome = await resume(kills=5, events=200, seed=62)

    assert (outcome.lost, outcome.repeated, outcome.inverted) == (0, 0, 0)
    assert outcome.events == 200
    assert set(outcome.kills) == {"relay", "client 0", "event API 0", "client 2", "event API 1"}
