"""A batch becomes rows: checkpoints, rows, parked records and a notice to those who wait, in one transaction.

The whole batch is tried at once. Only when some record turns out to be inapplicable is the transaction begun again, and
the batch halved inside savepoints until that record is found; only when a version does not follow what is known, is it
judged record by record whether each is ours. So a clean batch pays next to nothing for the possibility.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import asyncpg

from chassis.outages import describe
from chassis.postgres.database import Connection, Database
from chassis.tracing.databases import commit_attributes, committing
from projectors.consumer import parking
from projectors.consumer.checkpoints import CheckpointMovedError, Checkpoints, Move, Notice
from projectors.consumer.parking import Parked
from projectors.decoding.records import DecodedEvent, Poison, Record
from projectors.projections.projection import Projection, Writer
from projectors.trust import versions
from projectors.trust.compaction import Compaction
from projectors.trust.repairs import without_repaired
from projectors.trust.versions import FirstVersions, version_of
from read_model import generations
from read_model.generations import Generation

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

#: A notice names its subjects while they fit into the 8,000 bytes that PostgreSQL allows. With more it names none: that
#: says "many".
NOTICE_SUBJECTS: Final = 200
#: Traces say that a commit was of this table. Its declaration would import SQLAlchemy, which takes 15 MB.
_CHECKPOINTS: Final = "checkpoints"


@dataclass(frozen=True, slots=True)
class DecodedBatch:
    """Decoded records, in the order of each partition, and the steps that their partitions take with them."""

    items: Sequence[DecodedEvent | Poison]
    moves: Sequence[Move]


class _UnwritableError(Exception):
    """The database will never take one of the records of the batch; which one is not known yet."""


class _DoubtError(Exception):
    """One of the records of the batch may not be ours; which one is not known yet."""


@dataclass(slots=True)
class _Sorting:
    """The decisions of one attempt on its records: which wait, which are parked, whom they erase."""

    blocked: set[UUID]
    parked: list[Parked] = field(default_factory=list)
    erased: dict[UUID, int] = field(default_factory=dict)

    def applicable(self, items: Iterable[DecodedEvent | Poison]) -> list[DecodedEvent]:
        """Set aside what has to be parked, and return what can be tried."""
        events = []
        for item in items:
            if isinstance(item, DecodedEvent) and item.state is not None and not self.blocked:
                events.append(item)
            elif isinstance(item, Poison) and item.suspicious:
                self.parked.append(Parked(item.record, None, item.error, item.subject_id))
            elif isinstance(item, Poison):
                self.refuse(item.record, item.subject_id, item.error)
            elif self._may_apply(item):
                events.append(item)
        return events

    def _may_apply(self, event: DecodedEvent) -> bool:
        """True where this event is tried; if not, it waits behind the parked ones of its subject."""
        if event.state is None:
            # The erasure takes everything away that waited: nothing can block this subject any more.
            self.blocked.discard(event.subject_id)
            self.erased[event.subject_id] = event.record.offset
        elif event.subject_id in self.blocked:
            self.parked.append(Parked(event.record, event.subject_id, None))
            return False
        return True

    def refuse(self, record: Record, subject_id: UUID | None, error: str) -> None:
        """Park a record, and from now on its subject's later ones."""
        self.parked.append(Parked(record, subject_id, error))
        if subject_id is not None:
            self.blocked.add(subject_id)

    def remaining(self) -> list[Parked]:
        """The records to park, without those that a later tombstone took away."""
        return [
            item for item in self.parked if item.about is None or item.record.offset > self.erased.get(item.about, -1)
        ]


