"""A marker that Kafka forgot to write (KAFKA-20734): the relay writes it, with the right outcome, within a bound.

The broker's own check that a partition belongs to a transaction is off here, so that a transaction can be left the way
the bug leaves it: complete for the coordinator, open on a partition that it was never told about.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from itertools import chain, repeat
from uuid import UUID, uuid4

import asyncpg
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer, TopicPartition
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from chassis.kafka.client import Topic, admin, client_arguments, ensure_topics
from chassis.settings import Kafka, Topics
from local_stack.kafka.broker import KafkaServer
from outbox.publishing import hanging as hanging_transactions
from outbox.publishing.hanging import hanging_after_seconds, hanging_partitions, mending_seconds, watching
from outbox.publishing.page_marker import PageMarker, digest, encode_page_marker
from outbox.publishing.publisher import Publisher
from outbox.publishing.topic_reading import Readers
from outbox.relay.work_list import WorkList
from outbox.settings import RelaySettings
from outbox.topics import wanted_topics
from tests.conftest import Copies
from tests.infrastructure import throwaway_folder
from tests.integration.outbox.publishing.test_forgetting import user_on
from tests.integration.outbox.relaying import relaying, settings_for
from tests.integration.outbox.traffic import Connection, append, consume, until_empty
from tests.waiting import until

PARTITIONS = 3
#: A coordinator ends no transaction without any partition: this one it is always told of.
ELSEWHERE = "elsewhere"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def believing_broker() -> AsyncIterator[Kafka]:
    """A broker that believes any producer; one for all tests of this file, since none harms it."""
    folder = throwaway_folder()
    belief = {"transaction.partition.verification.enable": "false"}
    async with KafkaServer(folder / "kafka", learn=False, settings=belief) as broker:
        yield Kafka.model_construct(kafka_bootstrap_servers=broker.bootstrap_servers)
    shutil.rmtree(folder)


@asynccontextmanager
async def careless_relay(databases: Copies, broker: Kafka) -> AsyncIterator[tuple[Connection, RelaySettings]]:
    """A session on a command database and a relay's settings for both servers, with topics and a name of their own."""
    unique = uuid4().hex[:12]
    topics = Topics.model_construct(
        events_topic=f"users.events.{unique}", relay_topic=f"outbox.relay.{unique}", topic_partitions=PARTITIONS
    )
    async with databases.one() as database:
        async with admin(broker) as client:
            await ensure_topics(client, [*wanted_topics(topics), Topic(ELSEWHERE, 1, {})])
        session = await asyncpg.connect(**database.connect_arguments)
        try:
            yield (
                session,
                settings_for(database, broker, topics, relay_name=f"relay-{unique}", relay_transaction_timeout_ms=1000),
            )
        finally:
            await session.close()


@pytest.fixture
async def careless(
    command_databases: Copies, believing_broker: Kafka
) -> AsyncIterator[tuple[Connection, RelaySettings]]:
    """The same for one test."""
    async with careless_relay(command_databases, believing_broker) as made:
        yield made


async def publish_without_marker(
    settings: RelaySettings, unmarked: list[TopicPartition], *, commit: bool, delete: bool
) -> None:
    """Publish the outbox as a relay does, but leave some partitions without the transaction's marker."""
    work_list = await WorkList.open(settings.command_database, page_rows=100, page_bytes=1_000_000)
    publisher = await Publisher.open(settings)
    try:
        page = await work_list.page()
        record = PageMarker(
            ids=tuple(row["id"] for row in page),
            digest=digest([row["event_id"] for row in page]),
            system_identifier=await work_list.identity(),
            time="now",
        )
        producer = publisher._producer
        if not commit:
            producer.commit_transaction = producer.abort_transaction
        begin = producer.begin_transaction

        async def begin_and_forget() -> None:
            await begin()
            # The coordinator is not told of these partitions, and so does not mark them.
            producer._txn_manager._txn_partitions.update(unmarked)
            producer._txn_manager.maybe_add_partition_to_txn(TopicPartition(ELSEWHERE, 0))

        producer.begin_transaction = begin_and_forget
        await publisher.publish(await publisher.prepare(page), encode_page_marker(record))
        if delete:
            await work_list.delete(record.ids)
    finally:
        await publisher.close()
        await work_list.close()


