"""Bootstrap and the reading of a whole log, against a real broker."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import NewTopic, RecordsToDelete

from chassis.kafka.client import admin, client_arguments, delete_topic, ensure_topics
from chassis.settings import Kafka, Topics
from contract.log import read_log
from events import Batch, Erased, PositionGoneError, Unknown, UserEvent, bootstrap, copying, decode
from events.user_events import UserRegistered
from outbox.topics import wanted_topics
from tests.integration.disasters.disks import KEPT, LOST, NEW, LosingLog
from tests.integration.projectors.stream import FakeRecord, Publisher, lives, new_user, record


@pytest.fixture
async def publisher(kafka: Kafka, topics: Topics) -> AsyncIterator[Publisher]:
    async with Publisher.open(kafka, topics.events_topic) as publisher:
        yield publisher


@asynccontextmanager
async def consumer_of(
    kafka: Kafka, topic: str, *, reset: str = "none", partitions: int = 12
) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer as the how-to makes it."""
    consumer = AIOKafkaConsumer(
        **client_arguments(kafka), isolation_level="read_committed", auto_offset_reset=reset, enable_auto_commit=False
    )
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, number) for number in range(partitions)])
        yield consumer
    finally:
        await consumer.stop()


class Copy:
    """The simplest copy there is."""

    def __init__(self) -> None:
        self.versions: dict[UUID, int] = {}
        self.positions: dict[int, int] = {}
        self.events: list[tuple[UUID, int]] = []

    def write(self, batch: Batch) -> None:
        for item in batch.items:
            match item:
                case UserEvent(user_id=user_id, version=version):
                    self.events.append((user_id, version))
                    self.versions[user_id] = max(version, self.versions.get(user_id, 0))
                case Erased(user_id=user_id, version=version):
                    self.events.append((user_id, version))
                    self.versions.pop(user_id, None)
                case unknown:
                    pytest.fail(f"{unknown}")
        self.positions = batch.positions


def _version(item: FakeRecord) -> int:
    return int(dict(item.headers)["ce_sequence"] or b"")


def batched(records: list[FakeRecord], size: int) -> Iterator[list[FakeRecord]]:
    return (records[at : at + size] for at in range(0, len(records), size))


def living(records: list[FakeRecord]) -> dict[UUID, int]:
    versions: dict[UUID, int] = {}
    for item in records:
        user_id = UUID((item.key or b"").decode())
        versions[user_id] = _version(item)
        if item.value is None:
            del versions[user_id]
    return versions


async def follow(
    consumer: AIOKafkaConsumer, copy: Copy, until: str, positions: Mapping[int, int] | None = None
) -> list[Batch]:
    """Write batches until one has what is waited for."""
    batches = []
    async with aclosing(bootstrap(consumer, positions)) as reading:
        async for batch in reading:
            copy.write(batch)
            batches.append(batch)
            if getattr(batch, until):
                return batches
    raise AssertionError("a bootstrap never ends")


async def test_a_copy_from_nothing_is_complete_and_goes_on_without_a_gap(
    kafka: Kafka, topics: Topics, publisher: Publisher
) -> None:
    records, later = lives(40, 200, seed=5), record(UserRegistered(user=new_user(1000)))
    await publisher.publish(records)
    await publisher.publish([record(UserRegistered(user=new_user(2000)))], abort=True)
    copy = Copy()

    async with consumer_of(kafka, topics.events_topic) as consumer:
        batches = await follow(consumer, copy, "caught_up")
        assert copy.versions == living(records)
        assert [batch.progress for batch in batches] == sorted(batch.progress for batch in batches)
        assert batches[-1].progress == 1
        assert set(copy.positions) == set(range(12))
        seen = len(copy.events)

    await publisher.publish([later])
    async with consumer_of(kafka, topics.events_topic) as consumer:
        batches = await follow(consumer, copy, "as_of", copy.positions)

    assert copy.events[seen:] == [(UUID((later.key or b"").decode()), 1)], "what was written does not come again"
    assert batches[-1].as_of is not None
    assert copy.versions == living([*records, later])


