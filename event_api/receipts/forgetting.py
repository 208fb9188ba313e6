"""The looks at the log: whether a person's events are gone once they should be, in the background, and then stored.

One process looks, once a day, and reads each partition once for all whom it may be about. Whoever is found there is
looked for again, until nothing of them is left. A process that hangs meanwhile loses its turn after IDLE_TIMEOUT,
whoever answers for it on the network.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from contextlib import aclosing
from datetime import timedelta
from typing import Final
from uuid import UUID

import asyncpg
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from chassis.kafka.reading import read_to_ends
from chassis.lifecycle import end_task
from chassis.outages import Outage, describe_unexpected
from chassis.postgres.database import NO_CONNECTION, Connection, describe, session
from chassis.settings import Kafka, PostgresAddress
from event_api.log.consuming import AWAY, identity, open_consumer
from event_api.log.continuity import bounds_of
from event_api.receipts.erasures import NOTE, NoReadTableError, erased_table

log = structlog.get_logger("erasures")

#: Two that look take turns; any number that nothing else locks.
_TURN: Final = 7461902115
_IS_OURS: Final = "SELECT pg_try_advisory_lock($1)"
#: The server ends the session that has the turn once it has said nothing for so long; it says something so often.
IDLE_TIMEOUT: Final = "6s"
WORD_SECONDS: Final = 1.5
#: Looks in the time within which the log forgets: of 10 days, one a day, because each may read all of the log.
_LOOKS: Final = 10
_LEAST_SECONDS, _MOST_SECONDS = 10.0, 86_400.0
#: Whether a look is due is asked so often at least: the process that looked last may have ended since.
_ASK_SECONDS: Final = 3600.0
#: The time for one partition: ten million records are read in it. What another one's look found is stored by then.
PARTITION_SECONDS: Final = 3600.0
#: One look is about so many; the others wait for the next.
MOST_AT_ONCE: Final = 10_000
#: The first look may note all who were ever erased.
_NOTE_SECONDS: Final = 600.0

_OUTAGES: Final[tuple[type[Exception], ...]] = (*AWAY, *NO_CONNECTION, asyncpg.PostgresError, NoReadTableError)
_RECENT: Final = "SELECT EXISTS (SELECT FROM erasure_looks WHERE looked_at > now() - $1::interval)"
_DUE: Final = """
FROM erasure_looks l JOIN {erased} e ON e.id = l.user_id AND e.topic_id = l.topic_id
WHERE l.forgotten IS NOT TRUE AND l.expected_by < now() AND e.topic = $1
"""
_LOGS: Final = f"SELECT DISTINCT e.topic_id {_DUE}"
_WHO: Final = f"""
SELECT e.id, e.partition {_DUE} AND e.topic_id = $2 ORDER BY l.looked_at NULLS FIRST, l.expected_by LIMIT $3
"""
_LOOKED: Final = """
UPDATE erasure_looks l SET looked_at = now(), forgotten = i.forgotten
FROM unnest($1::uuid[], $2::boolean[]) AS i (user_id, forgotten) WHERE l.user_id = i.user_id AND l.topic_id = $3
"""


class Looks:
    """Looks at one topic, again and again."""

    def __init__(self, database: PostgresAddress, kafka: Kafka, topic: str, wait: timedelta) -> None:
        """`wait` is within what time the log forgets."""
        self._database, self._kafka, self._topic, self._wait = database, kafka, topic, wait
        self._seconds = min(max(wait.total_seconds() / _LOOKS, _LEAST_SECONDS), _MOST_SECONDS)

    async def run(self) -> None:
        """Look until cancelled."""
        outage = Outage(log, "erasures.look_failed", "erasures.look_works")
        while True:
            try:
                await self.take_turn()
            except _OUTAGES as error:
                outage.failed(describe(error))
            except Exception as error:
                # Streams go on, whatever is wrong with a side job.
                log.exception("erasures.unexpected_error")
                outage.failed(describe_unexpected(error))
            else:
                outage.over()
            await asyncio.sleep(min(self._seconds, _ASK_SECONDS))

    async def take_turn(self) -> bool:
        """Look, if one is due and nobody else does; False when somebody else does."""
        application = "muster event API looks"
        # A session of its own: what the look asks may take longer than a word may be late.
        async with session(self._database, application=application, idle_session_timeout=IDLE_TIMEOUT) as turn:
            if not await turn.fetchval(_IS_OURS, _TURN):
                return False
            looking = asyncio.create_task(self._look_if_due())
            try:
                while not (await asyncio.wait([looking], timeout=WORD_SECONDS))[0]:
                    await turn.fetchval("SELECT 1")
            finally:
                # The look is lost with the turn.
                await end_task(looking)
        return True

    async def _look_if_due(self) -> None:
        async with session(self._database, application="muster event API looks") as connection:
            if not await self._was_looked(connection):
                await self.look(connection)

    async def look(self, connection: Connection) -> None:
        """Look for everybody whose time has come, once; each partition's answer is stored as soon as it is there."""
        table = await erased_table(connection)
        await connection.execute(NOTE.format(erased=table), None, self._wait, timeout=_NOTE_SECONDS)
        logs = {row["topic_id"] for row in await connection.fetch(_LOGS.format(erased=table), self._topic)}
        if not logs:
            return
        async with open_consumer(self._kafka, self._topic, isolation="read_uncommitted") as (consumer, partitions):
            topic_id = await identity(consumer, self._topic)
            if topic_id not in logs:
                return
            due: dict[int, list[UUID]] = defaultdict(list)
            for row in await connection.fetch(_WHO.format(erased=table), self._topic, topic_id, MOST_AT_ONCE):
                due[row["partition"]].append(row["id"])
            for number, ids in sorted(due.items()):
                left = await self._left(consumer, partitions[number], ids)
                # A topic that was made again meanwhile has other records at these offsets.
                if left is None or await identity(consumer, self._topic) != topic_id:
                    continue
                await connection.execute(_LOOKED, ids, [each not in left for each in ids], topic_id)
                log.info("erasures.looked", partition=number, looked_for=len(ids), left=len(left))

    async def _was_looked(self, connection: Connection) -> bool:
        recent: bool = await connection.fetchval(_RECENT, timedelta(seconds=self._seconds))
        return recent

    async def _left(
        self, consumer: AIOKafkaConsumer, partition: TopicPartition, ids: Sequence[UUID]
    ) -> set[UUID] | None:
        """Those who have a record with a value, one of an aborted transaction too; None where it takes too long."""
        try:
            async with asyncio.timeout(PARTITION_SECONDS) as limit:
                return await _read(consumer, partition, ids)
        except TimeoutError:
            if not limit.expired():
                # A broker that does not answer: the whole look has failed.
                raise
            log.warning("erasures.look_too_long", partition=partition.partition, limit_seconds=PARTITION_SECONDS)
            return None
        finally:
            consumer.pause(partition)


async def _read(consumer: AIOKafkaConsumer, partition: TopicPartition, ids: Sequence[UUID]) -> set[UUID]:
    wanted = {str(each).encode(): each for each in ids}
    left: set[UUID] = set()
    bounds = await bounds_of(consumer, [partition])
    consumer.seek(partition, bounds.starts[0])
    consumer.resume(partition)
    async with aclosing(read_to_ends(consumer, {partition: bounds.ends[0]})) as reading:
        async for records in reading:
            left |= {wanted[each.key] for each in records if each.value is not None and each.key in wanted}
    return left