async def hanging(settings: RelaySettings) -> list[TopicPartition]:
    """Where a transaction hangs."""
    async with Readers.open(settings) as readers:
        return list(await hanging_partitions(readers, settings))


async def abort_without_marker(settings: RelaySettings, transactional_id: str, partition: TopicPartition) -> None:
    """Leave an aborted transaction of some other producer hanging on a partition."""
    producer = AIOKafkaProducer(
        **client_arguments(settings), transactional_id=transactional_id, transaction_timeout_ms=1000
    )
    await producer.start()
    try:
        await producer.begin_transaction()
        producer._txn_manager._txn_partitions.add(partition)
        await (await producer.send(partition.topic, None, key=b"aborted", partition=partition.partition))
        producer._txn_manager.maybe_add_partition_to_txn(TopicPartition(ELSEWHERE, 0))
        await producer.abort_transaction()
    finally:
        await producer.stop()


def events_partition(settings: RelaySettings, number: int) -> TopicPartition:
    return TopicPartition(settings.events_topic, number)


def everywhere(settings: RelaySettings) -> list[TopicPartition]:
    return [*(events_partition(settings, n) for n in range(PARTITIONS)), TopicPartition(settings.relay_topic, 0)]


async def appended(connection: Connection) -> list[UUID]:
    """One user on each partition, with one event each."""
    users = [user_on(number) for number in range(PARTITIONS)]
    for user in users:
        await append(connection, user, 1)
    return users


async def with_a_missing_marker(
    connection: Connection, careless: RelaySettings, *, commit: bool, relay_topic_hangs: bool
) -> None:
    """It gets the outcome it had."""
    users = await appended(connection)
    unmarked = [events_partition(careless, 1)]
    if relay_topic_hangs:
        unmarked.append(TopicPartition(careless.relay_topic, 0))
    await publish_without_marker(careless, unmarked, commit=commit, delete=False)
    assert await hanging(careless) == unmarked

    async with relaying(careless):
        await until_empty(connection)
        await append(connection, users[1], 2)
        await until_empty(connection)

    seen = (await consume(careless)).versions()
    assert seen == {str(users[0]): [1], str(users[1]): [1, 2], str(users[2]): [1]}
    assert await hanging(careless) == []


async def of_one_event(connection: Connection, careless: RelaySettings, *, commit: bool) -> None:
    """No events partition can tell; the relay's own topic does."""
    user = user_on(1)
    await append(connection, user, 1)
    await publish_without_marker(careless, [events_partition(careless, 1)], commit=commit, delete=False)
    async with relaying(careless):
        await until_empty(connection)
        await append(connection, user, 2)
        await until_empty(connection)

    assert (await consume(careless)).versions() == {str(user): [1, 2]}


async def that_was_deleted(connection: Connection, careless: RelaySettings) -> None:
    """It is committed even where no marker tells."""
    users = await appended(connection)
    await publish_without_marker(careless, everywhere(careless), commit=True, delete=True)
    async with relaying(careless):
        await append(connection, users[0], 2)
        await until_empty(connection)

    assert (await consume(careless)).versions() == {str(users[0]): [1, 2], str(users[1]): [1], str(users[2]): [1]}


async def without_any_marker(connection: Connection, careless: RelaySettings) -> None:
    """While it is still in the outbox it is published again."""
    users = await appended(connection)
    await publish_without_marker(careless, everywhere(careless), commit=True, delete=False)
    async with relaying(careless):
        await until_empty(connection)

    assert (await consume(careless)).versions() == {str(user): [1] for user in users}


