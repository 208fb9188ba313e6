"""A batch becomes rows: checkpoints, rows, parked records and a notice to those who wait, in one transaction.

The whole batch is tried at once. Only when some record turns out to be inapplicable is the transaction begun again and
the batch halved inside savepoints until that record is found, so that a clean batch pays nothing for the possibility.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import asyncpg

from chassis.postgres.database import Database
from projectors.consumer import checkpoints, parking
from projectors.consumer.checkpoints import Move, Notice
from projectors.consumer.parking import Parked
from projectors.decoding.records import Change, Poison, Record
from projectors.decoding.slices import read_records
from projectors.projections.projection import Projection, Writer
from read_model.generations import Connection, Generation

#: Errors that are about a record's content: PostgreSQL refuses a value, or the projection's own code trips over it. All
#: others are about the state of the database or the network, and are tried again.
INAPPLICABLE_ERRORS: Final[tuple[type[Exception], ...]] = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    ValueError,  # among them asyncpg's own, for a value that its type cannot hold
    TypeError,
    LookupError,
    ArithmeticError,
    RecursionError,
)

#: A notice names its users while they fit into the 8,000 bytes that PostgreSQL allows; above that it says "many".
NOTICE_USERS: Final = 200
#: A millisecond of decoding: the batch in flight has several answers to wait for, and each needs a turn of the loop.
SLICE_RECORDS: Final = 250


@dataclass(frozen=True, slots=True)
class Batch:
    """Decoded records, in the order of each partition, and the steps their partitions take with them."""

    items: Sequence[Change | Poison]
    moves: Sequence[Move]

    @classmethod
    async def of(cls, records: Sequence[Record], moves: Sequence[Move]) -> Batch:
        """Decode the records; never raises for what is in them. Gives way between slices, so that others can work."""
        items: list[Change | Poison] = []
        for start in range(0, len(records), SLICE_RECORDS):
            if start:
                await asyncio.sleep(0)
            items += read_records(records[start : start + SLICE_RECORDS])
        return cls(items, moves)


class _InapplicableError(Exception):
    """Some record of the batch cannot be applied; which one is not known yet."""


@dataclass(slots=True)
class _Outcome:
    """What one attempt does with the records."""

    blocked: set[UUID]
    parked: list[Parked] = field(default_factory=list)
    erased: dict[UUID, int] = field(default_factory=dict)

    def sort(self, items: Iterable[Change | Poison]) -> list[Change]:
        """Set aside what has to be parked, and return what can be tried."""
        changes = []
        for item in items:
            if isinstance(item, Change) and item.user is not None and not self.blocked:
                changes.append(item)
            elif isinstance(item, Poison):
                self.refuse(item.record, item.user_id, item.error)
            elif self._may_apply(item):
                changes.append(item)
        return changes

    def _may_apply(self, change: Change) -> bool:
        """Whether this change is tried; one that is not, waits behind the user's parked ones."""
        if change.user is None:
            # The person goes, and with them everything that waited: nothing of theirs can block any more.
            self.blocked.discard(change.user_id)
            self.erased[change.user_id] = change.record.offset
        elif change.user_id in self.blocked:
            self.parked.append(Parked(change.record, change.user_id, None))
            return False
        return True

    def refuse(self, record: Record, user_id: UUID | None, error: str) -> None:
        """Park a record, and from now on its user's later ones."""
        self.parked.append(Parked(record, user_id, error))
        if user_id is not None:
            self.blocked.add(user_id)

    def remaining(self) -> list[Parked]:
        """What is to be parked, without what a later tombstone took away."""
        return [
            item
            for item in self.parked
            if item.user_id is None or item.record.offset > self.erased.get(item.user_id, -1)
        ]