async def test_what_it_cannot_read_says_where_it_is(kafka: Kafka, topics: Topics, publisher: Publisher) -> None:
    user = new_user(1)
    foreign = replace(record(UserRegistered(user=user)), value=b"{}")
    await publisher.publish([record(UserRegistered(user=user)), foreign])
    async with consumer_of(kafka, topics.events_topic) as consumer, aclosing(bootstrap(consumer)) as reading:
        found = [item for item in (await anext(reading)).items if isinstance(item, Unknown)]
        while not found:
            found = [item for item in (await anext(reading)).items if isinstance(item, Unknown)]
        [unknown] = found
        assert unknown.partition is not None
        assert unknown.offset is not None
        place = TopicPartition(topics.events_topic, unknown.partition)
        consumer.seek(place, unknown.offset)
        again = await consumer.getone(place)

    assert (unknown.key, unknown.type) == (str(user.id).encode(), "muster.user.registered.v1")
    assert (again.offset, again.key, again.value) == (unknown.offset, foreign.key, b"{}")


async def test_each_item_of_a_batch_is_decoded_when_it_is_taken(
    kafka: Kafka, topics: Topics, publisher: Publisher
) -> None:
    await publisher.publish([record(UserRegistered(user=new_user(1)))])
    async with consumer_of(kafka, topics.events_topic) as consumer, aclosing(bootstrap(consumer)) as reading:
        items = (await anext(reading)).items
        while not items:
            items = (await anext(reading)).items

    [first], [again] = items, items
    assert first == again == items[0] == items[-1:][0]
    assert first is not again, "it was decoded with the batch"