class BatchWriter:
    """Writes batches of one topic to one generation."""

    def __init__(
        self,
        database: Database,
        projection: Projection,
        generation: Generation,
        topic: str,
        compaction: Compaction | None = None,
    ) -> None:
        """Bind the projection to the generation's tables; without `compaction` no gap between versions is explained."""
        self._generation = generation
        self._topic = topic
        self._database = database
        self._commit_attributes = commit_attributes(database.address.database, _CHECKPOINTS)
        self._channel = projection.schema.channel
        self._writer: Writer = projection.writer(generation.number)
        self._tables = [table.name for table in projection.schema.tables(generation.number).versions]
        self._checkpoints = Checkpoints(generation, topic, self._tables)
        self._snapshot = projection.subject.snapshot
        self._compaction = compaction
        #: True where the last batch met records that are parked: then the next one is not tried at once either.
        self._any_parked = False

    async def write(self, batch: DecodedBatch, *, notify: bool = True) -> int:
        """Apply a batch and return the number of records that were parked. All of it is committed, or nothing.

        Raises:
            CheckpointMovedError: somebody else owns one of the partitions now, or the generation was retired.
            DatabaseUnavailableError, asyncpg.PostgresError: not now; the same batch may be written again.
        """
        try:
            with committing(_CHECKPOINTS, self._commit_attributes):
                return await self._write(batch, notify=notify)
        except asyncpg.UndefinedTableError as error:
            if await self._is_retired():
                raise CheckpointMovedError(f"{self._generation} is retired") from error
            raise

    async def _is_retired(self) -> bool:
        async with self._database.connection() as connection:
            known = await generations.read(connection, self._generation.projection)
        return any(one.number == self._generation.number and one.status == "retired" for one in known)

    async def _write(self, batch: DecodedBatch, *, notify: bool) -> int:
        notice = self._notice(batch) if notify else None
        first = FirstVersions.of(batch.items, self._snapshot, self._explained)
        if notice and not self._any_parked and await self._write_at_once(batch, first, notice):
            return 0
        judged = careful = False
        while True:
            try:
                return await self._attempt(batch, first, notice, judged=judged, careful=careful)
            except _DoubtError:
                await self._look_at_compaction(batch)
                judged = True
            except _UnwritableError:
                careful = True

    def _explained(self, record: Record) -> bool:
        return self._compaction is not None and self._compaction.explains(record)

    async def _look_at_compaction(self, batch: DecodedBatch) -> None:
        """Outside of any transaction, since a broker may be slow."""
        if self._compaction is not None:
            await self._compaction.look({item.record.partition: item.record.offset for item in batch.items})

    async def _write_at_once(self, batch: DecodedBatch, first: FirstVersions, notice: Notice) -> bool:
        """Write the batch in one statement, which suffices for nearly all of them; False when nothing was written."""
        events = [item for item in batch.items if isinstance(item, DecodedEvent) and item.state is not None]
        if len(events) < len(batch.items) or first.odd:
            return False
        async with self._database.connection() as connection:
            try:
                insert = self._writer.as_insert(events)
                return insert is not None and await self._checkpoints.move_and_write(
                    connection, batch.moves, first, notice=notice, insert=insert
                )
            except INAPPLICABLE_ERRORS:
                # The long way finds out which record it is.
                return False

    async def _attempt(
        self, batch: DecodedBatch, first: FirstVersions, notice: Notice | None, *, judged: bool, careful: bool
    ) -> int:
        async with self._database.connection() as connection, connection.transaction():
            moved = await self._checkpoints.move(connection, batch.moves, first, notice)
            if not judged and (moved.jumped or first.odd):
                raise _DoubtError
            self._any_parked = moved.parked
            items, greatest = await self._ours(connection, batch.items, repaired=moved.repaired, judged=judged)
            blocked = await parking.blocked(connection, self._generation, _subjects(items)) if moved.parked else set()
            sorting = _Sorting(blocked)
            if careful:
                await self._apply_carefully(connection, items, sorting)
            else:
                await self._apply(connection, sorting.applicable(items))
            await self._park(connection, sorting, greatest)
        return len(sorting.remaining())

    async def _ours(
        self, connection: Connection, items: Sequence[DecodedEvent | Poison], *, repaired: bool, judged: bool
    ) -> tuple[Sequence[DecodedEvent | Poison], Mapping[UUID, int]]:
        """The records of these that count, told which are suspicious where that is judged, and versions read then."""
        if repaired:
            items = await without_repaired(connection, self._generation, self._topic, items)
        if not judged:
            return items, {}
        known = await versions.read(connection, self._generation, self._tables, _subjects(items))
        return versions.judge(items, known, self._snapshot, self._explained)

    async def _park(self, connection: Connection, sorting: _Sorting, greatest: Mapping[UUID, int]) -> None:
        if sorting.erased:
            await parking.forget(connection, self._generation, sorting.erased)
        kept, counted = await parking.park(connection, self._generation, self._topic, sorting.remaining())
        read = _versions(kept, greatest)
        if beyond := _versions(counted, greatest):
            # Of whom nothing is known the next record will be the first: a flood of ids leaves no rows.
            known = {*read, *await versions.read(connection, self._generation, self._tables, beyond)}
            read |= {subject_id: version for subject_id, version in beyond.items() if subject_id in known}
        if read:
            await versions.note(connection, self._generation, read)

    async def _apply(self, connection: Connection, events: Sequence[DecodedEvent]) -> None:
        if not events:
            return
        try:
            await self._writer.apply(connection, events)
        except INAPPLICABLE_ERRORS as error:
            raise _UnwritableError from error

    async def _apply_carefully(
        self, connection: Connection, items: Sequence[DecodedEvent | Poison], sorting: _Sorting
    ) -> None:
        """Try half by half, in order; a single event that fails is parked, and later ones of its subject wait."""
        if len(items) > 1 and not await self._tried(connection, items, sorting):
            middle = len(items) // 2
            await self._apply_carefully(connection, items[:middle], sorting)
            await self._apply_carefully(connection, items[middle:], sorting)
        elif len(items) == 1:
            await self._apply_one(connection, items[0], sorting)

    async def _tried(self, connection: Connection, items: Sequence[DecodedEvent | Poison], sorting: _Sorting) -> bool:
        trial = _Sorting(set(sorting.blocked), list(sorting.parked), dict(sorting.erased))
        events = trial.applicable(items)
        try:
            async with connection.transaction():
                await self._apply(connection, events)
        except _UnwritableError:
            return False
        sorting.blocked, sorting.parked, sorting.erased = trial.blocked, trial.parked, trial.erased
        return True

    async def _apply_one(self, connection: Connection, item: DecodedEvent | Poison, sorting: _Sorting) -> None:
        for event in sorting.applicable([item]):
            try:
                async with connection.transaction():
                    await self._apply(connection, [event])
            except _UnwritableError as error:
                cause = error.__cause__ or error
                sorting.refuse(event.record, event.subject_id, f"{type(cause).__name__}: {describe(cause)}")

    def _notice(self, batch: DecodedBatch) -> Notice | None:
        """The notice of whose rows move; None where no subject's do."""
        subjects = _subjects(batch.items)
        if not subjects:
            return None
        return Notice(self._channel, " ".join(map(str, subjects)) if len(subjects) <= NOTICE_SUBJECTS else "")


def _versions(parked: Iterable[Parked], greatest: Mapping[UUID, int]) -> dict[UUID, int]:
    """The greatest version of each subject that waits."""
    found: dict[UUID, int] = {}
    for item in parked:
        if item.subject_id is not None:
            said = greatest.get(item.subject_id) or version_of(item.record) or 1
            found[item.subject_id] = max(said, found.get(item.subject_id, 1))
    return found


def _subjects(items: Iterable[DecodedEvent | Poison]) -> set[UUID]:
    return {item.subject_id for item in items if item.subject_id is not None}
