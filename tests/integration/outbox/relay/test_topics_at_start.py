"""What a relay looks at before it publishes: topics that are missing or take too little, and what nobody may change."""

import asyncio
from uuid import uuid4

import pytest
from aiokafka.admin import NewPartitions
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from chassis.kafka.client import admin, ensure_topics
from outbox.published_topics import note_leader, published_with
from outbox.publishing.page_marker import RelayStopError
from outbox.relay.loop import Relay
from outbox.settings import RelaySettings
from outbox.topics import wanted_topics
from tests.integration.outbox.relaying import relaying, until_phase
from tests.integration.outbox.traffic import Connection, append, consume, until_empty


async def published_once_mended(connection: Connection, settings: RelaySettings) -> dict[str, list[int]]:
    """Do what `muster topics` does; the versions of each user on the topic once the outbox is empty."""
    async with admin(settings) as client:
        await ensure_topics(client, wanted_topics(settings))
    await until_empty(connection)
    return (await consume(settings)).versions()


async def test_a_relay_waits_for_topics_that_are_missing_and_goes_on_when_they_are_there(
    connection: Connection, relay_settings: RelaySettings
) -> None:
    user, unique = uuid4(), uuid4().hex[:12]
    names = {"events_topic": f"users.events.{unique}", "relay_topic": f"outbox.relay.{unique}"}
    settings = relay_settings.model_copy(update=names)
    await append(connection, user, 1)
    async with relaying(settings) as relay:
        await until_phase(relay, "failing")
        assert all(name in relay.state.reason for name in names.values())
        assert "run `muster topics`" in relay.state.reason

        assert await published_once_mended(connection, settings) == {str(user): [1]}


async def test_a_relay_waits_for_a_topic_that_takes_too_small_messages_and_goes_on_when_it_takes_all(
    connection: Connection, relay_settings: RelaySettings
) -> None:
    user, topic = uuid4(), relay_settings.events_topic
    async with admin(relay_settings) as client:
        small = {"max.message.bytes": "1000"}
        await client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=small)])
    await append(connection, user, 1)
    async with relaying(relay_settings) as relay:
        await until_phase(relay, "failing")
        assert f"{topic} takes messages of 1000 bytes" in relay.state.reason

        assert await published_once_mended(connection, relay_settings) == {str(user): [1]}


async def test_another_number_of_partitions_stops_the_relay_before_it_publishes(
    connection: Connection, relay_settings: RelaySettings
) -> None:
    await append(connection, uuid4(), 1)
    found = relay_settings.topic_partitions

    with pytest.raises(RelayStopError, match=rf"has {found} partitions.*`muster doctor` says"):
        await asyncio.wait_for(
            Relay(relay_settings.model_copy(update={"topic_partitions": found + 1})).run(asyncio.Event()), 30
        )

    assert (await consume(relay_settings)).records == []


async def test_partitions_that_were_added_stop_the_relay_although_the_settings_were_made_to_fit(
    connection: Connection, relay_settings: RelaySettings
) -> None:
    user, found = uuid4(), relay_settings.topic_partitions
    await append(connection, user, 1)
    async with relaying(relay_settings):
        await until_empty(connection)
    await append(connection, user, 2)
    async with admin(relay_settings) as client:
        await client.create_partitions({relay_settings.events_topic: NewPartitions(found + 2)})
    fitted = relay_settings.model_copy(update={"topic_partitions": found + 2})

    with pytest.raises(RelayStopError, match=f"published to with {found} partitions and has {found + 2} now"):
        await asyncio.wait_for(Relay(fitted).run(asyncio.Event()), 30)

    assert (await consume(fitted)).versions() == {str(user): [1]}


async def test_an_empty_topic_may_be_divided_otherwise_than_the_one_of_its_name_before(
    connection: Connection, relay_settings: RelaySettings
) -> None:
    await note_leader(connection, relay_settings.events_topic, relay_settings.topic_partitions + 2)
    user = uuid4()
    await append(connection, user, 1)
    async with relaying(relay_settings):
        await until_empty(connection)

    assert (await consume(relay_settings)).versions() == {str(user): [1]}
    assert await published_with(connection, relay_settings.events_topic) == relay_settings.topic_partitions
