"""`muster topics`: creates the topics that are missing, checks and configures the others."""

from __future__ import annotations

import asyncio

from chassis.kafka.client import KAFKA_ERRORS, Topic, TopicMismatchError, admin, ensure_topics
from chassis.postgres.database import describe
from chassis.settings import Kafka, Logging, Topics, load
from cli.terminal.output import JsonOption, counted, fail, print_json, say
from outbox.topics import wanted_topics


class TopicsSettings(Kafka, Topics, Logging):
    """The settings of this command."""


def topics(*, as_json: JsonOption = False) -> None:
    """Create the topics that are missing and set the configuration of those that are there.

    The number of partitions never changes: where it differs from the settings this command refuses.
    """
    settings = load(TopicsSettings)
    wanted = wanted_topics(settings)
    try:
        created = asyncio.run(_ensure(settings, wanted))
    except TopicMismatchError as error:
        fail(str(error))
    except KAFKA_ERRORS as error:
        fail(f"Kafka at {settings.kafka_bootstrap_servers} did not do it: {describe(error)}")
    if as_json:
        print_json([{"topic": t.name, "partitions": t.partitions, "created": t.name in created} for t in wanted])
        return
    for topic in wanted:
        done = "created" if topic.name in created else "checked"
        say(f"{topic.name}: {counted(topic.partitions, 'partition')}, {done}")
    if settings.events_topic in created:
        say(
            f"If there was a topic {settings.events_topic} before, this one is another log: projectors that have read"
            " the old one refuse it within 15 s and say so in `muster lag`; the relay publishes to it what happens from"
            " now on."
        )


async def _ensure(settings: Kafka, wanted: list[Topic]) -> list[str]:
    async with admin(settings) as client:
        return await ensure_topics(client, wanted)