class BatchWriter:
    """Writes batches of one topic to one generation."""

    def __init__(self, database: Database, projection: Projection, generation: Generation, topic: str) -> None:
        """Bind the projection to the generation's tables."""
        self.generation = generation
        self.topic = topic
        self._database = database
        self._channel = projection.channel
        self._writer: Writer = projection.writer(generation.number)
        #: Whether the last batch met records that are parked: then the next one is not tried at once either.
        self._any_parked = False

    async def write(self, batch: Batch, *, notify: bool = True) -> int:
        """Apply a batch and return the number of records that were parked. All of it is committed, or nothing.

        Raises:
            CheckpointMovedError: somebody else owns one of the partitions now.
            DatabaseUnavailableError, asyncpg.PostgresError: not now; the same batch may be written again.
        """
        notice = self._notice(batch) if notify else None
        if notice and not self._any_parked and await self._write_at_once(batch, notice):
            return 0
        try:
            return await self._attempt(batch, notice, careful=False)
        except _InapplicableError:
            return await self._attempt(batch, notice, careful=True)

    async def _write_at_once(self, batch: Batch, notice: Notice) -> bool:
        """Write the batch in one statement, which nearly every live one fits in; else write nothing, and say so."""
        changes = [item for item in batch.items if isinstance(item, Change) and item.user is not None]
        if len(changes) < len(batch.items):
            return False
        async with self._database.connection() as connection:
            try:
                rows = self._writer.rows(changes)
                return rows is not None and await checkpoints.move_and_write(
                    connection, self.generation, self.topic, batch.moves, notice=notice, rows=rows
                )
            except INAPPLICABLE_ERRORS:
                # Which record it is, the long way finds out.
                return False

    async def _attempt(self, batch: Batch, notice: Notice | None, *, careful: bool) -> int:
        async with self._database.connection() as connection, connection.transaction():
            any_parked = await checkpoints.move(connection, self.generation, self.topic, batch.moves, notice)
            self._any_parked = any_parked
            outcome = _Outcome(await self._blocked(connection, batch) if any_parked else set())
            if careful:
                await self._apply_carefully(connection, batch.items, outcome)
            else:
                await self._apply(connection, outcome.sort(batch.items))
            if outcome.erased and any_parked:
                await parking.forget(connection, self.generation, outcome.erased)
            remaining = outcome.remaining()
            await parking.park(connection, self.generation, self.topic, remaining)
        return len(remaining)

    async def _blocked(self, connection: Connection, batch: Batch) -> set[UUID]:
        users = {item.user_id for item in batch.items if item.user_id is not None}
        return await parking.blocked_users(connection, self.generation, users)

    async def _apply(self, connection: Connection, changes: Sequence[Change]) -> None:
        if not changes:
            return
        try:
            await self._writer.apply(connection, changes)
        except INAPPLICABLE_ERRORS as error:
            raise _InapplicableError from error

    async def _apply_carefully(
        self, connection: Connection, items: Sequence[Change | Poison], outcome: _Outcome
    ) -> None:
        """Try half by half, in order; a single change that fails is parked, and what follows of its user waits."""
        if len(items) > 1 and not await self._tried(connection, items, outcome):
            middle = len(items) // 2
            await self._apply_carefully(connection, items[:middle], outcome)
            await self._apply_carefully(connection, items[middle:], outcome)
        elif len(items) == 1:
            await self._apply_one(connection, items[0], outcome)

    async def _tried(self, connection: Connection, items: Sequence[Change | Poison], outcome: _Outcome) -> bool:
        trial = _Outcome(set(outcome.blocked), list(outcome.parked), dict(outcome.erased))
        changes = trial.sort(items)
        try:
            async with connection.transaction():
                await self._apply(connection, changes)
        except _InapplicableError:
            return False
        outcome.blocked, outcome.parked, outcome.erased = trial.blocked, trial.parked, trial.erased
        return True

    async def _apply_one(self, connection: Connection, item: Change | Poison, outcome: _Outcome) -> None:
        for change in outcome.sort([item]):
            try:
                async with connection.transaction():
                    await self._apply(connection, [change])
            except _InapplicableError as error:
                cause = error.__cause__
                outcome.refuse(change.record, change.user_id, f"{type(cause).__name__}: {cause}")

    def _notice(self, batch: Batch) -> Notice | None:
        """Whose rows move; None where nobody's do."""
        users = {item.user_id for item in batch.items if item.user_id is not None}
        if not users:
            return None
        return Notice(self._channel, " ".join(map(str, users)) if len(users) <= NOTICE_USERS else "")
