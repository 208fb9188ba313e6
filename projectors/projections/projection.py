"""What a projection is: its name, the shape of its tables, and one function from a batch of changes to rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol
from uuid import UUID

from projectors.decoding.records import Change
from read_model.generations import Connection


class Rows(NamedTuple):
    """A batch as one INSERT, which is made part of the checkpoints' move."""

    #: Its parameters are numbered from $1, it begins with no WITH, and it writes only IF_MOVED.
    statement: str
    arguments: Sequence[Any]


#: The condition of a statement that is part of a move.
IF_MOVED: Final = "EXISTS (SELECT FROM moved)"


class Writer(Protocol):
    """A projection bound to the tables of one generation."""

    def rows(self, changes: Sequence[Change]) -> Rows | None:
        """What `apply` would do, for users none of whom was erased; None where that is not one statement.

        It saves three round trips of four: worth having where somebody waits for the rows.
        """

    async def apply(self, connection: Connection, changes: Sequence[Change]) -> None:
        """Write a batch: any users, each user's changes in the order of their versions, duplicates and gaps possible.

        A change that is not newer than what the tables know of its user changes nothing. Whatever is raised, the caller
        rolls back; what is raised because of a change's content, and not of the database's state, parks it.
        """


@dataclass(frozen=True, slots=True)
class CarryOver:
    """How a new generation takes over from an old one what compaction has removed from the log.

    It runs once the new generation has read the whole log, so that it knows who exists.
    """

    #: The table whose column `id` is walked through.
    ids: str
    #: Each takes over the users with ids in [$1, $2), a $2 of null meaning no end; harmless to repeat.
    statements: list[str]


@dataclass(frozen=True, slots=True)
class Projection:
    """A projection of the current code; a generation of another shape is not fed by it."""

    name: str
    shape: int
    #: Notified after a commit: the ids of the users whose rows moved.
    channel: str
    writer: Callable[[int], Writer]
    #: By the shape of the old generation: from the numbers of an old and a new one to what is taken over. Every shape
    #: that may still serve somewhere has its entry; None says that nothing of it can be taken over. A shape without an
    #: entry is not known here, and a rebuild beside it refuses to lose what only it has.
    carry_over: Mapping[int, Callable[[int, int], CarryOver] | None]
    #: How long the broker may collect records while they keep coming, in milliseconds. A batch costs the broker, this
    #: process and PostgreSQL far more than a record does; the first record after a pause never waits.
    patience_ms: int


def newest(changes: Iterable[Change]) -> dict[UUID, Change]:
    """The newest change of each user; of two equal ones the first."""
    found: dict[UUID, Change] = {}
    for change in changes:
        known = found.get(change.user_id)
        if known is None or known.version < change.version:
            found[change.user_id] = change
    return found
