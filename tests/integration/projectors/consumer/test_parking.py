"""What cannot be applied is parked with its user's later records, and nobody else notices."""

import base64
import json
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from chassis.kafka.client import admin
from chassis.postgres.database import Database
from chassis.settings import Kafka
from events.user_events import PublicUser, UserErased, UserProfileChanged, UserRegistered, UserUsernameChanged
from projectors.app import serve
from projectors.operations import parked
from projectors.operations.parked import NoSuchRecordError, OtherShapeError, RecordId, Summary
from projectors.settings import ProjectorSettings
from tests.integration.projectors.conftest import running
from tests.integration.projectors.stream import FakeRecord, Publisher, new_user, record
from tests.waiting import until


def registered(user: PublicUser, **changes: Any) -> FakeRecord:
    """A registration, with some of the record replaced."""
    return replace(record(UserRegistered(user=user)), **changes)


def with_header(item: FakeRecord, name: str, value: bytes | None) -> FakeRecord:
    """The record with one header replaced, or without it."""
    kept = [(known, old) for known, old in item.headers if known != name]
    return replace(item, headers=kept if value is None else [*kept, (name, value)])


def renamed(user: PublicUser, username: str) -> FakeRecord:
    """The next event of a user."""
    after = user.model_copy(update={"username": username, "version": user.version + 1})
    return record(UserUsernameChanged(user=after, previous={"username": user.username}))


def profiled(user: PublicUser) -> FakeRecord:
    """The next event of a user, which keeps the name."""
    after = user.model_copy(update={"display_name": "x", "version": user.version + 1})
    return record(UserProfileChanged(user=after, previous={"display_name": None}))


def poison(kind: str, user: PublicUser) -> FakeRecord:
    """A record that no projection can apply."""
    good = registered(user)
    assert good.value is not None
    huge = user.model_copy(update={"attributes": {"a": "x" * 10 * 1024 * 1024}})
    nul = user.model_copy(update={"display_name": "a\0b"})
    records = {
        "bad JSON": replace(good, value=b"{not json"),
        "no UTF-8": replace(good, value=b"\xff\xfe"),
        "unknown type": with_header(good, "ce_type", b"muster.user.teleported.v1"),
        "future version": with_header(good, "ce_type", b"muster.user.registered.v2"),
        "unknown field": replace(good, value=good.value.replace(b'"previous"', b'"x":1,"previous"')),
        "NUL": registered(nul),
        "10 MiB": registered(huge),
        "no header": with_header(good, "ce_sequence", None),
        "header of no UTF-8": with_header(good, "ce_time", b"\xff"),
        "header without a value": replace(
            good, headers=[(name, None if name == "ce_id" else value) for name, value in good.headers]
        ),
        "wrong key": replace(registered(new_user()), key=good.key),
        "wrong version": with_header(good, "ce_sequence", b"7"),
        "null value": replace(good, value=None),
        "deep JSON": replace(good, value=b'{"user":' + b"[" * 100_000),
        "surrogate": replace(good, value=good.value.replace(b"User-", b"\\ud800")),
    }
    return records[kind]


KINDS = [
    "bad JSON", "no UTF-8", "unknown type", "future version", "unknown field", "NUL", "10 MiB", "no header",
    "header of no UTF-8", "header without a value", "wrong key", "wrong version", "null value", "deep JSON",
    "surrogate",
]  # fmt: skip
#: No relay of ours publishes these, so nobody waits behind them.
SUSPICIOUS_KINDS = {"no header", "header of no UTF-8", "header without a value", "wrong key"}