BATCHES: dict[str, Callable[[Connection, RelaySettings], Awaitable[None]]] = {
    "with a missing marker, committed": partial(with_a_missing_marker, commit=True, relay_topic_hangs=False),
    "with a missing marker, aborted": partial(with_a_missing_marker, commit=False, relay_topic_hangs=False),
    "the relay's topic hangs, committed": partial(with_a_missing_marker, commit=True, relay_topic_hangs=True),
    "the relay's topic hangs, aborted": partial(with_a_missing_marker, commit=False, relay_topic_hangs=True),
    "of one event, committed": partial(of_one_event, commit=True),
    "of one event, aborted": partial(of_one_event, commit=False),
    "that was deleted": that_was_deleted,
    "without any marker": without_any_marker,
}


async def test_a_batch_that_hangs_gets_the_outcome_it_had(command_databases: Copies, believing_broker: Kafka) -> None:
    """All at once, each with a relay of its own: nearly all of it is waiting for what hangs to be seen as such."""

    async def case(name: str) -> None:
        try:
            async with careless_relay(command_databases, believing_broker) as (connection, settings):
                await BATCHES[name](connection, settings)
        except Exception as error:
            error.add_note(f"a batch {name}")
            raise

    async with asyncio.TaskGroup() as group:
        for name in BATCHES:
            group.create_task(case(name))


async def test_what_comes_to_hang_while_the_relay_works_is_mended_within_the_bound(
    careless: tuple[Connection, RelaySettings],
) -> None:
    """The relay is idle, and hears of nothing: it looks by itself."""
    connection, settings = careless
    user = user_on(1)
    async with relaying(settings) as relay:
        await append(connection, user, 1)
        await until_empty(connection)
        await abort_without_marker(settings, f"muster.maintenance.{settings.relay_name}", events_partition(settings, 1))
        before = restarts()

        async def mended() -> bool:
            return restarts() > before and relay.state.phase == "leading"

        await until(mended, within=mending_seconds(settings), what="the relay to look and mend")
        await append(connection, user, 2)
        await until_empty(connection)

    assert (await consume(settings)).versions() == {str(user): [1, 2]}
    assert await hanging(settings) == []


async def test_a_foreign_transaction_that_hangs_holds_the_relay_up_once_only(
    careless: tuple[Connection, RelaySettings],
) -> None:
    """Nobody but its own producer can end it: to start again and again for its sake would be an outage."""
    connection, settings = careless
    await abort_without_marker(settings, "somebody-else", events_partition(settings, 1))
    user = user_on(0)
    async with relaying(settings):
        await append(connection, user, 1)
        await until_empty(connection)
        before = restarts()
        looked_twice = asyncio.get_running_loop().time() + 3 * hanging_after_seconds(settings)

        async def long_enough() -> bool:
            return asyncio.get_running_loop().time() > looked_twice

        await until(long_enough, within=mending_seconds(settings), what="the relay to have looked twice")
        await append(connection, user, 2)
        await until_empty(connection)

        assert restarts() == before
    assert await hanging(settings) == [events_partition(settings, 1)]


def restarts() -> float:
    """How many producers were discarded in this process."""
    return REGISTRY.get_sample_value("muster_outbox_producer_recreated_total") or 0.0


async def test_nothing_hangs_on_a_healthy_broker(connection: Connection, relay_settings: RelaySettings) -> None:
    await append(connection, uuid4(), 1)
    async with relaying(relay_settings):
        await until_empty(connection)

    assert await hanging(relay_settings) == []


async def test_looks_that_fail_are_told_of_once_a_reason_and_the_block_keeps_its_own_error(
    relay_settings: RelaySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    reasons = chain(("one", "one"), repeat("another"))

    async def fail(*_: object) -> None:
        raise LookupError(next(reasons))

    monkeypatch.setattr(hanging_transactions, "open_partitions", fail)
    impatient = relay_settings.model_copy(update={"relay_transaction_timeout_ms": 0})
    with capture_logs() as lines, pytest.raises(ValueError, match="the block's own"):  # noqa: PT012 - a context of ours
        async with watching(impatient, {}):

            async def told() -> list[str]:
                told = [line["reason"] for line in lines if line["event"] == "relay.watch_failed"]
                return told if "another" in told else []

            assert await until(told, within=60, what="looks that failed") == ["one", "another"]
            raise ValueError("the block's own")
