"""The looks at the log: whether a person's events are gone once they should be, in the background, and then stored.

One process at a time looks, and reads each partition once for all whom it may be about. Whoever is found there is
looked for again, until nothing of them is left.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

import structlog

from chassis.outages import Outage
from chassis.postgres.database import Connection, describe, session
from chassis.settings import Kafka, PostgresAddress
from event_api.log.backlog import FETCH_MS
from event_api.log.consuming import ends_of, open_consumer, position_of, starts_of
from event_api.receipts.erasures import NOTE, erased_table

log = structlog.get_logger("erasures")

#: Two that look take turns; any number that nothing else locks.
_TURN: Final = 7461902115
_IS_OURS: Final = "SELECT pg_try_advisory_lock($1)"
#: Looks in the time within which the log forgets: of 10 days, one an hour.
_ROUNDS: Final = 240
_LEAST_SECONDS, _MOST_SECONDS = 10.0, 3600.0
#: So many rounds pass before somebody who was found is looked for again.
_PATIENCE: Final = 24
#: A topic of a hundred million records is read in it.
LOOK_SECONDS: Final = 3600.0
#: Of one round; the others wait for the next.
MOST_AT_ONCE: Final = 10_000
#: The first round may note all who were ever erased.
_NOTE_SECONDS: Final = 600.0

_DUE: Final = """
SELECT e.id, e.partition FROM erasure_looks l JOIN {erased} e ON e.id = l.user_id
WHERE l.forgotten IS NOT TRUE AND l.expected_by < now() AND (l.looked_at IS NULL OR l.looked_at < now() - $1::interval)
    AND e.topic = $2
ORDER BY l.expected_by LIMIT $3
"""
_LOOKED: Final = """
UPDATE erasure_looks l SET looked_at = now(), forgotten = i.forgotten
FROM unnest($1::uuid[], $2::boolean[]) AS i (user_id, forgotten) WHERE l.user_id = i.user_id
"""

Wanted = Mapping[int, set[bytes]]


class Looks:
    """Looks at one topic, again and again."""

    def __init__(self, database: PostgresAddress, kafka: Kafka, topic: str, wait: timedelta) -> None:
        """`wait` is within what time the log forgets."""
        self._database, self._kafka, self._topic, self._wait = database, kafka, topic, wait
        self._seconds = min(max(wait.total_seconds() / _ROUNDS, _LEAST_SECONDS), _MOST_SECONDS)

    async def run(self) -> None:
        """Look until cancelled."""
        outage = Outage(log, "erasures.look_failed", "erasures.look_works")
        while True:
            try:
                async with session(self._database, application="muster event API looks") as connection:
                    if await connection.fetchval(_IS_OURS, _TURN):
                        await self.look(connection)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with a side job, streams go on
                outage.failed(describe(error))
            else:
                outage.over()
            await asyncio.sleep(self._seconds)

    async def look(self, connection: Connection) -> None:
        """Look for everybody whose time has come, once."""
        table = await erased_table(connection)
        await connection.execute(NOTE.format(erased=table), None, self._wait, timeout=_NOTE_SECONDS)
        again = timedelta(seconds=self._seconds * _PATIENCE)
        due = await connection.fetch(_DUE.format(erased=table), again, self._topic, MOST_AT_ONCE)
        if not due:
            return
        wanted: dict[int, set[bytes]] = defaultdict(set)
        for row in due:
            wanted[row["partition"]].add(_key(row["id"]))
        async with asyncio.timeout(LOOK_SECONDS):
            left = await self._left(wanted)
        found = [_key(row["id"]) in left for row in due]
        await connection.execute(_LOOKED, [row["id"] for row in due], [not each for each in found])
        log.info("erasures.looked", looked_for=len(due), left=sum(found))

    async def _left(self, wanted: Wanted) -> set[bytes]:
        """The keys that have a record with a value in it, one of an aborted transaction too."""
        left: set[bytes] = set()
        async with open_consumer(self._kafka, self._topic, isolation="read_uncommitted") as (consumer, partitions):
            for number, keys in sorted(wanted.items()):
                partition = partitions[number]
                [start], [end] = await starts_of(consumer, [partition]), await ends_of(consumer, [partition])
                consumer.seek(partition, start)
                consumer.resume(partition)
                while position_of(consumer, partition) < end:
                    fetched = await consumer.getmany(partition, timeout_ms=FETCH_MS)
                    for record in fetched.get(partition, ()):
                        if record.value is not None and record.key in keys:
                            left.add(record.key)
                consumer.pause(partition)
        return left


def _key(user_id: object) -> bytes:
    return str(user_id).encode()
