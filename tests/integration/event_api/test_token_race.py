"""A thin event's token: whoever fetches the user with it never gets what was before the event, however soon."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Final, NamedTuple

import httpx

from chassis.settings import Kafka, PostgresAddress, Topics
from local_stack.ports import free_ports
from tests.event_streams import Sent, streamed
from tests.integration.event_api.conftest import variables
from tests.integration.examples.copy_under_fire import Writers
from tests.integration.muster_processes import environment, running

EVENTS: Final = 250
ERASED: Final = "muster.user.erased.v1"


async def test_whoever_fetches_a_user_with_the_token_of_an_event_never_gets_an_older_one(
    kafka: Kafka, topics: Topics, command_database: PostgresAddress, query_database: PostgresAddress
) -> None:
    commands, queries, events, relay, projectors, *inner = free_ports(8)
    ops = zip(("COMMAND_API_OPS_PORT", "QUERY_API_OPS_PORT", "EVENT_API_OPS_PORT"), map(str, inner), strict=True)
    ours = {
        name: value for name, value in variables(kafka, topics, query_database).items() if not name.startswith("AUTH")
    }
    ports = {"RELAY_HTTP_PORT": str(relay), "PROJECTORS_HTTP_PORT": str(projectors), **dict(ops)}
    told = ours | environment(kafka, topics, command_database, query_database, **ports)
    writers = Writers(f"http://127.0.0.1:{commands}", rate=60, seed=4)
    async with AsyncExitStack() as stack:
        for name, port in (("command", commands), ("query", queries), ("events", events)):
            await stack.enter_async_context(running(told, "serve", name, "--port", str(port), port=port))
        await stack.enter_async_context(running(told, "relay", port=relay))
        following, fetching, commanding = [
            await stack.enter_async_context(_client(port)) for port in (events, queries, commands)
        ]
        stream = aiter(await stack.enter_async_context(streamed(following)))
        async with running(told, "project", "users", port=projectors), writers.writing(), asyncio.TaskGroup() as group:
            fetches = [group.create_task(_fetch(fetching, await _change(stream), wait=20)) for _ in range(EVENTS)]

        # Nobody projects any more, so whatever is fetched is older than what happens now.
        last = fetches[-1].result().event
        changed = await commanding.patch(f"/users/{last.json['user_id']}/profile", json={"display_name": "The last"})
        token = changed.headers["Consistency-Token"]
        while (event := await _change(stream)).json["token"] != token:
            pass
        refused = await _fetch(fetching, event, wait=1)
        older = await fetching.get(f"/users/{event.json['user_id']}")

    answers = [fetch.result() for fetch in fetches]
    assert [each for each in answers if each.is_stale] == []
    assert {each.status for each in answers} <= {200, 404}, "it came within the wait, or was erased meanwhile"
    assert sum(each.status == 200 for each in answers) > EVENTS * 0.9
    assert refused.status == 504
    assert older.json()["version"] < event.json["version"]


class Fetched(NamedTuple):
    """An event, and what was answered to who fetched its user."""

    event: Sent
    status: int
    version: int

    @property
    def is_stale(self) -> bool:
        return self.status == 200 and self.version < self.event.json["version"]


def _client(port: int) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False)


async def _change(stream: AsyncIterator[Sent]) -> Sent:
    """The next event that has a user to fetch."""
    async with asyncio.timeout(60):
        while (event := await anext(stream)).type in {ERASED, "caught-up"}:
            pass
    return event


async def _fetch(client: httpx.AsyncClient, event: Sent, *, wait: int) -> Fetched:
    asked = {"Consistency-Token": event.json["token"], "Prefer": f"wait={wait}"}
    answer = await client.get(f"/users/{event.json['user_id']}", headers=asked)
    return Fetched(event, answer.status_code, answer.json().get("version", 0))
