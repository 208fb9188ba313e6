"""Whose turn it is to look at the log: a process that hangs in its look loses it, and one that works keeps it."""

import asyncio
import signal
import time
from datetime import timedelta

from chassis.postgres.database import Connection, connect, disconnect
from chassis.settings import Kafka, PostgresAddress
from event_api.receipts import forgetting
from event_api.receipts.forgetting import Looks
from tests.forks import Fork
from tests.waiting import until

IDLE_SECONDS = 2
#: The server's session has the turn, and has had it for longer than it may be silent.
KEPT = """
SELECT EXISTS (
    SELECT FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND granted AND datname = current_database() AND backend_start < now() - $1::interval
)
"""


class _NeverDone(Looks):
    async def look(self, connection: Connection) -> None:
        await connection.fetchval("SELECT 1")
        await asyncio.Event().wait()


def look_for_ever(database: PostgresAddress, kafka: Kafka) -> None:
    """A process that has the turn until it is ended."""
    forgetting.IDLE_TIMEOUT, forgetting.WORD_SECONDS = f"{IDLE_SECONDS}s", 0.2  # type: ignore[misc] # a constant elsewhere
    asyncio.run(_NeverDone(database, kafka, "users.events", timedelta(days=10)).take_turn())


async def test_a_process_that_hangs_in_its_look_loses_its_turn(kafka: Kafka, query_database: PostgresAddress) -> None:
    other = Looks(query_database, kafka, "users.events", timedelta(days=10))
    watching = await connect(query_database, application="test")
    holder = await Fork.start(look_for_ever, query_database, kafka)
    try:

        async def kept() -> bool:
            return bool(await watching.fetchval(KEPT, timedelta(seconds=1.5 * IDLE_SECONDS)))

        await until(kept, within=30, what="a turn that outlasts the silence that ends it")
        assert not await other.take_turn(), "it has the turn as long as it says something"
        holder.send_signal(signal.SIGSTOP)
        frozen = time.monotonic()
        await until(other.take_turn, within=15, what="the turn of another process")
        assert time.monotonic() - frozen > IDLE_SECONDS / 2, "the holder did not hang but was dead"
    finally:
        holder.kill()
        await holder.wait()
        await disconnect(watching)


async def test_a_look_ends_with_its_turn(kafka: Kafka, query_database: PostgresAddress) -> None:
    """Whoever wakes after its turn is over does not look on beside the next."""
    watching = await connect(query_database, application="test")
    looking = asyncio.create_task(_NeverDone(query_database, kafka, "users.events", timedelta(days=10)).take_turn())
    try:
        await until(lambda: watching.fetchval(KEPT, timedelta(0)), within=30, what="a turn")
        await watching.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid)"
            " WHERE locktype = 'advisory' AND datname = current_database()"
        )
        await asyncio.wait([looking], timeout=10)
        assert looking.done()
        assert looking.exception() is not None
    finally:
        looking.cancel()
        await asyncio.wait([looking])
        await disconnect(watching)