async def test_of_a_batch_no_more_is_decoded_than_is_taken(
    kafka: Kafka, topics: Topics, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = list[bytes | None]()

    def noting(key: bytes | None, *rest: Any) -> Any:
        decoded.append(key)
        return decode(key, *rest)

    monkeypatch.setattr(copying, "decode", noting)
    await publisher.publish([record(UserRegistered(user=new_user(number))) for number in range(1, 6)])
    async with consumer_of(kafka, topics.events_topic) as consumer, aclosing(bootstrap(consumer)) as reading:
        items = (await anext(reading)).items
        while not items:
            items = (await anext(reading)).items

    last, portion = items[-1], items[:-1]
    assert len(decoded) == len(items)
    assert [*portion, last] == list(items)


async def test_a_subscriber_that_is_ended_again_and_again_misses_nothing_and_writes_nothing_twice(
    kafka: Kafka, topics: Topics, publisher: Publisher
) -> None:
    """It ends between reading and writing, while others publish; what it wrote is what it goes on from."""
    records = lives(30, 200, seed=8)
    copy = Copy()

    async def publish() -> None:
        for portion in batched(records, 20):
            await publisher.publish(portion)

    publishing = asyncio.create_task(publish())
    while not publishing.done() or copy.versions != living(records):
        async with (
            consumer_of(kafka, topics.events_topic) as consumer,
            aclosing(bootstrap(consumer, copy.positions)) as reading,
        ):
            copy.write(await anext(reading))
            await anext(reading)
    await publishing

    assert len(copy.events) == len(records)
    assert sorted(copy.events) == sorted((UUID((item.key or b"").decode()), _version(item)) for item in records)


async def test_a_batch_that_was_not_written_comes_again(kafka: Kafka, topics: Topics, publisher: Publisher) -> None:
    records = lives(5, 20, seed=6)
    await publisher.publish(records)
    for _ in range(2):
        copy = Copy()
        async with consumer_of(kafka, topics.events_topic) as consumer:
            await follow(consumer, copy, "caught_up", {0: 0, 1: 0})
        assert copy.versions == living(records)


async def test_no_partitions_and_a_position_of_another_log_are_refused(kafka: Kafka, topics: Topics) -> None:
    async with consumer_of(kafka, topics.events_topic) as consumer:
        partitions = consumer.assignment()
        consumer.unsubscribe()
        with pytest.raises(ValueError, match="assign every partition"):
            await anext(bootstrap(consumer))
        consumer.assign(list(partitions))
        with pytest.raises(PositionGoneError, match="partition 3 holds 0 to 0, and the position is 7: begin anew"):
            await anext(bootstrap(consumer, {3: 7}))


async def test_positions_that_may_have_missed_an_erasure_are_refused(kafka: Kafka, topics: Topics) -> None:
    nothing_read = dict.fromkeys(range(12), 0)
    async with consumer_of(kafka, topics.events_topic) as consumer:
        week_ago = datetime.now(UTC) - timedelta(days=7)
        with pytest.raises(PositionGoneError, match="the log forgets erasures after 7 days: begin anew"):
            await anext(bootstrap(consumer, nothing_read, week_ago))
        hours = timedelta(hours=6)
        with pytest.raises(PositionGoneError, match=r"the log forgets erasures after 0\.25 days: begin anew"):
            await anext(bootstrap(consumer, nothing_read, datetime.now(UTC) - hours, tombstones_last=hours))
        await anext(bootstrap(consumer, nothing_read, week_ago, tombstones_last=timedelta(days=8)))
        batch = await anext(bootstrap(consumer, nothing_read, week_ago + timedelta(hours=1)))
        assert batch.positions_time == week_ago + timedelta(hours=1), "not younger before all of it has been read"

    async with consumer_of(kafka, topics.events_topic) as consumer, aclosing(bootstrap(consumer)) as reading:
        began = await anext(reading)
        assert began.positions_time is not None
        async for batch in reading:
            if batch.as_of:
                assert batch.positions_time == batch.as_of > began.positions_time
                break


async def _make_anew(kafka: Kafka, topics: Topics) -> None:
    async with admin(kafka) as client:
        await delete_topic(client, topics.events_topic)
        await ensure_topics(client, wanted_topics(topics))


@pytest.mark.parametrize("reset", ["none", "latest", "earliest"])
@pytest.mark.parametrize("more", [-20, 40], ids=["shorter", "longer"])
async def test_a_topic_that_was_made_anew_under_a_running_copy_is_noticed(
    kafka: Kafka, topics: Topics, publisher: Publisher, reset: str, more: int
) -> None:
    """Also if it is longer than what was read, and whatever the consumer does where it is shorter."""
    await publisher.publish(lives(10, 80, seed=9))
    async with (
        consumer_of(kafka, topics.events_topic, reset=reset) as consumer,
        aclosing(bootstrap(consumer)) as reading,
    ):
        async for batch in reading:
            if batch.as_of:
                break
        before = datetime.now(UTC)
        if more > 0:  # else the consumer would look while it is short
            consumer.pause(*consumer.assignment())
        await _make_anew(kafka, topics)
        async with Publisher.open(kafka, topics.events_topic) as again:
            await again.publish(lives(10, 80 + more, seed=10))
        consumer.resume(*consumer.assignment())

        given: list[Batch] = []
        with pytest.raises(PositionGoneError, match="begin anew, with an empty copy"):
            await _read_on(reading, given)

    assert all(batch.as_of and batch.as_of < before for batch in given), "it is complete by the other topic"


@pytest.mark.parametrize("restarts", [False, True], ids=["running", "restarted"])
async def test_brokers_that_were_set_back_and_grew_are_noticed_by_a_copy(
    server_folder: Path, *, restarts: bool
) -> None:
    async with LosingLog.open(server_folder) as log:
        topic = log.topics.events_topic
        await log.publish(KEPT)
        async with consumer_of(log.kafka, topic, partitions=2) as consumer:
            [*_, kept] = await follow(consumer, Copy(), "as_of")
        await log.keep()
        await log.publish(LOST)
        async with (
            consumer_of(log.kafka, topic, partitions=2) as consumer,
            aclosing(bootstrap(consumer, kept.positions, kept.positions_time, kept.newest)) as reading,
        ):
            last = await _caught_up(reading)
            consumer.pause(*consumer.assignment())  # else it would look while the log is short
            await log.lose_and_grow()
            if not restarts:
                consumer.resume(*consumer.assignment())
                with pytest.raises(PositionGoneError, match="its brokers were set back: begin anew"):
                    await _read_on(reading, [])

        if restarts:
            async with consumer_of(log.kafka, topic, partitions=2) as consumer:
                reading = bootstrap(consumer, last.positions, last.positions_time, last.newest)
                with pytest.raises(PositionGoneError, match="its brokers were set back: begin anew"):
                    await _read_on(reading, [])
        copy = Copy()
        async with consumer_of(log.kafka, topic, partitions=2) as consumer:
            await follow(consumer, copy, "caught_up", kept.positions)
        assert len(copy.events) == len(NEW)


async def _caught_up(reading: AsyncIterator[Batch]) -> Batch:
    async with asyncio.timeout(60):
        async for batch in reading:
            if batch.as_of:
                return batch
    raise AssertionError("a bootstrap never ends")


async def _read_on(reading: AsyncIterator[Batch], given: list[Batch]) -> None:
    async with asyncio.timeout(60):
        async for batch in reading:
            given.append(batch)  # noqa: PERF401 - also what came before the error


async def test_positions_that_are_older_than_everything_on_the_topic_are_of_another(
    kafka: Kafka, topics: Topics, publisher: Publisher
) -> None:
    await publisher.publish(lives(10, 80, seed=9))
    copy = Copy()
    async with consumer_of(kafka, topics.events_topic) as consumer:
        [*_, last] = await follow(consumer, copy, "as_of")
        assert last.positions_time is not None

    async with consumer_of(kafka, topics.events_topic) as consumer:
        long_ago = datetime.now(UTC) - timedelta(minutes=2)
        with pytest.raises(PositionGoneError, match="everything on the topic is younger than the positions"):
            await anext(bootstrap(consumer, last.positions, long_ago))
        await anext(bootstrap(consumer, last.positions, last.positions_time))
        await anext(bootstrap(consumer, dict.fromkeys(range(12), 0), long_ago))


async def test_records_that_were_deleted_ahead_of_a_copy_are_noticed(kafka: Kafka, topics: Topics) -> None:
    """The consumer goes to the end by itself, without a word. Brokers delete of topics alone that are not compacted."""
    topic, records = f"{topics.events_topic}.deletable", lives(5, 100, seed=9)
    async with admin(kafka) as client:
        await client.create_topics([NewTopic(topic, 12, 1)])
    async with Publisher.open(kafka, topic) as publisher, consumer_of(kafka, topic, reset="latest") as consumer:
        await publisher.publish(records[:30])
        reading = bootstrap(consumer)
        seen = await anext(reading)
        await publisher.publish(records[30:])
        ends = await consumer.end_offsets(consumer.assignment())
        async with admin(kafka) as client:
            await client.delete_records({each: RecordsToDelete(before_offset=end) for each, end in ends.items()})
        # What was fetched ahead is thrown away, as when a connection ends.
        for partition, position in seen.positions.items():
            consumer.seek(TopicPartition(topic, partition), position)
        with pytest.raises(PositionGoneError, match=r"begins at \d+ now, and was read up to \d+"):
            await _read_on(reading, [])


async def test_every_record_of_a_log_is_read_before_a_deployment(
    kafka: Kafka, topics: Topics, publisher: Publisher
) -> None:
    records = lives(10, 40, seed=7)
    await publisher.publish(records)
    report = await read_log(kafka, topics.events_topic)
    assert report.named == []
    assert report.summary == f"{len(records):,} records, {len(living(records)):,} living users: all can be read."

    item = record(UserRegistered(user=new_user(1000)))
    spoilt: list[Any] = [(name, b"muster.user.promoted.v1" if name == "ce_type" else old) for name, old in item.headers]
    await publisher.publish([replace(item, headers=spoilt)])
    report = await read_log(kafka, topics.events_topic)
    [named] = report.named
    assert "projectors would park it: the type 'muster.user.promoted.v1' is not in the catalogue" in named
    assert report.summary.endswith(": 1 are unreadable.")
