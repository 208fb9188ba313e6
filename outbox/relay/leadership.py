"""Leadership: for each database one relay is active; it holds a session advisory lock on a connection of its own.

PostgreSQL releases the lock when that connection ends: at once when the process dies, after IDLE_TIMEOUT when it or its
host hangs, whoever answers for it on the network (a kernel, a proxy, a pooler). No clocks are compared. A standby asks
again and again and does not wait inside the lock function: a statement that waits for hours holds a snapshot, and keeps
vacuum off the table that the relay empties.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import structlog

from chassis.lifecycle import alongside, wait_for_event
from chassis.postgres.database import connect, describe, disconnect
from chassis.settings import PostgresAddress

log = structlog.get_logger("outbox.relay")

#: The lock's key, "must" and "outb" in ASCII. Advisory locks are per database, and so is the outbox.
_CLASS: Final = 0x6D757374
_OBJECT: Final = 0x6F757462
#: The server ends a lock's session that has said nothing for so long. With the standby's poll and start a take-over
#: takes well under 10 s. A network that is silent for as long costs one take-over, nothing else.
IDLE_TIMEOUT: Final = "6s"
#: The leader says something on it this often, four times in that time.
WORD_SECONDS: Final = 1.5
#: The server tells who holds the lock in a millisecond; one that takes longer than this counts as having lost it.
LOCK_SECONDS: Final = 5.0

_TRY: Final = "SELECT pg_try_advisory_lock($1, $2)"
_HELD: Final = """
SELECT EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND classid = $1 AND objid = $2 AND objsubid = 2 AND granted
)
"""
_LEADER: Final = """
SELECT application_name, client_addr::text AS address,
    extract(epoch FROM clock_timestamp() - backend_start)::float8 AS seconds
FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND classid = $1 AND objid = $2 AND objsubid = 2 AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
#: The application name of the lock's session; the process that holds it follows.
LOCK_APPLICATION: Final = "muster relay lock"


class LeadershipLostError(Exception):
    """The lock is no longer held for certain: another relay may be active."""


class Leadership:
    """The lock and its connection; `close` releases both."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        """Use `open`."""
        self._connection = connection
        #: One statement at a time: the next word may be due while the lock is proven.
        self._turn = asyncio.Lock()
        #: Set once the lock's connection has ended.
        self.lost = asyncio.Event()
        connection.add_termination_listener(lambda _: self.lost.set())

    @classmethod
    async def open(cls, address: PostgresAddress) -> Leadership:
        """Connect; the lock is not asked for yet."""
        application = f"{LOCK_APPLICATION} {instance()}"
        return cls(await connect(address, application=application, idle_session_timeout=IDLE_TIMEOUT))

    async def acquire(self) -> bool:
        """Take the lock if it is free."""
        got: bool = await self._ask(_TRY, _CLASS, _OBJECT)
        return got

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Keep the lock's session awake for the block; a process that hangs does not."""
        async with alongside(self._keep_awake()):
            yield

    async def _keep_awake(self) -> None:
        while not await wait_for_event(self.lost, WORD_SECONDS):
            try:
                await self._ask("SELECT 1")
            except Exception as error:  # noqa: BLE001 - whatever it is, the lock is not held for certain
                log.warning("relay.lock_lost", reason=describe(error))
                self.lost.set()

    async def prove(self) -> None:
        """Ask the server, on the lock's own connection, whether the lock is still held.

        Raises:
            LeadershipLostError: it is not, nobody answers, or a word on it was refused before: then nothing keeps the
                session awake any more.
        """
        if self.lost.is_set():
            raise LeadershipLostError("the lock's session is not kept awake any more")
        try:
            held = await self._ask(_HELD, _CLASS, _OBJECT)
        except Exception as error:
            raise LeadershipLostError("the lock's connection does not answer") from error
        if not held:
            raise LeadershipLostError("the lock is gone")

    async def _ask(self, statement: str, *arguments: int) -> Any:
        async with self._turn:
            return await self._connection.fetchval(statement, *arguments, timeout=LOCK_SECONDS)

    async def close(self) -> None:
        """Release the lock, so that a standby need not wait for anything."""
        await disconnect(self._connection)


@dataclass(frozen=True, slots=True)
class Leader:
    """The relay that holds the lock: its host and process id, its address, and seconds since it connected.

    PostgreSQL tells the last two to the relay's own role and to members of pg_read_all_stats; to others they are None.
    """

    instance: str
    address: str | None
    seconds: float | None


async def read_leader(connection: Any) -> Leader | None:
    """The leader as the database knows it; None if nobody leads."""
    row = await connection.fetchrow(_LEADER, _CLASS, _OBJECT, timeout=LOCK_SECONDS)
    if row is None:
        return None
    return Leader(row["application_name"].removeprefix(LOCK_APPLICATION).strip(), row["address"], row["seconds"])


def instance() -> str:
    """This process for people who look for it: host and process id, cut to what PostgreSQL keeps of a name."""
    return f"{socket.gethostname()[:30]}:{os.getpid()}"
