"""A second kind of subject, wholly in this folder: what CONTRIBUTING's recipe asks for, and nothing of Muster changed.

A team has a name and a number of members. Its rooms are what those of users are in the services: the event classes and
their catalogue, the table of the command side, the read tables, and a projection.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any, ClassVar, Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from sqlalchemy import BigInteger, Column, Integer, LargeBinary, MetaData, Table, Text, Uuid, bindparam
from sqlalchemy.dialects import postgresql

from chassis.identifiers import new_id
from chassis.postgres.database import Connection
from chassis.postgres.statements import compile_statement
from events.catalogue import Catalogue, EventData
from events.envelope import Envelope
from events.times import Time
from outbox.append import append_arguments, append_from
from projectors.decoding.records import DecodedEvent
from projectors.decoding.subject import Subject
from projectors.projections.projection import IF_MOVED, CarryOver, Insert, PresentState, Projection, newest
from read_model.schema import GenerationTables, ProjectionSchema

# -- events ------------------------------------------------------------------------------------------------------------


class PublicTeam(BaseModel):
    """A team as subscribers see it; its fields are of every kind that is read in a way of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: UUID
    version: int = Field(ge=1)
    name: str
    members: int
    lead: UUID | None
    goals: list[str]
    labels: dict[str, JsonValue]
    founded_at: Time
    closed_at: Time | None


class TeamEvent(EventData):
    """What every event but the tombstone carries."""

    team: PublicTeam
    previous: dict[str, Any] = Field(default_factory=dict)


class TeamFounded(TeamEvent):
    """A team exists from now on."""

    name: ClassVar[str] = "muster.team.founded"


class TeamRenamed(TeamEvent):
    """The team has another name."""

    name: ClassVar[str] = "muster.team.renamed"


@dataclass(frozen=True, slots=True)
class TeamErased:
    """The team was erased."""

    name: ClassVar[str] = "muster.team.erased"
    team_id: UUID
    version: int


TEAM_EVENTS: Final = Catalogue[TeamEvent, TeamErased](
    subject="team", source="/muster/teams", classes=(TeamFounded, TeamRenamed), tombstone=TeamErased
)

# -- command side ------------------------------------------------------------------------------------------------------

command_metadata = MetaData()
teams = Table("teams", command_metadata, Column("id", Uuid, primary_key=True), Column("version", BigInteger))


_INSERT = postgresql.insert(teams).values(id=bindparam("id"), version=bindparam("version"))
_UPSERT_TEAM = _INSERT.on_conflict_do_update(
    index_elements=["id"], set_={"version": _INSERT.excluded.version}, where=teams.c.version < _INSERT.excluded.version
)
#: The team's row, and the event from that very row.
_COMMIT: Final = compile_statement(append_from(_UPSERT_TEAM.returning(teams.c.id).cte("u")))


async def commit(connection: Connection, event: TeamEvent | TeamErased, now: datetime) -> None:
    """Write a team's row and append its event."""
    team_id, version = (
        (event.team_id, event.version) if isinstance(event, TeamErased) else (event.team.id, event.team.version)
    )
    envelope = Envelope(
        event_id=new_id(), source=TEAM_EVENTS.source, type=TEAM_EVENTS.event_type(event), subject_id=team_id,
        version=version, time=now, correlation_id="test", causation_id="test",
    )  # fmt: skip
    values = {"id": team_id, "version": version, **append_arguments(envelope, TEAM_EVENTS.encode(event))}
    await connection.execute(_COMMIT.sql, *_COMMIT.args(**values))


# -- read tables -------------------------------------------------------------------------------------------------------

NAME: Final = "teams"


@dataclass(frozen=True, slots=True)
class TeamsTables(GenerationTables):
    """The tables of one generation."""

    teams: Table


def teams_tables(generation: int) -> TeamsTables:
    """One row a team, also an erased one, which has no name any more."""
    metadata = MetaData()
    table = Table(
        f"{NAME}_g{generation}",
        metadata,
        Column("id", Uuid, primary_key=True),
        Column("version", BigInteger, nullable=False),
        Column("name", Text),
        Column("members", Integer),
        Column("document", LargeBinary),
    )
    return TeamsTables(metadata, (table,), ("false",), table)


SCHEMA: Final = ProjectionSchema(name=NAME, shape=1, channel="muster_teams_moved", tables=teams_tables)

# -- projection --------------------------------------------------------------------------------------------------------

TEAMS: Final = Subject(TEAM_EVENTS, topic=attrgetter("events_topic"))

_UPSERT: Final = """
INSERT INTO {teams} AS t (id, version, name, members, document)
SELECT i.* FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::int[], $5::bytea[])
    AS i (id, version, name, members, document) WHERE {condition}
ON CONFLICT (id) DO UPDATE SET version = excluded.version, name = excluded.name, members = excluded.members,
    document = excluded.document
WHERE t.version < excluded.version
"""


_CARRY_ERASED: Final = """
INSERT INTO {new} SELECT * FROM {old} WHERE document IS NULL AND id >= $1 AND ($2::uuid IS NULL OR id < $2)
ON CONFLICT DO NOTHING
"""


class TeamsWriter:
    """Writes one generation of the teams' table."""

    def __init__(self, generation: int) -> None:
        name = self._table = teams_tables(generation).teams.name
        self._upsert = _UPSERT.format(teams=name, condition="true")
        self._upsert_if_moved = _UPSERT.format(teams=name, condition=IF_MOVED)

    def as_insert(self, events: Sequence[DecodedEvent]) -> Insert:
        return Insert(self._upsert_if_moved, _columns(events))

    async def apply(self, connection: Connection, events: Sequence[DecodedEvent]) -> None:
        await connection.execute(self._upsert, *_columns(events))

    async def reset(self, connection: Connection, state: PresentState) -> None:
        await connection.execute(f"DELETE FROM {self._table} WHERE id = $1", state.subject_id)


def _columns(events: Sequence[DecodedEvent]) -> list[list[Any]]:
    latest = newest(events).values()
    states = [event.state for event in latest]
    return [
        [event.subject_id for event in latest],
        [event.version for event in latest],
        [state and state.name for state in states],
        [state and state.members for state in states],
        [event.document or None for event in latest],
    ]


def carry_over(old: int, new: int) -> CarryOver:
    """Take over the erased."""
    return CarryOver(
        f"{NAME}_g{old}",
        [_CARRY_ERASED.format(new=f"{NAME}_g{new}", old=f"{NAME}_g{old}")],
    )


PROJECTION: Final = Projection(TEAMS, SCHEMA, TeamsWriter, {1: carry_over}, 3)
