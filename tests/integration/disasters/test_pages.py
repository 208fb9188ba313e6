"""The pages about disasters in docs/how-to: their commands, as they stand, lead to an audit without differences."""

from typing import Any

import asyncpg
import httpx

from chassis.kafka.client import admin, partition_counts
from chassis.settings import Kafka, PostgresAddress, Topics
from projectors.projections.catalogue import PROJECTIONS
from tests.integration.command_api.conftest import register
from tests.integration.disasters.installation import installed
from tests.integration.disasters.pages import lose_topic
from tests.integration.muster_processes import muster
from tests.waiting import until


async def rename(api: httpx.AsyncClient, user: dict[str, Any], name: str) -> None:
    answer = await api.put(f"/users/{user['id']}/username", json={"username": name})
    assert answer.status_code == 200, answer.text


async def test_one_installation_through_a_lost_topic_a_checkpoint_ahead_and_other_partitions(
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

        await go_ahead(query_database)
        await muster_here.until_all_are("refused")
        await muster_here.walk("mend-a-checkpoint-ahead.md")

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


async def test_a_region_that_is_lost_is_made_anew_from_the_command_database(
    kafka: Kafka,
    topics: Topics,
    command_database: PostgresAddress,
    api: httpx.AsyncClient,
    variables: dict[str, str],
) -> None:
    people = [await register(api, f"user{number}") for number in range(8)]
    assert (await api.delete(f"/users/{people[0]['id']}")).status_code == 204
    await forget_outbox(command_database)
    await lose_topic(kafka, topics.events_topic)
    await lose_topic(kafka, topics.relay_topic)
    async with installed(variables, topics.events_topic) as muster_here:

        async def start() -> None:
            await muster_here.start("relay", "project")

        await muster_here.walk("lose-a-region.md", {0: start, 1: lambda: muster_here.until_all_are("fed")})


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


async def go_ahead(address: PostgresAddress) -> None:
    """As if the brokers had lost what was read last."""
    connection = await asyncpg.connect(**address.connect_arguments)
    try:
        moved = await connection.execute(
            "UPDATE checkpoints SET position = position + 1000, record_offset = NULL, record_id = NULL"
        )
        assert moved == f"UPDATE {len(PROJECTIONS) * 12}"
    finally:
        await connection.close()


async def forget_outbox(address: PostgresAddress) -> None:
    """As if all had been published to the region that is lost."""
    connection = await asyncpg.connect(**address.connect_arguments)
    try:
        await connection.execute("DELETE FROM outbox")
    finally:
        await connection.close()
