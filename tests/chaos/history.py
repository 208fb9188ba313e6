"""What a run has seen: plain values, which the checker judges and a file can keep.

Times are seconds on one clock, that of the run; versions count a user's events from 1; a document is a user as JSON.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter

from events.user_events import UserSnapshot

Document = dict[str, Any]
#: The type of what is state and no event.
SNAPSHOT: Final = UserSnapshot.type()


@dataclass(frozen=True, slots=True)
class Command:
    """One try of a command. Tries of one command share its name, which is its X-Request-Id and so its event's cause."""

    name: str
    kind: str
    client: int
    began: float
    ended: float
    #: None: no answer came, so nobody knows what became of it.
    status: int | None
    #: Whom it is about; None where a registration was not accepted.
    user: str | None = None
    version: int | None = None
    document: Document | None = None
    #: The version in If-Match.
    expected: int | None = None
    problem: str = ""
    retry_after: bool = False

    @property
    def accepted(self) -> bool:
        """Whether the client was told that it is done."""
        return self.status is not None and self.status < 300

    @property
    def refused(self) -> bool:
        """Whether the client was told that nothing was changed, by this try or another of the same key."""
        if self.status == 503:
            return self.problem in {"unavailable", "busy"}
        return self.status is not None and 400 <= self.status < 500 and self.problem != "idempotency-key-in-use"


@dataclass(frozen=True, slots=True)
class Read:
    """One look at one user, on its own page or in a list."""

    client: int
    user: str
    #: The version that the token asked for; 0 without one.
    asked: int
    began: float
    ended: float
    #: 404 where a list did not have the user.
    status: int | None
    version: int | None = None
    document: Document | None = None
    #: The answer's As-Of, and the time when it came, both in seconds since 1970.
    as_of: float | None = None
    came: float = 0.0
    problem: str = ""
    retry_after: bool = False


@dataclass(frozen=True, slots=True)
class Walk:
    """A list read to its end, page by page."""

    sort: str
    began: float
    ended: float
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """One record of the events topic, as a read_committed subscriber reads it."""

    partition: int
    offset: int
    user: str
    version: int
    event: str
    type: str
    #: The name of the command.
    cause: str
    #: The user after it; None at a tombstone.
    document: Document | None
    #: How often the topic had been lost before.
    topic: int = 0


@dataclass(frozen=True, slots=True)
class Told:
    """One event that a client of the event API was told."""

    user: str
    version: int
    event: str
    type: str


@dataclass(slots=True)
class Sides:
    """What both databases hold in the end."""

    users: dict[str, Document] = field(default_factory=dict)
    erased: dict[str, int] = field(default_factory=dict)
    read_users: dict[str, Document] = field(default_factory=dict)
    read_erased: dict[str, int] = field(default_factory=dict)
    #: Versions, by user.
    timeline: dict[str, list[int]] = field(default_factory=dict)
    #: Users by day and status, "2026-11-29 active".
    signups: dict[str, int] = field(default_factory=dict)
    #: Events that are not published, and records that are parked.
    waiting: int = 0
    parked: int = 0


@dataclass(slots=True)
class History:
    """Everything that a run has seen."""

    commands: list[Command] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    walks: list[Walk] = field(default_factory=list)
    #: Of the topics that were lost, too.
    log: list[Record] = field(default_factory=list)
    #: The versions, by user, that were lost with a topic before the timeline had read them.
    unread: dict[str, list[int]] = field(default_factory=dict)
    #: What a client of the event API was told, from the beginning on; another each time that its position was gone.
    streams: list[list[Told]] = field(default_factory=list)
    sides: Sides = field(default_factory=Sides)
    #: When PostgreSQL died: read tables may lose what they were given just before (decision 15).
    deaths: list[float] = field(default_factory=list)
    #: Faults after whose end the service did not come back in time.
    unrecovered: list[str] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Keep it as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_FORM.dump_json(self))

    @staticmethod
    def load(path: Path) -> "History":
        """Read what `save` has kept."""
        return _FORM.validate_json(path.read_bytes())


_FORM = TypeAdapter(History)


def in_order(records: Iterable[Record]) -> list[Record]:
    """The records in the order of the log, partition by partition."""
    return sorted(records, key=lambda record: (record.topic, record.partition, record.offset))


def by_user(records: Iterable[Record]) -> dict[str, list[Record]]:
    """The records of each user, in the order of the log."""
    found: dict[str, list[Record]] = {}
    for record in in_order(records):
        found.setdefault(record.user, []).append(record)
    return found


def events(records: Iterable[Record]) -> Iterator[Record]:
    """The records without those by which a lost topic was filled again: snapshots, and tombstones once more."""
    erasures: set[str] = set()
    for record in in_order(records):
        again = record.topic and record.event in erasures
        if record.document is None:
            erasures.add(record.event)
        if record.type != SNAPSHOT and not again:
            yield record
