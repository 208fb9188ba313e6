"""Reading and shrinking the outbox: pages in id order, and deletion of what is published.

There is one connection and one relay, and every call has a deadline. A page is bounded in rows and in bytes, so a
backlog of any size drains in bounded memory. A page that is read while another is in flight leaves out that page's rows
by their ids, never by `id > last`: a row that commits late has a lower id and would be skipped.

Nothing is read past a row that cannot be published (`held`), so everything waits for it; it is marked in the table, for
operators, who may set it aside. Of a subject of which a row is set aside, nothing is read at all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

import asyncpg
import structlog

from chassis.postgres.database import ONE_PLAN, connect, disconnect
from chassis.settings import PostgresAddress
from outbox.damage import KAFKA_REFUSES, Examiner
from outbox.relay.floor import Floor
from outbox.relay.metrics import BELOW_FLOOR
from outbox.table import OutboxRow

log = structlog.get_logger("outbox.work_list")

#: A page of thousands of rows takes tens of milliseconds; a server that stalls longer is treated as gone.
STATEMENT_SECONDS: Final = 15.0
#: The floor may move this often: each look at the snapshot is a round trip, and a lower floor loses nothing.
FLOOR_SECONDS: Final = 0.1
#: The whole table is searched this often for rows below the floor, where none can be.
SWEEP_SECONDS: Final = 60.0
#: A row costs about so many bytes in memory and on the wire beside its value and headers: key, ids, Python objects.
ROW_BYTES: Final = 256

# Ids come as text, which is how they are published; `appended_at` as seconds since the epoch; `total` is the bytes of
# this row and all before it.
# The inner query is bounded before anything else happens, so the anti-join is over a page, not over the table. Who is
# set aside is an array, made once for each statement: one that is put back is there again with all that waited. The
# window adds up sizes from TOAST pointers and never reads a value that is cut off. The first row is always taken.
# date_part and not extract, which calculates in numeric. ROWS because the default frame looks for peers, which took a
# third of the page's time.
_PAGE: Final = f"""
SELECT id, event_id::text, subject_id::text, value, headers, damage,
    date_part('epoch', appended_at) AS appended_at, total
FROM (
    SELECT o.*, sum(size) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) AS total
    FROM (
        SELECT *, coalesce(octet_length(value), 0) + coalesce(octet_length(headers), 0) + {ROW_BYTES} AS size
        FROM outbox
        WHERE id > $1 AND (subject_id = ANY (ARRAY(SELECT subject_id FROM outbox_set_aside))) IS NOT TRUE
        ORDER BY id LIMIT $2
    ) AS o
    WHERE NOT EXISTS (SELECT FROM unnest($3::bigint[]) AS in_flight(id) WHERE in_flight.id = o.id)
) AS page
WHERE total - size < $4
ORDER BY id
LIMIT $5
"""  # noqa: S608 - a constant of ours
_SNAPSHOT: Final = """
SELECT pg_snapshot_xmin(s)::text::bigint AS xmin, pg_snapshot_xmax(s)::text::bigint AS xmax,
    (SELECT min(id) FROM outbox_set_aside) AS set_aside
