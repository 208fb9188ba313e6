"""The checks of the topics that events were published to: with how many partitions, and whether an old one is left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import asyncpg

from chassis.kafka.client import KAFKA_ERRORS, admin, partition_counts
from chassis.postgres.database import describe, session
from chassis.settings import PostgresAddress
from cli.doctor.findings import Finding
from cli.terminal.outages import DATABASE_OUTAGES
from outbox.published_topics import all_published
from outbox.publishing.topic_reading import is_empty
from outbox.relay.division import another_division
from outbox.settings import RelaySettings

HOW_TO = "docs/how-to/change-the-number-of-partitions.md"


async def examine_published(settings: RelaySettings, command: PostgresAddress) -> list[Finding]:
    """Compare what the command database remembers of the topics with the brokers and the settings."""
    try:
        async with session(command, application="muster doctor") as connection:
            remembered = await all_published(connection)
        async with admin(settings) as client:
            there = await partition_counts(client, sorted({settings.events_topic, *remembered}))
        empty = await _is_made_anew(settings, remembered, there)
    except asyncpg.UndefinedTableError:
        return []  # its migration is missing, which another finding says
    except (*DATABASE_OUTAGES, *KAFKA_ERRORS) as error:
        remedy = "see the findings of Kafka and of the command database"
        return [Finding("partitions", "failed", f"unknown: {describe(error)}", remedy)]
    return judge_published(settings.events_topic, settings.topic_partitions, remembered, there, empty=empty)


async def _is_made_anew(settings: RelaySettings, remembered: Mapping[str, int], there: Mapping[str, int]) -> bool:
    """Whether the topic is empty and has another number of partitions, so that the relay accepts it."""
    topic = settings.events_topic
    before, found = remembered.get(topic), there.get(topic)
    return None not in {before, found} and before != found and await is_empty(settings, topic, there[topic])


def judge_published(
    topic: str, wanted: int, remembered: Mapping[str, int], there: Mapping[str, int], *, empty: bool = False
) -> list[Finding]:
    """Check the topic's partitions, that it is the one that the relay publishes to, and that no older one is left.

    Of `remembered` the last is that of the relay which led last. `empty`: the topic was made anew, and has nothing yet.
    """
    led = next(reversed(list(remembered)), topic)
    return [
        _judge_partitions(topic, wanted, None if empty else remembered.get(topic), there.get(topic)),
        *_judge_name(topic, led),
        *_judge_older(topic, [older for older in remembered if older not in {topic, led} and older in there]),
    ]


def _judge_partitions(topic: str, wanted: int, before: int | None, found: int | None) -> Finding:
    check = f"partitions of {topic}"
    right = found if before is None else before
    if found is not None and right != found:
        return Finding(check, "failed", another_division(topic, before, found), f"follow {HOW_TO}")
    if right not in {None, wanted}:
        return Finding(check, "failed", f"{right}, and TOPIC_PARTITIONS={wanted}", f"set TOPIC_PARTITIONS={right}")
    return Finding(check, "ok", "nothing was published yet" if before is None else f"always {before}")


def _judge_name(topic: str, led: str) -> list[Finding]:
    """Check that the settings here name the topic that the relay publishes to."""
    if led == topic:
        return []
    return [
        Finding(
            f"topic {led}",
            "failed",
            f"the relay publishes to it, and EVENTS_TOPIC is {topic} here",
            f"set EVENTS_TOPIC={led}; where {topic} is to follow it, go on with {HOW_TO}, which restarts the relay",
        )
    ]


def _judge_older(topic: str, left: Iterable[str]) -> list[Finding]:
    """Warn about an older topic: it keeps people who are erased from now on."""
    return [
        Finding(
            f"topic {older}",
            "warning",
            "nothing is published to it any more, and it is still there: it does not forget who is erased",
            f"once every subscriber reads {topic}: `muster topics --delete {older}`",
        )
        for older in left
    ]
