"""`muster lag` against a real outbox, a real relay and the projections' tables."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from chassis.settings import Kafka, PostgresAddress, Topics
from local_stack.ports import free_port
from outbox.relay.leadership import instance
from outbox.relay.process import serve
from outbox.settings import RelaySettings
from tests.integration.muster_processes import environment, muster
from tests.integration.outbox.relaying import settings_for
from tests.integration.outbox.traffic import append_many, until_empty


@pytest.fixture
def settings(command_database: PostgresAddress, kafka: Kafka, topics: Topics) -> RelaySettings:
    name = f"relay-{topics.events_topic}"
    return settings_for(command_database, kafka, topics, relay_name=name, relay_http_port=free_port())


@asynccontextmanager
async def relay_with_port(settings: RelaySettings) -> AsyncIterator[None]:
    """A relay that serves its metrics, in this process."""
    stopping = asyncio.Event()
    task = asyncio.create_task(serve(settings, stopping))
    try:
        yield
    finally:
        stopping.set()
        assert await asyncio.wait_for(task, 30) == 0


async def lag(settings: RelaySettings, query: PostgresAddress, *arguments: str) -> str:
    """What the command prints; it must succeed."""
    variables = environment(
        settings, settings, settings.command_database, query, RELAY_HTTP_PORT=str(settings.relay_http_port)
    )
    ended = await muster(variables, "lag", *arguments)
    assert ended.code == 0, ended.err
    return ended.out


async def test_shows_who_leads_and_what_the_relay_counted(
    settings: RelaySettings, command_database: PostgresAddress, query_database: PostgresAddress
) -> None:
    connection = await asyncpg.connect(**command_database.connect_arguments)
    try:
        async with relay_with_port(settings):
            await append_many(connection, [uuid4() for _ in range(20)], 3)
            await until_empty(connection)
            found: dict[str, Any] = json.loads(await lag(settings, query_database, "--json"))
            shown = await lag(settings, query_database)
    finally:
        await connection.close()

    assert found["outbox"].pop("bytes") > 0
    assert found["outbox"] == {"events": 0, "estimated": False, "oldest_seconds": 0.0, "set_aside": 0}
    assert found["leader"]["instance"] == instance()
    relay = found["relay"]
    assert (relay["error"], relay["leads"], relay["rows_below_floor"]) == (None, True, 0)
    assert relay["published"] >= 60
    assert 0 < relay["publish_seconds"]["p50"] <= relay["publish_seconds"]["p99"] < 60
    assert f"relays: {instance()} leads" in shown
    assert "events published" in shown


async def test_a_relay_that_is_away_is_said_beside_everything_else(
    settings: RelaySettings, command_database: PostgresAddress, query_database: PostgresAddress
) -> None:
    connection = await asyncpg.connect(**command_database.connect_arguments)
    try:
        await append_many(connection, [uuid4() for _ in range(5)], 1)
        await connection.execute("UPDATE outbox SET appended_at = now() - interval '90 s'")
        found = json.loads(await lag(settings, query_database, "--json"))
        shown = await lag(settings, query_database)
    finally:
        await connection.close()

    assert found["outbox"]["events"] == 5
    assert 90 <= found["outbox"]["oldest_seconds"] < 200
    assert found["leader"] is None
    assert found["relay"]["error"]
    assert found["relay"]["published"] is None
    assert {one["projection"] for one in found["projections"]} == {"users", "timeline", "signups"}
    assert "none leads" in shown
    assert f"relay at http://127.0.0.1:{settings.relay_http_port}: does not answer" in shown


async def test_more_partitions_in_the_settings_than_on_the_topic_are_said_and_not_waited_for(
    settings: RelaySettings, query_database: PostgresAddress
) -> None:
    fewer = settings.topic_partitions
    told = environment(settings, settings, settings.command_database, query_database, TOPIC_PARTITIONS=str(fewer + 1))
    ended = await muster(told, "lag")

    assert ended.code == 1
    topic = settings.events_topic
    assert f"topic {topic} has {fewer} partitions and TOPIC_PARTITIONS says {fewer + 1}: set it to {fewer}" in ended.err