FROM pg_current_snapshot() AS s
"""
_MARK: Final = "UPDATE outbox SET damage = $2 WHERE id = $1 AND damage IS DISTINCT FROM $2"
_UNMARK: Final = "UPDATE outbox SET damage = NULL WHERE id = ANY($1::bigint[]) RETURNING id"
_DELETE: Final = "DELETE FROM outbox WHERE id = ANY($1::bigint[])"
_FIND: Final = "SELECT id, event_id::text FROM outbox WHERE id = ANY($1::bigint[]) ORDER BY id"
_IDENTITY: Final = """
SELECT (SELECT system_identifier FROM pg_control_system())::text || '/' || current_database()
"""


#: The outbox is nearly empty most of the time, and a plan that is made then is kept. Left alone, PostgreSQL compared
#: every row of a page with every row in flight, and read the whole table to delete: 5.8 s a page instead of 27 ms.
_PLANS: Final = {**ONE_PLAN, "enable_nestloop": "off", "enable_bitmapscan": "off"}

_mark: Final = itemgetter("damage")


class WorkListError(Exception):
    """The outbox no longer held what the relay had read from it: somebody else deletes from it."""


@dataclass(frozen=True, slots=True)
class HeldRow:
    """A row that cannot be published, so that whatever comes after it waits: which, whose, and what is wrong."""

    id: int
    subject_id: str | None
    damage: str

    def __str__(self) -> str:
        """One line for people."""
        return (
            f"row {self.id} of the outbox, an event of {self.subject_id or 'nobody'}, cannot be published, and whatever"
            f" comes after it waits: {self.damage}. See `muster outbox show {self.id}`"
        )


class WorkList:
    """The outbox as its one reader sees it."""

    def __init__(
        self, connection: asyncpg.Connection[Any], *, page_rows: int, page_bytes: int, examiner: Examiner
    ) -> None:
        """Use `open`."""
        self._connection = connection
        self._examiner = examiner
        #: The row at which the last page ends, because that one cannot be published.
        self.held: HeldRow | None = None
        self._page_rows = page_rows
        self._page_bytes = page_bytes
        self._floor = Floor()
        #: True where the last page was cut: then there is a backlog, and reading ahead pays.
        self.more = False
        # One statement at a time: a page may be read ahead while another is to be deleted.
        self._turn = asyncio.Lock()
        self._floor_due = 0.0
        self._sweep_due = time.monotonic() + SWEEP_SECONDS

    @classmethod
    async def open(
        cls, address: PostgresAddress, *, page_rows: int, page_bytes: int, examiner: Examiner | None = None
    ) -> WorkList:
        """Connect; the caller closes."""
        connection = await connect(address, application="muster relay", **_PLANS)
        return cls(connection, page_rows=page_rows, page_bytes=page_bytes, examiner=examiner or Examiner())

    async def close(self) -> None:
        """End the connection."""
        await disconnect(self._connection)

    async def identity(self) -> str:
        """The identity of the database: the cluster's system identifier and the database's name."""
        identity: str = await self._connection.fetchval(_IDENTITY, timeout=STATEMENT_SECONDS)
        return identity

    async def page(self, in_flight: Sequence[int] = ()) -> list[OutboxRow]:
        """The next rows in id order, without those in flight, up to the first that cannot be published (`held`).

        Empty when there is nothing to publish.
        """
        async with self._turn:
            now = time.monotonic()
            if now >= self._sweep_due:
                await self._sweep(in_flight)
                self._sweep_due = now + SWEEP_SECONDS
            # A backlog moves it at every page: under a held snapshot, each row deleted since is looked at again.
            if self.more or now >= self._floor_due:
                await self._observe()
                self._floor_due = now + FLOOR_SECONDS
            read = await self._read(self._floor.value, in_flight)
            rows = await self._publishable(read)
            complete = self.held is None and len(read) < self._page_rows and not self._is_cut(read)
            self._floor.polled(rows[-1]["id"] if rows else None, complete=complete)
            self.more = self.held is None and not complete
            return rows

    async def mark(self, row: HeldRow) -> None:
        """Name the row in the table, so that operators see it and may set it aside."""
        async with self._turn:
            await self._connection.execute(_MARK, row.id, row.damage, timeout=STATEMENT_SECONDS)

    async def find(self, ids: Sequence[int]) -> list[tuple[int, str]]:
        """Those of these ids that are there, with their event ids, in id order."""
        rows = await self._connection.fetch(_FIND, list(ids), timeout=STATEMENT_SECONDS)
        return [(row["id"], row["event_id"]) for row in rows]

    async def delete(self, ids: Sequence[int]) -> None:
        """Delete published rows, all of them or (on an error) none.

        Raises:
            WorkListError: some were not there.
        """
        async with self._turn:
            status = await self._connection.execute(_DELETE, list(ids), timeout=STATEMENT_SECONDS)
            deleted = int(status.removeprefix("DELETE "))
            if deleted != len(ids):
                raise WorkListError(f"{len(ids)} published events were to leave the outbox, {deleted} were there")
            self._floor.deleted(max(ids, default=0))

    async def _read(self, floor: int, in_flight: Sequence[int]) -> list[OutboxRow]:
        limit = self._page_rows + len(in_flight)
        return await self._connection.fetch(
            _PAGE, floor, limit, list(in_flight), self._page_bytes, self._page_rows, timeout=STATEMENT_SECONDS
        )

    async def _publishable(self, rows: list[OutboxRow]) -> list[OutboxRow]:
        """The rows before the first that cannot be published, which becomes `held`."""
        found = self._examiner.first_damaged(rows)
        if any(map(_mark, rows)):
            marked = ((place, damage) for place, row in enumerate(rows) if (damage := self._still_damaged(row)))
            found = min(filter(None, (found, next(marked, None))), default=None)
        self.held = None
        if found is not None:
            place, damage = found
            self.held = HeldRow(rows[place]["id"], rows[place]["subject_id"], damage)
            rows = rows[:place]
        return await self._unmark(rows) if any(map(_mark, rows)) else rows

    def _still_damaged(self, row: OutboxRow) -> str | None:
        """The damage of a row that is marked; None where it was mended, or is not marked."""
        if row["damage"] is None:
            return None
        # A refusal of Kafka cannot be seen: that mark counts until a person has set the row aside and put it back.
        said: str = row["damage"]
        return self._examiner.damage_of(row) or (said if said.startswith(KAFKA_REFUSES) else None)

    async def _unmark(self, rows: list[OutboxRow]) -> list[OutboxRow]:
        """Take the marks from rows that were mended meanwhile; a row that was just set aside is not published."""
        ids = [row["id"] for row in rows if row["damage"] is not None]
        left = await self._connection.fetch(_UNMARK, ids, timeout=STATEMENT_SECONDS)
        ours = {row["id"] for row in left}
        return [row for row in rows if row["damage"] is None or row["id"] in ours]

    def _is_cut(self, rows: list[OutboxRow]) -> bool:
        return bool(rows) and rows[-1]["total"] >= self._page_bytes

    async def _observe(self) -> None:
        snapshot = await self._connection.fetchrow(_SNAPSHOT, timeout=STATEMENT_SECONDS)
        assert snapshot is not None
        if snapshot["set_aside"] is not None:
            # Rows that are set aside, or wait behind one, may appear again: the floor does not rise meanwhile.
            self._floor = Floor(min(self._floor.value, snapshot["set_aside"] - 1))
        self._floor.observe(snapshot["xmin"], snapshot["xmax"])

    async def _sweep(self, in_flight: Sequence[int]) -> None:
        """The safety net behind the floor: a row below it is counted as a bug, and published all the same."""
        rows = await self._read(0, in_flight)
        below = [row["id"] for row in rows if row["id"] <= self._floor.value]
        if below:
            BELOW_FLOOR.inc(len(below))
            log.error("outbox.rows_below_floor", ids=below[:10], count=len(below), floor=self._floor.value)
            self._floor = Floor()
