"""Filling a topic again: a snapshot of each living user and the tombstones of the erased, through the outbox, by pages.

Each page is one transaction, which also notes how far it is: whoever is killed goes on there. The next page waits until
the one before the last is published, so that events of commands, which flow meanwhile, wait behind two pages at most.
Whoever registers meanwhile is published by that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from chassis.lifecycle import wait_for_event
from chassis.postgres.database import Connection, Database
from chassis.postgres.errors import begun_again
from command_api.republication import Operation, append_present

#: Users of one page: their rows are locked for some tens of milliseconds, in which a command on one of them waits.
PAGE_USERS: Final = 500
#: The pause between two looks whether a page is published; a relay takes milliseconds for it.
LOOK_SECONDS: Final = 0.05

# The relay that leads publishes to the topic that was led last. The lock keeps two refills from doing one page both.
_PLACE: Final = "SELECT name, refilling, refilled_to FROM published_topics ORDER BY led_at DESC LIMIT 1 FOR UPDATE"
_BEGIN: Final = """
UPDATE published_topics SET refilling = $2, refilled_to = CASE WHEN refilling = $2 THEN refilled_to END WHERE name = $1
RETURNING refilled_to
"""
_NOTE: Final = "UPDATE published_topics SET refilled_to = $2 WHERE name = $1"
_END: Final = (
    "UPDATE published_topics SET refilling = NULL, refilled_to = NULL WHERE name = $1 AND refilling = $2 RETURNING name"
)
# The erased are looked for up to the end of a full page of users alone: of a million erased long ago none would be
# found.
_NEXT: Final = """
WITH living AS MATERIALIZED (SELECT id FROM users WHERE id > $1 ORDER BY id LIMIT $2)
SELECT id FROM (
    SELECT id FROM living
    UNION ALL (
        SELECT id FROM erased_users WHERE id > $1 AND erased_at > $3
            AND id <= coalesce(
                (SELECT id FROM living ORDER BY id OFFSET $2 - 1), 'ffffffff-ffff-ffff-ffff-ffffffffffff'
            )
        ORDER BY id LIMIT $2
    )
) AS known ORDER BY id LIMIT $2
"""
# Nothing is published of a user with a row set aside until somebody decides, and then all of it.
_WAITING: Final = """
SELECT count(*) FROM outbox WHERE id = ANY($1::bigint[]) AND subject_id NOT IN (SELECT subject_id FROM outbox_set_aside)
"""


class CannotRefillError(Exception):
    """The topic is not the one that is published to; the message says what to do."""


@dataclass(slots=True)
class Refilled:
    """The progress of a refill."""

    #: Snapshots and tombstones that it appended, and how many of these are not published yet.
    appended: int = 0
    waiting: int = 0
    #: Since when nothing was published, by the monotonic clock; None: nothing waits.
    stalled_since: float | None = None


class Refill:
    """One refill of one topic; `run` it once."""

    def __init__(  # noqa: PLR0913 - what a refill is made of
        self,
        database: Database,
        topic: str,
        topic_id: UUID,
        *,
        look: Callable[[], Awaitable[UUID | None]],
        erased_since: datetime,
        operation: Operation,
    ) -> None:
        """The topic is known by its id, too: one that was deleted and made again is filled from the beginning.

        `look` asks the brokers which topic has the name now. Tombstones are published of those who were erased after
        `erased_since`.
        """
        self.progress = Refilled()
        self._database = database
        self._topic = topic
        self._topic_id = topic_id
        self._look = look
        self._erased_since = erased_since
        self._operation = operation

    async def run(self, stopping: asyncio.Event, report: Callable[[Refilled], None]) -> bool:
        """Append everybody and wait until all are published; False when told to stop before.

        Raises:
            CannotRefillError: the relay publishes to another topic, or another refill came between; or the topic was
                deleted meanwhile, and with it what was published there.
            DatabaseUnavailableError, asyncpg.PostgresError: the database is away; the next call goes on there.
        """
        before = await self._begin()
        while page := await self._append_page():
            self.progress.appended += len(page)
            if not await self._published(before, stopping, report):
                return False
            before = page
        if not await self._published(before, stopping, report):
            return False
        await self._refuse_another_topic()
        await self._end()
        return True

    @begun_again
    async def _begin(self) -> Collection[int]:
        """The rows that wait in the outbox, of a refill that was killed."""
        async with self._database.connection() as connection, connection.transaction():
            await self._place(connection)
            if await connection.fetchval(_BEGIN, self._topic, self._topic_id) is None:
                return ()
            return [row["id"] for row in await connection.fetch("SELECT id FROM outbox")]

    @begun_again
    async def _append_page(self) -> Collection[int]:
        """The outbox ids of the next page; empty after the last."""
        async with self._database.connection() as connection, connection.transaction():
            place = await self._place(connection)
            if place["refilling"] != self._topic_id:
                raise self._came_between()
            start = place["refilled_to"] or UUID(int=0)
            rows = await connection.fetch(_NEXT, start, PAGE_USERS, self._erased_since)
            if not rows:
                return ()
            ids = [row["id"] for row in rows]
            appended = await append_present(connection, ids, self._operation)
            await connection.execute(_NOTE, self._topic, ids[-1])
        return appended.values()

    async def _refuse_another_topic(self) -> None:
        """Refuse once all is published: ids never come back, so a topic that is the same now was it all the time."""
        now = await self._look()
        if now == self._topic_id:
            return
        made = "is gone: `muster topics` makes another" if now is None else "was made again"
        raise CannotRefillError(
            f"{self._topic} {made} while it was filled, and what was published before is lost: `muster events refill`,"
            " run again, fills the topic that is there then from the beginning"
        )

    @begun_again
    async def _end(self) -> None:
        async with self._database.connection() as connection, connection.transaction():
            # A relay that has begun to lead with another topic meanwhile has published the last page there.
            await self._place(connection)
            ended = await connection.fetchval(_END, self._topic, self._topic_id)
        if ended is None:
            raise self._came_between()

    def _came_between(self) -> CannotRefillError:
        """The place is another refill's: with two hands on it, some users would be left out."""
        return CannotRefillError(
            f"another refill of {self._topic} has begun or ended meanwhile: run one at a time; `muster events refill`,"
            " run again, fills the topic that is there now"
        )

    async def _place(self, connection: Connection) -> asyncpg.Record:
        """The topic, and the user up to whom everybody is appended."""
        place = await connection.fetchrow(_PLACE)
        if place is None or place["name"] != self._topic:
            led = "no relay has led yet" if place is None else f"the relay publishes to {place['name']}"
            raise CannotRefillError(f"{led}: start the relay with EVENTS_TOPIC={self._topic}, then refill")
        return place

    async def _published(
        self, page: Collection[int], stopping: asyncio.Event, report: Callable[[Refilled], None]
    ) -> bool:
        """Wait until the rows of a page have left the outbox; False when told to stop before."""
        progress, ids = self.progress, list(page)
        while True:
            async with self._database.connection() as connection:
                waiting = await connection.fetchval(_WAITING, ids)
            if waiting != progress.waiting or not waiting:
                progress.stalled_since = time.monotonic() if waiting else None
            progress.waiting = waiting
            report(progress)
            if not waiting:
                return True
            if await wait_for_event(stopping, LOOK_SECONDS):
                return False
