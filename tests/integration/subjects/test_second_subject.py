"""A second kind of subject flows through the real outbox, relay, Kafka and consumer, which know nothing of it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import asyncpg
import msgspec
import pytest
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from chassis.identifiers import new_id
from chassis.postgres.database import Connection, Database, connect
from chassis.settings import Kafka, PostgresAddress, Topics
from events.envelope import Envelope
from projectors.decoding.records import DecodedEvent
from projectors.decoding.slices import SliceDecoder
from projectors.fleet import Fleet
from projectors.operations import parked
from projectors.operations.lag import measure
from projectors.operations.rebuild import Rebuild, Stage
from projectors.projections.catalogue import PROJECTIONS
from read_model import generations
from read_model.catalogue import SCHEMAS
from tests.integration.outbox.relaying import relaying, settings_for
from tests.integration.projectors.conftest import make_settings, running
from tests.integration.projectors.stream import FakeRecord
from tests.integration.subjects import teams
from tests.integration.subjects.teams import PublicTeam, TeamErased, TeamFounded, TeamRenamed
from tests.waiting import until

DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


def new_team(number: int) -> PublicTeam:
    return PublicTeam(
        id=new_id(), version=1, name=f"Team {number}", members=number, lead=new_id() if number % 2 else None,
        goals=["grow", "ü"][: number % 3], labels={"a": [number, {"b": None}]}, founded_at=NOW,
        closed_at=NOW if number % 3 == 0 else None,
    )  # fmt: skip


def renamed(team: PublicTeam, name: str) -> TeamRenamed:
    after = team.model_copy(update={"name": name, "version": team.version + 1})
    return TeamRenamed(team=after, previous={"name": team.name})


@pytest.fixture
async def command(command_database: PostgresAddress) -> AsyncIterator[Connection]:
    connection = await connect(command_database, application="tests")
    await connection.execute(str(CreateTable(teams.teams).compile(dialect=DIALECT)))
    yield connection
    await connection.close()


@pytest.fixture
async def query(query_database: PostgresAddress, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    """The query database of a process that projects teams as well."""
    monkeypatch.setitem(PROJECTIONS, teams.NAME, teams.PROJECTION)
    monkeypatch.setitem(SCHEMAS, teams.NAME, teams.SCHEMA)
    async with Database.open(query_database, application="tests") as database:
        async with database.connection() as connection:
            await generations.ensure_first(connection)
        yield database


async def rows(database: Database, number: int = 1) -> dict[Any, asyncpg.Record]:
    async with database.connection() as connection:
        return {row["id"]: row for row in await connection.fetch(f"SELECT * FROM teams_g{number}")}


async def test_teams_are_published_projected_parked_and_rebuilt(  # noqa: PLR0917 - fixtures
    kafka: Kafka, topics: Topics, command_database: PostgresAddress, query_database: PostgresAddress,
    command: Connection, query: Database,
) -> None:  # fmt: skip
    settings = make_settings(kafka, topics, query_database)
    relay_settings = settings_for(command_database, kafka, topics, relay_name=topics.events_topic)
    first, second, gone, bad = (new_team(number) for number in range(4))
    last = renamed(first, "Renamed")

    async def arrived() -> bool:
        found = await rows(query)
        return len(found) == 3 and found[first.id]["version"] == 2 and found[gone.id]["name"] is None

    async with relaying(relay_settings), running(Fleet(settings, query, [teams.NAME]).run):
        for event in (
            TeamFounded(team=first), TeamFounded(team=second), last, TeamFounded(team=gone), TeamErased(gone.id, 2),
            TeamFounded(team=bad.model_copy(update={"name": "a\0b"})), TeamFounded(team=first),
        ):  # fmt: skip
            await teams.commit(command, event, NOW)
        await until(arrived, within=60, what="the teams' rows")
        await until(lambda: parked.summaries(query), within=30, what="the record that cannot be applied")

    found = await rows(query)
    assert found[first.id]["document"] == last.team.model_dump_json().encode()
    assert (found[second.id]["name"], found[second.id]["members"]) == ("Team 1", 1)
    [summary] = await parked.summaries(query)
    assert (summary.id.projection, summary.subject_id) == (teams.NAME, bad.id)
    assert summary.error == "a text has a NUL character"
    [lag] = [one for one in await measure(settings, query) if one.projection == teams.NAME]
    assert len(lag.partitions) == topics.topic_partitions
    work = Rebuild(settings, query, teams.NAME, asyncio.Event(), lambda _: None)
    assert await work.run(pause_before_switch=True) is Stage.READY
    assert {key: dict(row) for key, row in (await rows(query, 2)).items()} == {
        key: dict(row) for key, row in found.items()
    }


def test_what_the_relay_writes_of_a_team_takes_the_fast_path() -> None:
    decoder, records = SliceDecoder(teams.TEAMS), []
    for number in range(30):
        team = new_team(number)
        event = renamed(team, "ü\n")
        value = teams.TEAM_EVENTS.encode(event)
        envelope = Envelope(
            event_id=new_id(), source=teams.TEAM_EVENTS.source, type=event.type(), subject_id=team.id, version=2,
            time=NOW, correlation_id="test", causation_id="test",
        )  # fmt: skip
        records.append(FakeRecord(str(team.id).encode(), value, envelope.headers()))
    events = decoder._read_plain(records)
    assert events == [decoder._one.read(record) for record in records]
    assert all(isinstance(event, DecodedEvent) and event.state.name == "ü\n" for event in events)


def test_a_field_that_is_not_as_the_model_writes_it_takes_the_slow_path() -> None:
    decoder, team = SliceDecoder(teams.TEAMS), new_team(3)
    value = teams.TEAM_EVENTS.encode(TeamFounded(team=team))
    assert value is not None
    envelope = Envelope(
        event_id=new_id(), source=teams.TEAM_EVENTS.source, type=TeamFounded.type(), subject_id=team.id, version=1,
        time=NOW, correlation_id="test", causation_id="test",
    )  # fmt: skip
    good = FakeRecord(str(team.id).encode(), value, envelope.headers())
    lead = str(team.lead).encode()
    for old, new in (
        (lead, lead.upper()), (lead, b"1" + lead), (b"12:00:00", b"25:00:00"), (b'"goals":[', b'"goals":[1,'),
        (b'"goals":[', b'"goals":[ '), (b'"labels":{', b'"labels":{"x":NaN,'),
    ):  # fmt: skip
        other = replace(good, value=value.replace(old, new, 1))
        with pytest.raises((ValueError, msgspec.DecodeError)):
            decoder._read_plain([other])
        assert decoder.read([other]) == [decoder._one.read(other)]
