"""The pages about disasters in docs/how-to: their commands, as they stand, lead to an audit without differences."""

import asyncio
import json
import re
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

import asyncpg
import httpx
import pytest

from chassis.kafka.client import admin, delete_topic, partition_counts
from chassis.settings import Kafka, PostgresAddress, Topics
from command_api.app import create_app
from local_stack.ports import free_port
from projectors.projections.catalogue import PROJECTIONS
from tests.forks import NOWHERE, Fork
from tests.integration.command_api.conftest import make_settings, register, serving
from tests.integration.muster_processes import Ended, environment, main, muster
from tests.waiting import until

HOW_TO = Path(__file__).parents[3] / "docs" / "how-to"
STOP_SECONDS = 30
#: What people do between two blocks of a page, by the number of the block before.
Between = Mapping[int, Callable[[], Awaitable[None]]]


def blocks(page: str) -> list[list[str]]:
    """The commands of a page."""
    found = re.findall(r"^ *```sh\n(.*?)^ *```", (HOW_TO / page).read_text(), re.DOTALL | re.MULTILINE)
    return [dedent(block).splitlines() for block in found]


class Installation:
    """Processes as operators run them, and a client of commands."""

    def __init__(self, variables: dict[str, str], topic: str) -> None:
        self.variables = variables
        #: What the pages call `users.events`.
        self.topic = topic
        self._processes: dict[str, Fork] = {}

    async def start(self, *names: str) -> None:
        for name in names:
            self._processes[name] = await Fork.start(main, name, environment=self.variables, out=NOWHERE, err=NOWHERE)

    async def stop(self, *names: str) -> None:
        for name in names:
            process = self._processes.pop(name)
            process.terminate()
            await asyncio.wait_for(process.wait(), STOP_SECONDS)

    async def close(self) -> None:
        await self.stop(*self._processes)

    async def states(self) -> set[str]:
        """Those of the generations that serve."""
        ended = await muster(self.variables, "lag", "--json")
        assert ended.code == 0, ended
        found = [one for one in json.loads(ended.out)["projections"] if one["status"] == "serving"]
        return {"behind" if one["state"] == "fed" and one["records"] else one["state"] for one in found}

    async def until_all_are(self, state: str) -> None:
        async def so() -> bool:
            return await self.states() == {state}

        await until(so, within=60, what=f"every projection to be {state}")

    async def walk(self, page: str, between: Between | None = None) -> None:
        """Do what the page says."""
        for number, lines in enumerate(blocks(page)):
            words = [shlex.split(line.replace("users.events", self.topic)) for line in lines]
            for _, assignment in (one for one in words if one[0] == "export"):
                name, _, value = assignment.partition("=")
                self.variables[name] = value
            commands = [one[1:] for one in words if one[0] == "muster"]
            # Each projection is built for itself.
            together = {tuple(command[:1]) for command in commands} == {("rebuild",)}
            if together:
                await asyncio.gather(*map(self._run, commands))
            else:
                for command in commands:
                    await self._run(command)
            if between and number in between:
                await between[number]()

    async def _run(self, command: list[str]) -> None:
        ended: Ended | None = None

        async def done() -> bool:
            nonlocal ended
            ended = await muster(self.variables, *command)
            return ended.code == 0 or "served until" not in ended.err

        await until(done, within=60, what="ten seconds after the switch")
        assert ended is not None
        assert ended.code == 0, (command, ended)
        if command == ["audit"]:
            assert ", 0 differences" in ended.out


@asynccontextmanager
async def installed(variables: dict[str, str], topic: str) -> AsyncIterator[Installation]:
    installation = Installation(variables, topic)
    try:
        yield installation
    finally:
        await installation.close()


@pytest.fixture
def variables(
    kafka: Kafka, topics: Topics, command_database: PostgresAddress, query_database: PostgresAddress
) -> dict[str, str]:
    return environment(
        kafka, topics, command_database, query_database,
        RELAY_HTTP_PORT=str(free_port()), PROJECTORS_HTTP_PORT=str(free_port()),
    )  # fmt: skip


@pytest.fixture
async def api(command_database: PostgresAddress) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(create_app(make_settings(command_database))) as client:
        yield client


async def rename(api: httpx.AsyncClient, user: dict[str, Any], name: str) -> None:
    answer = await api.put(f"/users/{user['id']}/username", json={"username": name})
    assert answer.status_code == 200, answer.text


async def lose(kafka: Kafka, topic: str) -> None:
    async with admin(kafka) as client:
        await delete_topic(client, topic)

        async def gone() -> bool:
            return not await partition_counts(client, [topic])

        await until(gone, within=15, what="the topic to be gone")


async def test_one_installation_through_a_lost_topic_a_checkpoint_ahead_and_other_partitions(
    kafka: Kafka, topics: Topics, query_database: PostgresAddress, variables: dict[str, str], api: httpx.AsyncClient
) -> None:
    people = [await register(api, f"user{number}") for number in range(8)]
    async with installed(variables, topics.events_topic) as muster_here:
        await muster_here.start("relay", "project")
        await rename(api, people[0], "before")
        assert (await api.delete(f"/users/{people[7]['id']}")).status_code == 204
        await muster_here.until_all_are("fed")

        # What nobody has read is lost with the topic: two changes, an erasure, and somebody new.
        await muster_here.stop("project")
        await rename(api, people[0], "lost")
        assert (await api.delete(f"/users/{people[6]['id']}")).status_code == 204
        people.append(await register(api, "newcomer"))
        await published(muster_here)
        await lose(kafka, topics.events_topic)
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

        await muster_here.walk("change-the-number-of-partitions.md", {1: restart})
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
    await lose(kafka, topics.events_topic)
    await lose(kafka, topics.relay_topic)
    async with installed(variables, topics.events_topic) as muster_here:

        async def start() -> None:
            await muster_here.start("relay", "project")

        await muster_here.walk("lose-a-region.md", {0: start, 1: lambda: muster_here.until_all_are("fed")})


async def published(installation: Installation) -> None:
    """Wait until nothing waits in the outbox."""

    async def empty() -> bool:
        ended = await muster(installation.variables, "lag", "--json")
        return bool(json.loads(ended.out)["outbox"]["events"] == 0)

    await until(empty, within=60, what="an empty outbox")


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