async def test_every_kind_of_poison_is_parked_byte_for_byte_and_others_flow_on(
    settings: ProjectorSettings, database: Database, publisher: Publisher, kafka: Kafka
) -> None:
    await allow_large_records(kafka, publisher.topic)
    poisoned = {kind: new_user(number) for number, kind in enumerate(KINDS)}
    healthy = new_user(100)
    async with running(partial(serve, settings, projections=["users"])):
        await publisher.publish([registered(new_user(99))])
        await until(lambda: users_there(database, 1), within=20, what="a first user")
        for kind, user in poisoned.items():
            await publisher.publish([poison(kind, user), renamed(user, "later")])
        for key in (None, b"", b"not an id", b"\xff" * 36):
            await publisher.publish([registered(new_user(), key=key)])
        records = 2 * len(KINDS) - len(SUSPICIOUS_KINDS) + 4
        published = time.monotonic()
        await publisher.publish([registered(healthy)])
        there = 2 + len(SUSPICIOUS_KINDS)
        await until(lambda: users_there(database, there), within=20, what="the healthy user")
        # The bar is a second; a shared machine gets some slack.
        assert time.monotonic() - published < 5
        found = await until(lambda: parked_there(database, records), within=20, what="all parked")
    by_user = {summary.subject_id: summary for summary in found if summary.error is not None}
    for kind, user in poisoned.items():
        original = poison(kind, user)
        kept = await parked.find(database, by_user[user.id].id)
        assert (kept.key, kept.value) == (original.key, original.value) or kind in {"wrong key", "NUL"}, kind
        if kind != "wrong key":
            assert [name for name, _ in kept.headers] == [name for name, _ in original.headers], kind
    waiting = [summary for summary in found if summary.error is None]
    held = {user.id for kind, user in poisoned.items() if kind not in SUSPICIOUS_KINDS}
    assert {summary.subject_id for summary in waiting} == held
    assert {summary.subject_id for summary in found if not summary.suspicious} == held
    assert sum(summary.subject_id is None for summary in found) == 4


async def test_a_tombstone_removes_the_person_and_what_is_parked_of_them(
    settings: ProjectorSettings, database: Database, publisher: Publisher
) -> None:
    user, other = new_user(1), new_user(2)
    async with running(partial(serve, settings)):
        await publisher.publish([registered(user), poison("bad JSON", user), renamed(user, "later")])
        await publisher.publish([poison("bad JSON", other)])
        await until(lambda: parked_there(database, 9), within=20, what="three parked for each projection")
        await publisher.publish([record(UserErased(user.id, 3))])
        found = await until(lambda: parked_only(database, 3), within=20, what="one parked for each projection")
        assert {summary.subject_id for summary in found} == {other.id}
    async with database.connection() as connection:
        for table in ("users_g1", "timeline_g1"):
            assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 0
        for table in ("users_g1_erased", "timeline_g1_users", "signups_g1_users"):
            assert await connection.fetchval(f"SELECT version FROM {table} WHERE id = $1", user.id) == 3


async def test_a_tombstone_in_the_same_batch_as_the_poison_leaves_nothing_parked(
    settings: ProjectorSettings, database: Database, publisher: Publisher
) -> None:
    user = new_user(1)
    await publisher.publish([registered(user), poison("bad JSON", user), record(UserErased(user.id, 2))])
    await publisher.publish([registered(new_user(2))])
    async with running(partial(serve, settings, projections=["users"])):
        await until(lambda: users_there(database, 1), within=20, what="the other user")
        await until(lambda: erased_there(database, 1), within=20, what="the erasure")
    assert await parked.summaries(database) == []


async def test_what_the_database_refuses_is_found_in_its_batch_and_parked(
    settings: ProjectorSettings, database: Database, publisher: Publisher
) -> None:
    # An index entry has to fit on a page: 54000 program_limit_exceeded, from a random text that does not compress.
    too_long = "".join(random.Random(1).choices([chr(0x4E00 + number) for number in range(20000)], k=9000))
    bad = new_user(1).model_copy(update={"username": too_long})
    others = [new_user(number) for number in range(2, 40)]
    records = [registered(user) for user in others]
    await publisher.publish([*records[:20], registered(bad), *records[20:], profiled(bad)])
    async with running(partial(serve, settings, projections=["users"])):
        await until(lambda: users_there(database, len(others)), within=20, what="everybody else")
        found = await until(lambda: parked_there(database, 2), within=20, what="the parked")
    assert [summary.subject_id for summary in found] == [bad.id, bad.id]
    assert found[0].error is not None
    assert "ProgramLimitExceeded" in found[0].error
    assert found[1].error is None


async def test_discarding_the_first_record_frees_the_queue_in_order(
    settings: ProjectorSettings, database: Database, publisher: Publisher
) -> None:
    user = new_user(1)
    later = user.model_copy(update={"version": 2})
    async with running(partial(serve, settings, projections=["users"])):
        await publisher.publish([poison("bad JSON", user), renamed(user, "second"), renamed(later, "third")])
        first, *_ = await until(lambda: parked_there(database, 3), within=20, what="the queue")
        refused = await parked.retry_record(database, first.id)
        assert (refused.applied, refused.remaining) == (0, 3)
        outcome = await parked.discard_record(database, first.id)
        assert (outcome.applied, outcome.discarded, outcome.remaining) == (2, 1, 0)
        await publisher.publish([renamed(later.model_copy(update={"version": 3}), "fourth")])
        await until(lambda: has_name(database, "fourth"), within=20, what="the next event, not parked any more")
    with pytest.raises(NoSuchRecordError):
        await parked.find(database, first.id)


