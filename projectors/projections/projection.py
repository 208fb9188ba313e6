"""The declaration of a projection: its subject, name, shape of tables, and how a batch of events becomes rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol
from uuid import UUID

from chassis.postgres.database import Connection
from projectors.decoding.records import DecodedEvent
from projectors.decoding.subject import Subject
from read_model.schema import ProjectionSchema


class Insert(NamedTuple):
    """A batch as one INSERT, which is made part of the checkpoints' move."""

    #: Its parameters are numbered from $1, it begins with no WITH, and it writes only IF_MOVED.
    statement: str
    arguments: Sequence[Any]


class PresentState(NamedTuple):
    """The state of a subject on the command side; of one that it does not know, version 0."""

    subject_id: UUID
    version: int
    #: The event that led to it.
    event_id: UUID | None
    is_erased: bool = False


#: The condition of a statement that is part of a move.
IF_MOVED: Final = "EXISTS (SELECT FROM moved)"


class Writer(Protocol):
    """A projection bound to the tables of one generation."""

    def as_insert(self, events: Sequence[DecodedEvent]) -> Insert | None:
        """The one statement of `apply`, for subjects none of whom was erased; None where it is not one statement.

        It saves three round trips of four: worth having where somebody waits for the rows.
        """

    async def apply(self, connection: Connection, events: Sequence[DecodedEvent]) -> None:
        """Write a batch of any subjects: the events of each in the order of the log, duplicates and gaps possible.

        An event that is not newer than what the tables know of its subject changes nothing, but an erasure: that takes
        away whatever is there, and leaves the greatest version behind. Whatever is raised, the caller rolls back. An
        error that an event's content causes parks the event; one of the database does not.
        """

    async def reset(self, connection: Connection, state: PresentState) -> None:
        """Forget of its subject what does not go with this state, so that an event with it is newer than the tables."""


@dataclass(frozen=True, slots=True)
class CarryOver:
    """The take-over, by a new generation from an old one, of what compaction has removed from the log.

    It runs once the new generation has read the whole log, so that it knows who exists.
    """

    #: The table whose column `id` is walked through.
    ids: str
    #: Each takes over the subjects with ids in [$1, $2), a $2 of null meaning no end; harmless to repeat.
    statements: list[str]


@dataclass(frozen=True, slots=True)
class Projection:
    """A projection of the current code; a generation of another shape is not fed by it."""

    subject: Subject
    schema: ProjectionSchema
    writer: Callable[[int], Writer]
    #: Entries by the shape of the old generation: each makes, of the numbers of an old and a new one, what is taken
    #: over. Every shape that may still serve somewhere has its entry; None says that nothing of it can be taken over. A
    #: shape without an entry is not known here, and a rebuild beside it refuses to lose what only it has.
    carry_over: Mapping[int, Callable[[int, int], CarryOver] | None]
    #: The broker may collect records for so many milliseconds while they keep coming. A batch costs the broker, this
    #: process and PostgreSQL far more than a record does; the first record after a pause never waits.
    patience_ms: int

    @property
    def name(self) -> str:
        """The name that everybody uses."""
        return self.schema.name

    @property
    def shape(self) -> int:
        """The shape of the generations that it feeds."""
        return self.schema.shape


def erasures(events: Sequence[DecodedEvent]) -> tuple[dict[UUID, int], Sequence[DecodedEvent]]:
    """The subjects erased in a batch, with the greatest version up to then, and the events that it does not undo."""
    last = {event.subject_id: index for index, event in enumerate(events) if event.state is None}
    if not last:
        return {}, events
    erased: dict[UUID, int] = {}
    rest = []
    for index, event in enumerate(events):
        if index > last.get(event.subject_id, -1):
            rest.append(event)
        else:
            erased[event.subject_id] = max(event.version, erased.get(event.subject_id, 0))
    return erased, rest


def newest(events: Iterable[DecodedEvent]) -> dict[UUID, DecodedEvent]:
    """The newest event of each subject; of two of one version the first."""
    found: dict[UUID, DecodedEvent] = {}
    for event in events:
        known = found.get(event.subject_id)
        if known is None or known.version < event.version:
            found[event.subject_id] = event
    return found
