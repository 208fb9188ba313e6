"""The leader's side jobs: gauges that tell the truth, and records that only Kafka's cleaner notices."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import uuid4

from prometheus_client import REGISTRY

from chassis.kafka.client import admin, topic_configs
from command_api.idempotency.purge import PURGE
from outbox.publishing.segment_rolling import roll_segments
from outbox.relay.backlog import read_backlog
from outbox.relay.maintenance import maintaining, roll_interval
from outbox.settings import RelaySettings
from outbox.topics import wanted_topics
from tests.integration.outbox.relaying import relaying
from tests.integration.outbox.traffic import Connection, append, append_many, consume, until_empty
from tests.waiting import until


async def test_rolling_writes_one_record_a_partition_that_committed_readers_never_see(
    relay_settings: RelaySettings,
) -> None:
    await roll_segments(relay_settings)

    seen = await consume(relay_settings)
    written = await consume(relay_settings, "read_uncommitted")
    assert seen.records == []
    assert sorted(record.partition for record in written.records) == list(range(12))


async def test_rolling_disturbs_no_relay(connection: Connection, relay_settings: RelaySettings) -> None:
    user = uuid4()
    async with relaying(relay_settings) as relay:
        await append(connection, user, 1)
        await roll_segments(relay_settings)
        await append(connection, user, 2)
        await until_empty(connection)

        assert relay.state.phase == "leading"
    assert (await consume(relay_settings)).versions() == {str(user): [1, 2]}


def test_rolls_come_four_times_in_the_time_within_which_a_person_must_be_forgotten(
    relay_settings: RelaySettings,
) -> None:
    settings = relay_settings.model_copy(update={"topic_max_compaction_lag_ms": 8_000})

    assert roll_interval(settings) == 2


@asynccontextmanager
async def first_roll(settings: RelaySettings) -> AsyncIterator[None]:
    """Leave only once the roll that begins at once is over: cut off while it connects, aiokafka leaves a connection."""
    yield

    async def rolled() -> bool:
        return len((await consume(settings, "read_uncommitted")).records) >= 12

    await until(rolled, within=30, what="the first roll")


async def test_the_backlog_and_the_age_of_the_oldest_event_are_told(
    connection: Connection, relay_settings: RelaySettings
) -> None:
    await append_many(connection, [uuid4() for _ in range(7)], 3)
    await connection.execute("UPDATE outbox SET appended_at = now() - interval '90 s'")
    async with maintaining(relay_settings), first_roll(relay_settings):

        async def told() -> bool:
            return REGISTRY.get_sample_value("muster_outbox_backlog_events") == 21

        await until(told, within=10, what="the backlog's gauge")
        oldest = REGISTRY.get_sample_value("muster_outbox_oldest_unpublished_seconds")
        assert oldest is not None
        assert 90 <= oldest < 120
        size = await connection.fetchval("SELECT pg_total_relation_size('outbox')")
        assert REGISTRY.get_sample_value("muster_outbox_bytes") == size > 0

    # An alarm on the greatest over all relays must not go on for one that leads no more.
    assert REGISTRY.get_sample_value("muster_outbox_backlog_events") == 0
    assert REGISTRY.get_sample_value("muster_outbox_oldest_unpublished_seconds") == 0
    assert REGISTRY.get_sample_value("muster_outbox_bytes") == 0


async def test_a_large_backlog_is_estimated_not_counted(connection: Connection) -> None:
    await append_many(connection, [uuid4() for _ in range(15_000)], 1)
    await connection.execute("ANALYZE outbox")

    backlog = await read_backlog(connection)

    assert backlog.estimated
    assert backlog.events == 15_000


async def test_old_answers_are_purged_and_young_ones_kept(
    connection: Connection, relay_settings: RelaySettings
) -> None:
    for age in (timedelta(hours=23), timedelta(hours=25)):
        await connection.execute(
            "INSERT INTO idempotency_records (digest, fingerprint, subject_id, status, headers, created_at)"
            " VALUES ($1, $1, gen_random_uuid(), 201, '{}', now() - $2::interval)",
            str(age).encode(),
            age,
        )
    async with maintaining(relay_settings, [PURGE]), first_roll(relay_settings):

        async def purged() -> bool:
            return bool(await connection.fetchval("SELECT count(*) FROM idempotency_records") == 1)

        await until(purged, within=10, what="the purge of the older answer")

    assert await connection.fetchval("SELECT digest FROM idempotency_records") == str(timedelta(hours=23)).encode()


async def test_the_topics_are_configured_as_the_settings_say(relay_settings: RelaySettings) -> None:
    async with admin(relay_settings) as client:
        configs = await topic_configs(client, [relay_settings.events_topic, relay_settings.relay_topic])

    for topic in wanted_topics(relay_settings):
        assert {key: configs[topic.name][key] for key in topic.configs} == topic.configs