async def test_a_retry_applies_what_can_be_applied_now(
    settings: ProjectorSettings, database: Database, publisher: Publisher
) -> None:
    user = new_user(1)
    good = registered(user)
    async with running(partial(serve, settings, projections=["users"])):
        await publisher.publish([poison("future version", user), renamed(user, "second")])
        await until(lambda: parked_there(database, 2), within=20, what="the queue")
        # What a newer version of the code would read as this.
        async with database.connection() as connection:
            headers = json.dumps([[n, base64.b64encode(v or b"").decode()] for n, v in good.headers])
            await connection.execute("UPDATE parked_records SET headers = $1 WHERE error IS NOT NULL", headers.encode())
        outcome = await parked.retry_all(database)
        assert (outcome.applied, outcome.remaining) == (2, 0)
    assert await has_name(database, "second")


async def test_what_only_another_version_of_the_code_can_retry_remains_and_is_counted(
    settings: ProjectorSettings, database: Database, publisher: Publisher
) -> None:
    user = new_user(1)
    async with running(partial(serve, settings, projections=["users"])):
        await publisher.publish([poison("future version", user), renamed(user, "second")])
        await until(lambda: parked_there(database, 2), within=20, what="the queue")
    async with database.connection() as connection:
        await connection.execute("UPDATE generations SET shape = 99 WHERE projection = 'users'")
    outcome = await parked.retry_all(database)
    assert (outcome.applied, outcome.remaining) == (0, 2)
    with pytest.raises(OtherShapeError, match="shape 99"):
        await parked.retry_record(database, (await parked.summaries(database))[0].id)


async def test_a_database_outage_parks_nothing(
    database: Database, settings: ProjectorSettings, publisher: Publisher
) -> None:
    user = new_user(1)
    async with running(partial(serve, settings, projections=["users"])):
        await publisher.publish([registered(user)])
        await until(lambda: users_there(database, 1), within=20, what="the user")
        async with database.connection() as connection:
            await connection.execute("ALTER TABLE users_g1 RENAME TO users_away")
        await publisher.publish([profiled(user)])
        async with database.connection() as connection:
            await until(lambda: failing(database), within=20, what="an attempt that failed")
            await connection.execute("ALTER TABLE users_away RENAME TO users_g1")
        await until(lambda: version_there(database, 2), within=20, what="the change")
    assert await parked.summaries(database) == []


def test_an_id_that_is_none_is_refused() -> None:
    with pytest.raises(NoSuchRecordError):
        RecordId.parse("users/1/x")


async def allow_large_records(kafka: Kafka, topic: str) -> None:
    """As a misconfigured topic would; a compacted one also refuses records without a key."""
    async with admin(kafka) as client:
        configs = {"max.message.bytes": str(32 * 1024 * 1024), "cleanup.policy": "delete"}
        await client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=configs)])


async def users_there(database: Database, count: int) -> bool:
    return bool(await _value(database, "SELECT count(*) FROM users_g1") == count)


async def erased_there(database: Database, count: int) -> bool:
    return bool(await _value(database, "SELECT count(*) FROM users_g1_erased") == count)


async def version_there(database: Database, version: int) -> bool:
    return bool(await _value(database, "SELECT max(version) FROM users_g1") == version)


async def has_name(database: Database, username: str) -> bool:
    return bool(await _value(database, "SELECT count(*) FROM users_g1 WHERE username_key = $1", username))


async def failing(database: Database) -> bool:
    """A session of the projectors has rolled back."""
    query = "SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()"
    return bool(await _value(database, query))


async def parked_there(database: Database, count: int) -> Sequence[Summary]:
    found = await parked.summaries(database)
    return found if len(found) >= count else []


async def parked_only(database: Database, count: int) -> Sequence[Summary]:
    found = await parked.summaries(database)
    return found if len(found) == count else []


async def _value(database: Database, query: str, *arguments: object) -> Any:
    async with database.connection() as connection:
        return await connection.fetchval(query, *arguments)
