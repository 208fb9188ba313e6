"""A refill publishes everybody once, by pages, beside commands; and goes on where it was stopped."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from operator import itemgetter
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from chassis.kafka.client import admin, delete_topic, ensure_topics
from chassis.postgres.database import Database
from chassis.postgres.roles import OPERATOR
from chassis.settings import Kafka, PostgresAddress
from command_api import refill as refilling
from command_api.refill import CannotRefillError, Refill, Refilled
from command_api.republication import Operation
from outbox.published_topics import note_leader
from outbox.topics import wanted_topics
from projectors.operations.topic_ends import topic_id_now
from tests.conftest import make_topics
from tests.databases import as_role
from tests.envelopes import envelope_of
from tests.integration.command_api.conftest import Connection, register

#: On a loaded machine.
PUBLISHED_SECONDS = 60
TOPIC, TOPIC_ID = "users.events", uuid4()
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
OURS = Operation("cli:ann")


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refilling, "PAGE_USERS", 3)
    monkeypatch.setattr(refilling, "LOOK_SECONDS", 0.01)


@pytest.fixture
async def operator(command_database: PostgresAddress) -> AsyncIterator[Database]:
    async with Database.open(as_role(command_database, OPERATOR), application="tests") as database:
        yield database


@pytest.fixture
async def people(api: httpx.AsyncClient, database: Connection) -> list[dict[str, Any]]:
    """Ten users whose events have been published; the last one is erased, the one before was so long ago."""
    people = [await register(api, f"user{number}") for number in range(10)]
    for person in people[8:]:
        assert (await api.delete(f"/users/{person['id']}")).status_code == 204
    await database.execute("UPDATE erased_users SET erased_at = $1 WHERE id = $2", LONG_AGO, people[8]["id"])
    await database.execute("DELETE FROM outbox")
    await note_leader(database, TOPIC, 12)
    return people


def refill(database: Database, topic: str = TOPIC, topic_id: UUID = TOPIC_ID) -> Refill:
    async def look() -> UUID:
        return topic_id

    since = LONG_AGO + timedelta(days=1)
    return Refill(database, topic, topic_id, look=look, erased_since=since, operation=OURS)


class Relay:
    """Takes what is in the outbox, so many rows at a time, in the order of ids."""

    def __init__(self, database: Connection, rows: int = 1) -> None:
        self.published: list[tuple[str, str, int]] = []
        self.ended = False
        self._database = database
        self._rows = rows

    async def run(self, limit: int = 1_000_000) -> None:
        """Until so many are published, or `ended`: a relay that is cancelled would lose what it has taken.

        Raises:
            AssertionError: neither came within PUBLISHED_SECONDS.
        """
        deadline = time.monotonic() + PUBLISHED_SECONDS
        while len(self.published) < limit and not self.ended:
            assert time.monotonic() < deadline, f"{len(self.published)} of {limit} came"
            rows = await self._database.fetch(
                "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox ORDER BY id LIMIT $1) RETURNING id, headers",
                self._rows,
            )
            for row in sorted(rows, key=itemgetter("id")):
                envelope = envelope_of(row["headers"])
                self.published.append((str(envelope.subject_id), envelope.type.split(".")[2], envelope.version))
            await asyncio.sleep(0 if rows else 0.005)


async def run(
    work: Refill, relay: Relay, stop: asyncio.Event | None = None, looks: list[Refilled] | None = None
) -> bool:
    relay.ended = False
    publishing = asyncio.create_task(relay.run())
    try:
        report = (lambda _: None) if looks is None else looks.append
        return await asyncio.wait_for(work.run(stop or asyncio.Event(), report), 30)
    finally:
        relay.ended = True
        await publishing


async def test_everybody_is_published_once_as_they_are_and_the_erased_while_it_matters(
    operator: Database, database: Connection, people: list[dict[str, Any]]
) -> None:
    relay, work = Relay(database), refill(operator)
    assert await run(work, relay)

    living = [(person["id"], "snapshot", 1) for person in people[:8]]
    assert relay.published == [*living, (people[9]["id"], "erased", 2)]
    assert (work.progress.appended, work.progress.waiting) == (9, 0)
    assert await run(refill(operator), again := Relay(database))
    assert again.published == relay.published, "a refill that has ended begins anew"


async def test_no_more_than_two_pages_wait_at_any_time(
    operator: Database, database: Connection, people: list[dict[str, Any]]
) -> None:
    del people
    most = 0
    work = refill(operator)
    working = asyncio.create_task(work.run(asyncio.Event(), lambda _: None))
    relay = Relay(database)
    for published in range(1, 10):
        await relay.run(limit=published)
        most = max(most, await database.fetchval("SELECT count(*) FROM outbox"))
    assert await asyncio.wait_for(working, 30)
    assert most <= 2 * refilling.PAGE_USERS


async def test_one_that_was_stopped_goes_on_there_and_waits_for_what_it_had_appended(
    operator: Database, database: Connection, people: list[dict[str, Any]]
) -> None:
    stop = asyncio.Event()
    stop.set()
    assert not await refill(operator).run(stop, lambda _: None), "nobody publishes"
    appended = await database.fetchval("SELECT count(*) FROM outbox")
    assert 0 < appended < 9
    relay = Relay(database)
    assert await run(refill(operator), relay)
    assert [user for user, _, _ in relay.published] == [person["id"] for person in (*people[:8], people[9])]


async def test_it_does_not_wait_for_users_of_whom_a_row_is_set_aside(
    operator: Database, database: Connection, people: list[dict[str, Any]]
) -> None:
    held = people[0]["id"]
    await database.execute(
        "INSERT INTO outbox_set_aside (id, event_id, subject_id, headers, damage, appended_at)"
        " VALUES (1, gen_random_uuid(), $1, '', 'no headers', now())",
        UUID(held),
    )
    work = asyncio.create_task(refill(operator).run(asyncio.Event(), lambda _: None))
    async with asyncio.timeout(30):
        while not work.done():
            await database.execute("DELETE FROM outbox WHERE subject_id <> $1", UUID(held))
            await asyncio.sleep(0.005)
    assert await work
    assert await database.fetchval("SELECT count(*) FROM outbox") == 1


async def test_another_topic_of_that_name_is_filled_from_the_beginning(
    operator: Database, database: Connection, people: list[dict[str, Any]]
) -> None:
    stop = asyncio.Event()
    stop.set()
    await refill(operator).run(stop, lambda _: None)
    await database.execute("DELETE FROM outbox")
    relay = Relay(database)
    assert await run(refill(operator, topic_id=uuid4()), relay)
    assert len(relay.published) == len(people) - 1


@pytest.mark.parametrize("is_made_again", [True, False], ids=["and made again", "and gone"])
async def test_a_topic_that_is_deleted_in_the_middle_is_not_taken_for_full(
    operator: Database, database: Connection, people: list[dict[str, Any]], kafka: Kafka, *, is_made_again: bool
) -> None:
    topics = await make_topics(kafka, partitions=1)
    topic = topics.events_topic
    await note_leader(database, topic, 1)
    look = partial(topic_id_now, kafka, topic)
    first = await look()
    assert first is not None

    def refill_now(topic_id: UUID) -> Refill:
        return Refill(
            database=operator, topic=topic, topic_id=topic_id, look=look, erased_since=LONG_AGO, operation=OURS
        )

    work = asyncio.create_task(refill_now(first).run(asyncio.Event(), lambda _: None))
    relay = Relay(database)
    await relay.run(limit=4)
    async with admin(kafka) as client:
        await delete_topic(client, topic)
        if is_made_again:
            await ensure_topics(client, wanted_topics(topics))
    await asyncio.gather(relay.run(limit=9), asyncio.wait([work]))
    with pytest.raises(CannotRefillError, match="was made again" if is_made_again else "is gone"):
        await work
    if is_made_again:
        second = await look()
        assert second is not None
        assert await run(refill_now(second), again := Relay(database))
        assert {user for user, _, _ in again.published} >= {person["id"] for person in people[:8]}


async def test_it_leaves_the_place_to_another_refill_that_came_between(
    operator: Database, database: Connection, people: list[dict[str, Any]]
) -> None:
    work, other = refill(operator), refill(operator, topic_id=uuid4())
    await work._begin()
    assert await work._append_page()
    await other._begin()
    for step in (work._append_page, work._end):
        with pytest.raises(CannotRefillError, match="another refill"):
            await step()
    assert await database.fetchval("SELECT refilled_to FROM published_topics") is None
    await other._end()
    with pytest.raises(CannotRefillError, match="another refill"):
        await other._append_page()
    # Run again, as they say.
    assert await run(refill(operator), again := Relay(database))
    assert {user for user, _, _ in again.published} >= {person["id"] for person in people[:8]}


async def test_a_relay_that_leads_with_another_topic_before_the_end_is_noticed(
    operator: Database, database: Connection, people: list[dict[str, Any]]
) -> None:
    del people
    work = refill(operator)
    await work._begin()
    while await work._append_page():
        pass
    await note_leader(database, "users.events.24", 24)
    with pytest.raises(CannotRefillError, match=r"publishes to users\.events\.24"):
        await work._end()


async def test_a_page_looks_at_none_of_the_erased_behind_it(database: Connection, people: list[dict[str, Any]]) -> None:
    await database.execute(
        "INSERT INTO erased_users SELECT ('ffffffff' || substr(gen_random_uuid()::text, 9))::uuid, 2, $1"
        " FROM generate_series(1, 100)",
        LONG_AGO,
    )
    explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {refilling._NEXT}"
    async with database.transaction():
        await database.execute("SET LOCAL enable_seqscan = off")
        (plan,) = json.loads(await database.fetchval(explain, UUID(int=0), 3, LONG_AGO))
    looked_at = [
        node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
        for node in nodes(plan["Plan"])
        if node.get("Relation Name") == "erased_users"
    ]
    assert looked_at == [0], people


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


async def test_a_topic_that_no_relay_publishes_to_is_refused(
    operator: Database, database: Connection, people: list[dict[str, Any]]
) -> None:
    del people
    with pytest.raises(CannotRefillError, match=r"publishes to users\.events: start the relay with EVENTS_TOPIC=other"):
        await refill(operator, topic="other").run(asyncio.Event(), lambda _: None)
    await database.execute("DELETE FROM published_topics")
    with pytest.raises(CannotRefillError, match="no relay has led yet"):
        await refill(operator).run(asyncio.Event(), lambda _: None)


async def test_commands_beside_it_are_published_in_order_and_never_followed_by_an_older_state(
    api: httpx.AsyncClient, operator: Database, database: Connection, people: list[dict[str, Any]]
) -> None:
    relay, over = Relay(database, rows=500), asyncio.Event()

    async def change(person: dict[str, Any]) -> None:
        for number in range(1000):
            if over.is_set():
                return
            name = {"username": f"{person['username']}-{number}"}
            assert (await api.put(f"/users/{person['id']}/username", json=name)).status_code == 200

    async with asyncio.TaskGroup() as group:
        for person in people[:3]:
            group.create_task(change(person))
        for _ in range(3):
            assert await run(refill(operator), relay)
        over.set()
    relay.ended = False
    await relay.run(limit=len(relay.published) + await database.fetchval("SELECT count(*) FROM outbox"))
    for person in people[:3]:
        versions = [(version, kind) for user, kind, version in relay.published if user == person["id"]]
        assert [version for version, _ in versions] == sorted(version for version, _ in versions)
        events = [version for version, kind in versions if kind != "snapshot"]
        assert events == list(range(2, len(events) + 2)), "every event once"
        assert len(versions) - len(events) == 3
