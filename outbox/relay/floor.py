"""The floor: an outbox id below which no row can appear any more, so that polls need not step over dead rows.

A reader that holds a snapshot keeps vacuum from removing what the relay deleted, and a poll from the beginning would
read past all of it. Every transaction that appends gets its xid before its outbox id, because it writes or locks the
subject's row first, or asks for its xid. So:

1. Remember the greatest id deleted, and `pg_snapshot_xmax` of a later moment.
2. Once `pg_snapshot_xmin` has reached that xid, every transaction that could hold a lower id has ended.
3. When a poll after that has returned everything up to the id, the id is the floor.

To have seen the id is not enough for 1: `pg_snapshot_xmax` is the xid after the last that has ended. A transaction with
a lower id may have a later xid than that, and be open. The deletion's xid is later than that of each such transaction,
and has ended.

It is kept in memory, for one connection: xids mean nothing after a server crash.

Source: PostgreSQL's documentation, 9.28.8 "Transaction ID and Snapshot Information Functions".
"""

from dataclasses import dataclass


@dataclass(slots=True)
class Floor:
    """The floor of one connection, `value`; tell it of snapshots and polls in the order in which they happen."""

    value: int = 0
    _greatest: int = 0
    _candidate: tuple[int, int] | None = None
    _proven: int = 0

    def observe(self, xmin: int, xmax: int) -> None:
        """A snapshot was taken now, before the next poll."""
        self._prove(xmin)
        if self._candidate is None and self._greatest > self._proven:
            self._candidate = (self._greatest, xmax)
            # Where nobody writes, this very snapshot tells it.
            self._prove(xmin)

    def deleted(self, greatest: int) -> None:
        """Rows that were committed, up to this id, were deleted, and that is committed, too."""
        self._greatest = max(self._greatest, greatest)

    def polled(self, greatest: int | None, *, complete: bool) -> None:
        """A poll found `greatest` (None for nothing); `complete` if it returned everything above the floor."""
        if self._proven > self.value and (complete or (greatest or 0) >= self._proven):
            self.value = self._proven

    def _prove(self, xmin: int) -> None:
        if self._candidate and xmin >= self._candidate[1]:
            self._proven, self._candidate = self._candidate[0], None
