"""The checks of the topics that events were published to: with how many partitions, and whether an old one is left."""

from __future__ import annotations

from collections.abc import Mapping

import asyncpg

from chassis.kafka.client import KAFKA_ERRORS, admin, partition_counts
from chassis.postgres.database import describe, session
from chassis.settings import PostgresAddress
from cli.doctor.findings import Finding
from cli.terminal.outages import DATABASE_OUTAGES
from outbox.published_topics import all_published
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
    except asyncpg.UndefinedTableError:
        return []  # its migration is missing, which another finding says
    except (*DATABASE_OUTAGES, *KAFKA_ERRORS) as error:
        remedy = "see the findings of Kafka and of the command database"
        return [Finding("partitions", "failed", f"unknown: {describe(error)}", remedy)]
    return judge_published(settings.events_topic, settings.topic_partitions, remembered, there)


def judge_published(topic: str, wanted: int, remembered: Mapping[str, int], there: Mapping[str, int]) -> list[Finding]:
    """Check that the topic has the partitions with which it was first published to, and that no older topic is left."""
    return [
        _judge_partitions(topic, wanted, remembered.get(topic), there.get(topic)),
        *_judge_older(topic, remembered, there),
    ]


def _judge_partitions(topic: str, wanted: int, before: int | None, found: int | None) -> Finding:
    check = f"partitions of {topic}"
    right = found if before is None else before
    if found is not None and right != found:
        return Finding(check, "failed", another_division(topic, before, found), f"follow {HOW_TO}")
    if right not in {None, wanted}:
        return Finding(check, "failed", f"{right}, and TOPIC_PARTITIONS={wanted}", f"set TOPIC_PARTITIONS={right}")
    return Finding(check, "ok", "nothing was published yet" if before is None else f"always {before}")


def _judge_older(topic: str, remembered: Mapping[str, int], there: Mapping[str, int]) -> list[Finding]:
    """An older topic keeps what it has of people who are erased from now on."""
    return [
        Finding(
            f"topic {older}",
            "warning",
            "nothing is published to it any more, and it is still there: it does not forget who is erased",
            f"once every subscriber reads {topic}: `muster topics --delete {older}`",
        )
        for older in remembered
        if older != topic and older in there
    ]
