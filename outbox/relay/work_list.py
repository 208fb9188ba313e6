"""Reading and shrinking the outbox: pages in id order, deletion of what is published.

One connection and one relay; every call has a deadline. A page is bounded in rows and in bytes, so a backlog of any
size drains in bounded memory. A page read while a batch is in flight leaves out that batch by name, never by `id >
last`: a row that commits late has a lower id and would be passed over.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

import asyncpg
import structlog

from chassis.postgres.database import connect, disconnect
from chassis.settings import PostgresAddress
from outbox.relay.floor import Floor
from outbox.relay.metrics import BELOW_FLOOR

log = structlog.get_logger("outbox.work_list")

#: A page of thousands of rows takes tens of milliseconds; a server that stalls longer is treated as gone.
STATEMENT_SECONDS: Final = 15.0
#: How often the floor may move: each look at the snapshot is a round trip, and nothing is lost by a lower floor.
FLOOR_SECONDS: Final = 0.1
#: How often the whole table is swept for rows below the floor, which cannot be there.
SWEEP_SECONDS: Final = 60.0
#: What a row costs in memory and on the wire beside its value and headers, roughly: key, ids, Python objects.
ROW_BYTES: Final = 256

# The inner query is bounded before anything else happens, so the anti-join is over a page, not over the table; the
# window adds up sizes from TOAST pointers and never reads a value that is cut off. The first row is always taken.
# date_part, not extract, which calculates in numeric; ROWS, for the default frame looks for peers: a third of the page.
_PAGE: Final = f"""
SELECT id, event_id::text, user_id::text, value, headers, date_part('epoch', appended_at) AS appended_at, total
FROM (
    SELECT o.*, sum(coalesce(octet_length(value), 0) + octet_length(headers) + {ROW_BYTES})
        OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) AS total
    FROM (SELECT * FROM outbox WHERE id > $1 ORDER BY id LIMIT $2) AS o
    WHERE NOT EXISTS (SELECT FROM unnest($3::bigint[]) AS flying(id) WHERE flying.id = o.id)
) AS page
WHERE total - coalesce(octet_length(value), 0) - octet_length(headers) - {ROW_BYTES} < $4
ORDER BY id
LIMIT $5
"""  # noqa: S608 - a constant of ours
_SNAPSHOT: Final = """
SELECT pg_snapshot_xmin(s)::text::bigint AS xmin, pg_snapshot_xmax(s)::text::bigint AS xmax
FROM pg_current_snapshot() AS s
"""
_DELETE: Final = "DELETE FROM outbox WHERE id = ANY($1::bigint[])"
_FIND: Final = "SELECT id, event_id::text FROM outbox WHERE id = ANY($1::bigint[]) ORDER BY id"
_IDENTITY: Final = """
SELECT (SELECT system_identifier FROM pg_control_system())::text || '/' || current_database()
"""


class WorkListError(Exception):
    """The outbox did not hold what the relay had read from it: somebody else deletes from it."""


#: One event of the work list, columns as _PAGE selects them: read by key, because a tuple of our own for each of
#: thousands costs more than the publishing of it. Ids come as text, which is how they are published, `appended_at` as
#: seconds since the epoch, `total` as bytes of this and all rows before it.
Row = asyncpg.Record


class WorkList:
    """The outbox as its one reader sees it."""

    def __init__(self, connection: asyncpg.Connection[Any], *, page_rows: int, page_bytes: int) -> None:
        """Use `open`."""
        self._connection = connection
        self._page_rows = page_rows
        self._page_bytes = page_bytes
        self._floor = Floor()
        #: Whether the last page was cut: then there is a backlog, and reading ahead pays.
        self.more = False
        # One statement at a time: a page may be read ahead while another is to be deleted.
        self._turn = asyncio.Lock()
        self._floor_due = 0.0
        self._sweep_due = time.monotonic() + SWEEP_SECONDS

    @classmethod
    async def open(cls, address: PostgresAddress, *, page_rows: int, page_bytes: int) -> WorkList:
        """Connect; the caller closes."""
        connection = await connect(address, application="muster relay")
        return cls(connection, page_rows=page_rows, page_bytes=page_bytes)

    async def close(self) -> None:
        """Give the connection back to the server."""
        await disconnect(self._connection)

    async def identity(self) -> str:
        """Which database this is: the cluster's system identifier and the database's name."""
        identity: str = await self._connection.fetchval(_IDENTITY, timeout=STATEMENT_SECONDS)
        return identity

    async def page(self, flying: Sequence[int] = ()) -> list[Row]:
        """The next rows in id order without those in flight; empty when there is nothing to publish."""
        async with self._turn:
            return await self._page(flying)

    async def _page(self, flying: Sequence[int]) -> list[Row]:
        now = time.monotonic()
        if now >= self._sweep_due:
            await self._sweep(flying)
            self._sweep_due = now + SWEEP_SECONDS
        # Within a backlog at every page: under a held snapshot each row that was deleted since is looked at again.
        if self.more or now >= self._floor_due:
            await self._observe()
            self._floor_due = now + FLOOR_SECONDS
        limit = self._page_rows + len(flying)
        records = await self._read(self._floor.value, limit, flying)
        complete = len(records) < self._page_rows and not self._cut(records)
        self._floor.polled(records[-1]["id"] if records else None, complete=complete)
        self.more = not complete
        return records

    async def find(self, ids: Sequence[int]) -> list[tuple[int, str]]:
        """Which of these ids are there, with their event ids, in id order."""
        records = await self._connection.fetch(_FIND, list(ids), timeout=STATEMENT_SECONDS)
        return [(record["id"], record["event_id"]) for record in records]

    async def delete(self, ids: Sequence[int]) -> None:
        """Delete published rows, all of them or (on an error) none.

        Raises:
            WorkListError: some were not there.
        """
        async with self._turn:
            answer = await self._connection.execute(_DELETE, list(ids), timeout=STATEMENT_SECONDS)
        deleted = int(answer.removeprefix("DELETE "))
        if deleted != len(ids):
            raise WorkListError(f"{len(ids)} published events were to leave the outbox, {deleted} were there")

    async def _read(self, floor: int, limit: int, flying: Sequence[int]) -> list[asyncpg.Record]:
        return await self._connection.fetch(
            _PAGE, floor, limit, list(flying), self._page_bytes, self._page_rows, timeout=STATEMENT_SECONDS
        )

    def _cut(self, records: list[asyncpg.Record]) -> bool:
        return bool(records) and records[-1]["total"] >= self._page_bytes

    async def _observe(self) -> None:
        snapshot = await self._connection.fetchrow(_SNAPSHOT, timeout=STATEMENT_SECONDS)
        assert snapshot is not None
        self._floor.observe(snapshot["xmin"], snapshot["xmax"])

    async def _sweep(self, flying: Sequence[int]) -> None:
        """The safety net behind the floor: a row below it is counted as a bug, and published all the same."""
        known = set(flying)
        records = await self._read(0, self._page_rows + len(flying), flying)
        below = [record["id"] for record in records if record["id"] <= self._floor.value and record["id"] not in known]
        if below:
            BELOW_FLOOR.inc(len(below))
            log.error("outbox.rows_below_floor", ids=below[:10], count=len(below), floor=self._floor.value)
            self._floor = Floor()
