"""The pages about disasters in docs/how-to: their commands, as they stand, lead to an audit without differences."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from chassis.kafka.client import admin, partition_counts
from chassis.settings import Kafka, PostgresAddress, Topics
from tests.conftest import create_database, database_address, drop_database
from tests.databases import make_roles
from tests.infrastructure import Servers
from tests.integration.command_api.conftest import register
from tests.integration.disasters.installation import Installation, installed
from tests.integration.disasters.pages import lose_topic
from tests.integration.muster_processes import muster
from tests.waiting import until


async def rename(api: httpx.AsyncClient, user: dict[str, Any], name: str) -> None:
    answer = await api.put(f"/users/{user['id']}/username", json={"username": name})
    assert answer.status_code == 200, answer.text


async def test_one_installation_through_a_lost_topic_and_other_partitions(
    kafka: Kafka, topics: Topics, query_database: PostgresAddress, variables: dict[str, str], api: httpx.AsyncClient
) -> None:
    people = [await register(api, f"user{number}") for number in range(8)]
    async with installed(variables, topics.events_topic) as muster_here:
        await muster_here.start("relay", "project")
        await rename(api, people[0], "before")
        assert (await api.delete(f"/users/{people[7]['id']}")).status_code == 204
        await muster_here.until_all_are("fed")
        await until_is_read(query_database, people[0], [1, 2])

        # What nobody has read is lost with the topic: two changes, an erasure, and somebody new.
        await muster_here.stop("project")
        await rename(api, people[0], "lost")
        assert (await api.delete(f"/users/{people[6]['id']}")).status_code == 204
        people.append(await register(api, "newcomer"))
        await muster_here.until_published()
        await lose_topic(kafka, topics.events_topic)
        await muster_here.start("project")
        await muster_here.until_all_are("topic-gone")
        await muster_here.walk("refill-a-lost-topic.md", {0: lambda: muster_here.until_all_are("refused")})
        assert await versions(query_database, people[0]) == [1, 2]

        async def restart() -> None:
            await muster_here.stop("relay", "project")
            await muster_here.start("relay", "project")
            await muster_here.until_all_are("refused")

        async def is_still_published_to() -> None:
            """The settings here name the new topic, the relay's do not yet."""
            refused = await muster(variables, "topics", "--delete", topics.events_topic)
            assert (refused.code, "the relay publishes to it" in refused.err) == (2, True)

        await muster_here.walk("change-the-number-of-partitions.md", {0: is_still_published_to, 1: restart})
        assert await versions(query_database, people[0]) == [1, 2]
        async with admin(kafka) as client:
            assert await partition_counts(client, [topics.events_topic, f"{topics.events_topic}.24"]) == {
                f"{topics.events_topic}.24": 24
            }
        await rename(api, people[1], "after")
        await muster_here.until_all_are("fed")


@dataclass(frozen=True)
class Region:
    """Brokers, of which the command database knows nothing once they are lost."""

    kafka: Kafka
    topics: Topics
    command_database: PostgresAddress
    variables: dict[str, str]

    async def lose(self) -> None:
        """As if all had been published there."""
        connection = await asyncpg.connect(**self.command_database.connect_arguments)
        try:
            await connection.execute("DELETE FROM outbox")
        finally:
            await connection.close()
        await lose_topic(self.kafka, self.topics.events_topic)
        await lose_topic(self.kafka, self.topics.relay_topic)

    def installed(self, **more: str) -> AbstractAsyncContextManager[Installation]:
        """Processes that use them."""
        return installed({**self.variables, **more}, self.topics.events_topic)


@pytest.fixture
def region(kafka: Kafka, topics: Topics, command_database: PostgresAddress, variables: dict[str, str]) -> Region:
    return Region(kafka, topics, command_database, variables)


@pytest.fixture
async def bare_database(servers: Servers) -> AsyncIterator[PostgresAddress]:
    """A query database with roles, and nothing in it."""
    name = f"muster_{uuid4().hex[:12]}"
    await create_database(servers, name, "template1")
    address = database_address(servers, name)
    await make_roles("query", address)
    yield address
    await drop_database(servers, name)


async def test_a_region_that_is_lost_is_made_anew_from_the_command_database(
    region: Region, bare_database: PostgresAddress, api: httpx.AsyncClient
) -> None:
    people = [await register(api, f"user{number}") for number in range(8)]
    assert (await api.delete(f"/users/{people[0]['id']}")).status_code == 204
    await region.lose()
    async with region.installed(QUERY_POSTGRES_DB=bare_database.database) as muster_here:

        async def start() -> None:
            await muster_here.start("relay", "project")

        await muster_here.walk("lose-a-region.md", {0: start, 1: lambda: muster_here.until_all_are("fed")})


async def test_a_query_database_that_is_kept_keeps_its_timelines_when_the_brokers_are_lost(
    region: Region, query_database: PostgresAddress, api: httpx.AsyncClient
) -> None:
    ann = await register(api, "ann")
    async with region.installed() as muster_here:
        await muster_here.start("relay", "project")
        await rename(api, ann, "before")
        await until_is_read(query_database, ann, [1, 2])
        await muster_here.stop("relay", "project")
        await region.lose()
        await muster_here.run(["topics"])
        await muster_here.start("relay", "project")
        await muster_here.until_all_are("refused")
        await muster_here.walk("refill-a-lost-topic.md")
        assert await versions(query_database, ann) == [1, 2]


async def versions(address: PostgresAddress, user: dict[str, Any]) -> list[int]:
    """Of the entries of a user in the timeline that serves."""
    connection = await asyncpg.connect(**address.connect_arguments)
    try:
        number = await connection.fetchval(
            "SELECT generation FROM generations WHERE projection = 'timeline' AND status = 'serving'"
        )
        rows = await connection.fetch(
            f"SELECT version FROM timeline_g{number} WHERE user_id = $1 ORDER BY version", user["id"]
        )
    finally:
        await connection.close()
    return [row["version"] for row in rows]


async def until_is_read(address: PostgresAddress, user: dict[str, Any], expected: list[int]) -> None:
    """Who is fed may be at the beginning."""

    async def is_read() -> bool:
        return await versions(address, user) == expected

    await until(is_read, within=60, what=f"versions {expected} to be in the timeline")
