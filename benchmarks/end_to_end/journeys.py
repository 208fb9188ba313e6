"""Journeys: somebody's profile is changed, and four clocks are read until the change is seen.

`committed` is when the answer to the command has come, which leaves after the commit; `topic` when a read_committed
consumer has the event; `row` when the projector has announced its commit; `visible` when a query that carries the
command's token is answered. What came before the answer to the command counts as nothing. The event's own timestamp,
made when the relay hands it to its producer, parts the relay from Kafka.
"""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg
from aiokafka import AIOKafkaConsumer

from benchmarks.end_to_end.client import Client
from benchmarks.population import user_id
from benchmarks.running.load import request
from benchmarks.running.servers import Servers
from chassis.kafka.client import client_arguments
from chassis.settings import Topics
from read_model.users import SCHEMA

#: How long a query may wait for its version; far longer than what is measured.
WAIT_SECONDS: Final = 10
#: For changes that are under way when the last command has been sent.
LAST_SECONDS: Final = 30.0
#: The first journeys all begin at once; after this they have spread.
RAMP_SECONDS: Final = 0.5
#: Every fiftieth user is deactivated, and cannot be changed.
DEACTIVATED_EVERY: Final = 50
#: Coprime to any number of users used here, so steps of this size reach all of them, far apart.
STRIDE: Final = 7_919


class JourneyError(Exception):
    """A journey failed, so the measurement means nothing."""


@dataclass(slots=True)
class Journey:
    """The times of one change, in seconds since the epoch; 0 where it was not seen."""

    due: float
    committed: float = 0.0
    sent: float = 0.0
    topic: float = 0.0
    row: float = 0.0
    visible: float = 0.0

    def milliseconds(self) -> dict[str, float]:
        """Return the stages, each from the end of the one before, and the whole since the commit."""
        sent = max(self.committed, self.sent)
        topic = max(sent, self.topic)
        row = max(topic, self.row)
        return {
            "command": (self.committed - self.due) * 1000,
            "relay": (sent - self.committed) * 1000,
            "Kafka": (topic - sent) * 1000,
            "projector": (row - topic) * 1000,
            "query": max(0.0, self.visible - row) * 1000,
            "on the topic": (topic - self.committed) * 1000,
            "in the read table": (row - self.committed) * 1000,
            "visible": (self.visible - self.committed) * 1000,
        }


@dataclass(slots=True)
class Travellers:
    """Starts journeys, and is told where each has got to."""

    command: Client
    query: Client
    users: int
    under_way: dict[str, Journey] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def somebody(self) -> str:
        """Return the next user to be changed; skip those whose change is under way."""
        while True:
            number = next(self._numbers) * STRIDE % self.users + 1
            found = str(user_id(number))
            if number % DEACTIVATED_EVERY and found not in self.under_way:
                return found

    async def travel(self, due: float) -> Journey:
        """Change somebody's profile and wait until it is seen.

        Raises:
            JourneyError: the command or the query was refused.
        """
        user, journey = self.somebody(), Journey(due)
        self.under_way[user] = journey
        try:
            document = {"display_name": f"Seen at {due:.6f}"}
            changed = await self.command.ask(request(f"/users/{user}/profile", method="PATCH", document=document))
            journey.committed = time.time()
            if changed.status != 200:
                raise JourneyError(f"the command API answered {changed.status}")
            token = changed.header(b"consistency-token").decode()
            headers = (f"consistency-token: {token}", f"prefer: wait={WAIT_SECONDS}")
            seen = await self.query.ask(request(f"/users/{user}", *headers))
            journey.visible = time.time()
            if seen.status != 200:
                raise JourneyError(f"the query API answered {seen.status}")
        finally:
            del self.under_way[user]
        return journey

    def came(self, key: str, sent: float, now: float) -> None:
        """Note an event that was read from the topic."""
        journey = self.under_way.get(key)
        if journey and not journey.topic:
            journey.sent, journey.topic = sent, now

    def moved(self, payload: str, now: float) -> None:
        """Note rows that were announced; without names, all that are on the topic."""
        for key in payload.split(" ") if payload else list(self.under_way):
            journey = self.under_way.get(key)
            if journey and not journey.row and (payload or journey.topic):
                journey.row = now

    async def at_rate(self, rate: float, seconds: float) -> Sequence[Journey]:
        """Run journeys that begin at fixed times, whatever became of those before."""
        start, tasks = time.time(), []
        async with asyncio.timeout(seconds + LAST_SECONDS), asyncio.TaskGroup() as group:
            for number in range(max(1, int(rate * seconds))):
                due = start + number / rate
                await asyncio.sleep(max(0.0, due - time.time()))
                tasks.append(group.create_task(self.travel(due)))
        return [task.result() for task in tasks]

    async def at_peak(self, travellers: int, seconds: float) -> float:
        """Journeys a second when each of so many begins the next one as soon as the last was seen, once all travel."""
        start = time.time() + RAMP_SECONDS
        end, done = start + seconds, 0

        async def one_after_the_other() -> None:
            nonlocal done
            while (now := time.time()) < end:
                await self.travel(now)
                done += start <= time.time() < end

        async with asyncio.timeout(seconds + LAST_SECONDS), asyncio.TaskGroup() as group:
            for _ in range(travellers):
                group.create_task(one_after_the_other())
        return done / seconds


@asynccontextmanager
async def watched(servers: Servers, travellers: Travellers) -> AsyncIterator[None]:
    """Listen to topic and rows for the time of the block."""
    async with _topic(servers, travellers), servers.session("query") as connection:

        def moved(_: Any, __: int, ___: str, payload: object) -> None:
            travellers.moved(str(payload), time.time())

        await connection.add_listener(SCHEMA.channel, moved)
        yield
        await _stop_listening(connection, moved)


async def _stop_listening(connection: asyncpg.Connection, moved: Any) -> None:
    await connection.remove_listener(SCHEMA.channel, moved)


@asynccontextmanager
async def _topic(servers: Servers, travellers: Travellers) -> AsyncIterator[None]:
    settings = servers.kafka_settings
    consumer = AIOKafkaConsumer(
        servers.settings(Topics).events_topic,
        **client_arguments(settings),
        isolation_level="read_committed",
        auto_offset_reset="latest",
    )
    await consumer.start()

    async def follow() -> None:
        async for record in consumer:
            travellers.came(record.key.decode(), record.timestamp / 1000, time.time())

    following = asyncio.create_task(follow())
    try:
        yield
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        await consumer.stop()
