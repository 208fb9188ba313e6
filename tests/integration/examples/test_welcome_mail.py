"""The example of welcome mails: one for each newcomer, whatever is killed, and nobody waits for what cannot be read."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.partitioner import DefaultPartitioner
from faststream import ContextRepo
from faststream.exceptions import NackMessage

from chassis.identifiers import new_id
from chassis.kafka.client import Topic, admin, client_arguments, ensure_topics
from chassis.settings import Kafka, Topics
from events.user_events import PublicUser, UserErased, UserRegistered
from examples import welcome_mail
from local_stack.ports import free_port
from tests.integration.examples.processes import rows, running, variables
from tests.integration.projectors.stream import FakeRecord, Publisher, new_user, record
from tests.waiting import until

DEAD_LETTERS = TopicPartition("welcome-mail.dead-letters", 0)
PARTITIONS = list(range(12))


def _newcomer(number: int, user_id: UUID | None = None) -> PublicUser:
    return new_user(number, now=datetime.now(UTC), user_id=user_id)


def _beside(user: PublicUser) -> UUID:
    """The id of another user in the same partition, who so comes later."""
    partition = DefaultPartitioner()
    wanted = partition(str(user.id).encode(), PARTITIONS, PARTITIONS)
    while partition(str(found := new_id()).encode(), PARTITIONS, PARTITIONS) != wanted:
        continue
    return found


def _with(item: FakeRecord, *headers: tuple[str, bytes | None]) -> FakeRecord:
    """The record with these headers, in the places of those that it has, or behind them."""
    names = {name for name, _ in headers}
    return replace(item, headers=[*(each for each in item.headers if each[0] not in names), *headers])


async def _dead_letters(kafka: Kafka, keys: set[bytes | None]) -> list[ConsumerRecord[bytes, bytes]]:
    """Those of these users."""
    consumer = AIOKafkaConsumer(**client_arguments(kafka), enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign([DEAD_LETTERS])
        await consumer.seek_to_beginning(DEAD_LETTERS)
        found = await consumer.getmany(DEAD_LETTERS, timeout_ms=500)
    finally:
        await consumer.stop()
    return [each for each in found.get(DEAD_LETTERS, []) if each.key in keys]


@asynccontextmanager
async def welcoming(told: dict[str, str], out: Path) -> AsyncIterator[str]:
    """The service, ready, until it is killed; gives its address."""
    port = free_port()
    arguments = ("run", "examples.welcome_mail:app", "--host", "127.0.0.1", "--port", str(port))
    async with running("faststream", *arguments, environment=told, out=out):
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:

            async def ready() -> bool:
                try:
                    return (await client.get("/health")).status_code == 204
                except httpx.TransportError:
                    return False

            await until(ready, within=60, what="the service to be ready")
        yield f"http://127.0.0.1:{port}"


def _recipients(out: Path) -> list[str]:
    return [line.removeprefix("To: ") for line in out.read_text().splitlines() if line.startswith("To: ")]


async def _until_written(out: Path, user: PublicUser) -> list[str]:
    """Wait for the mail to a user; give the recipients of all."""

    async def to() -> list[str]:
        found = _recipients(out)
        return found if user.email in found else []

    return await until(to, within=60, what=f"the mail to {user.email}")


async def test_each_newcomer_gets_one_mail_and_what_cannot_be_read_is_set_aside(
    kafka: Kafka, topics: Topics, publisher: Publisher, tmp_path: Path
) -> None:
    async with admin(kafka) as client:
        await ensure_topics(client, [Topic(DEAD_LETTERS.topic, 1, {})])
    seen = tmp_path / "seen.sqlite"
    told = variables(kafka, topics, WELCOME_MAIL_FILE=str(seen))
    ann, ben = _newcomer(1), _newcomer(2)
    ann_registers = record(UserRegistered(user=ann), now=ann.created_at)
    imported, unreadable = new_user(3), replace(record(UserRegistered(user=_newcomer(4))), value=b'{"user":')
    damaged = _with(record(UserRegistered(user=_newcomer(5))), ("ce_id", b"\xff"))
    foreign = _with(record(UserRegistered(user=_newcomer(8))), ("ce_source", b"/other/users"))
    # What a later Muster, or a proxy, puts there; whatever it is.
    ann_registers = _with(ann_registers, ("later", b"\xff"), ("even-later", None))
    unreadable = _with(unreadable, ("later", b"1"), ("even-later", None))
    last = _newcomer(6, _beside(ann))
    first = tmp_path / "first.txt"
    async with welcoming(told, first) as url:
        await publisher.publish([record(UserRegistered(user=imported)), unreadable, damaged, foreign, ann_registers])
        assert await _until_written(first, ann) == [ann.email]

        async def set_aside() -> list[ConsumerRecord[bytes, bytes]]:
            found = await _dead_letters(kafka, {unreadable.key, damaged.key, foreign.key})
            return found if len(found) == 2 else []

        letters = {each.key: each for each in await until(set_aside, within=60, what="both to be set aside")}
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            page, document = await client.get("/asyncapi"), (await client.get("/asyncapi.json")).json()

    second = tmp_path / "second.txt"
    async with welcoming(told, second):
        # After the kill, and again, because a backup was restored: the same event.
        gone = _newcomer(7)
        again = [ann_registers, record(UserErased(imported.id, 2))]
        again += [record(UserRegistered(user=gone), now=gone.created_at), record(UserErased(gone.id, 2))]
        await publisher.publish([*again, record(UserRegistered(user=ben), now=ben.created_at)])
        await publisher.publish([record(UserRegistered(user=last), now=last.created_at)])
        await _until_written(second, gone)

        async def all_but_the_erased() -> bool:
            return {row[0] for row in rows(seen, "SELECT user_id FROM seen")} == {
                str(ann.id),
                str(ben.id),
                str(last.id),
            }

        await until(all_but_the_erased, within=60, what="the notes of the living alone")
        sent = await _until_written(second, last)

    assert sorted(sent) == sorted([ben.email, gone.email, last.email])
    assert letters[unreadable.key].value == unreadable.value
    assert dict(letters[unreadable.key].headers)["later"] == b"1"
    assert dict(letters[damaged.key].headers)["dead-letter-error"] == b"UnicodeDecodeError"
    assert "Welcome mails" in page.text
    assert {each["address"] for each in document["channels"].values()} >= {topics.events_topic, DEAD_LETTERS.topic}


@pytest.mark.parametrize("error", [OSError("no route"), sqlite3.OperationalError("database is locked")])
async def test_what_is_away_or_locked_is_waited_for(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(welcome_mail, "RETRY_SECONDS", 0)
    middleware = welcome_mail.errors(None, context=ContextRepo())

    with pytest.raises(NackMessage):
        await middleware.after_processed(type(error), error)
