"""Kafka as every process reaches it: client settings, the topics, and the errors that mean "not now"."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    KafkaError,
    LeaderNotAvailableError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    for_code,
)

from chassis.kafka.answering import one_that_answers
from chassis.kafka.refusals import start_client
from chassis.lifecycle import wait_at_most
from chassis.settings import Kafka

K = TypeVar("K", bound=Kafka)

#: One request to a broker that lives takes milliseconds; after this long it is down or out of reach.
REQUEST_SECONDS = 10.0
#: Between checks whether a new topic is there; that takes some tens of milliseconds.
KNOWN_POLL_SECONDS = 0.05

#: Errors that say the broker or the network failed. aiokafka lets ConnectionError and TimeoutError through unwrapped.
KAFKA_ERRORS: tuple[type[Exception], ...] = (KafkaError, OSError, TimeoutError)


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it must be: name, partitions and the configuration that the design depends on."""

    name: str
    partitions: int
    configs: dict[str, str]
    replication_factor: int = 1


class TopicMismatchError(Exception):
    """A topic exists with another number of partitions than the settings say: keys would move. Never repaired."""


def client_arguments(settings: Kafka) -> dict[str, Any]:
    """The keyword arguments that every aiokafka client takes to reach and trust the brokers."""
    arguments: dict[str, Any] = {
        "bootstrap_servers": settings.kafka_bootstrap_servers,
        "security_protocol": settings.kafka_security_protocol,
        "request_timeout_ms": int(REQUEST_SECONDS * 1000),
    }
    if settings.kafka_security_protocol.startswith("SASL"):
        secret = settings.kafka_sasl_password
        arguments["sasl_mechanism"] = settings.kafka_sasl_mechanism
        arguments["sasl_plain_username"] = settings.kafka_sasl_username
        arguments["sasl_plain_password"] = secret.get_secret_value() if secret else None
    if settings.kafka_security_protocol.endswith("SSL"):
        arguments["ssl_context"] = _ssl_context(settings)
    return arguments


async def answering(settings: K) -> K:
    """The same settings for a client that is to start now: of several brokers they name one that answers.

    A client learns the others from it. Where none answers they stay as they are, and the start says why.
    """
    login = client_arguments(settings)
    broker = await one_that_answers(login.pop("bootstrap_servers"), login)
    return settings.model_copy(update={"kafka_bootstrap_servers": broker})


def _ssl_context(settings: Kafka) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=settings.kafka_ssl_cafile)
    if settings.kafka_ssl_certfile:
        secret = settings.kafka_ssl_password
        context.load_cert_chain(
            settings.kafka_ssl_certfile,
            settings.kafka_ssl_keyfile,
            secret.get_secret_value() if secret else None,
        )
    return context


@asynccontextmanager
async def admin(settings: Kafka) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client, started and always closed.

    Raises:
        KafkaRefusedError: the brokers do not let us in.
        KafkaError, OSError, TimeoutError: no broker answered within REQUEST_SECONDS.
    """
    arguments = client_arguments(await answering(settings))
    client = AIOKafkaAdminClient(**arguments)
    try:
        await start_client(client, arguments, REQUEST_SECONDS)
        yield client
    finally:
        await client.close()


async def ensure_topics(client: AIOKafkaAdminClient, topics: list[Topic]) -> list[str]:
    """Create the topics that are missing and set the configuration of those that are there and differ.

    Returns:
        The names of the topics that were created.

    Raises:
        TopicMismatchError: a topic is there with another number of partitions; nothing is changed about it.
        KafkaError: a broker refuses, for instance because this principal may not.
    """
    existing = await partition_counts(client, [topic.name for topic in topics])
    refuse_other_partition_counts(topics, existing)
    missing = [topic for topic in topics if topic.name not in existing]
    for topic in missing:
        await _create(client, topic)
    configs = await topic_configs(client, list(existing)) if existing else {}
    for topic in topics:
        if topic.name in existing and not topic.configs.items() <= configs[topic.name].items():
            await _configure(client, topic)
    if missing:
        await _until_known(client, [topic.name for topic in missing], len(missing))
    return [topic.name for topic in missing]


async def delete_topic(client: AIOKafkaAdminClient, name: str) -> None:
    """Delete a topic with all that is on it; afterwards the brokers do not know it, so that it can be created anew.

    Raises:
        UnknownTopicOrPartitionError: there is none.
        KafkaError: a broker refuses, for instance because this principal may not.
        TimeoutError: the brokers still knew it after REQUEST_SECONDS.
    """
    response = await wait_at_most(client.delete_topics([name]), REQUEST_SECONDS)
    for _, code in response.topic_error_codes:
        if code:
            raise for_code(code)(name)
    await _until_known(client, [name], 0)


async def partition_counts(client: AIOKafkaAdminClient, names: list[str]) -> dict[str, int]:
    """The number of partitions of each of these topics that exists.

    Raises:
        KafkaError: a topic exists but cannot be described now, for instance because it was created a moment ago.
    """
    described = await wait_at_most(client.describe_topics(names), REQUEST_SECONDS)
    counts = {}
    for topic in described:
        error = for_code(topic["error_code"])
        if error is UnknownTopicOrPartitionError:
            continue
        if topic["error_code"]:
            raise error(f"topic {topic['topic']} cannot be described")
        counts[topic["topic"]] = len(topic["partitions"])
    return counts


async def partitions_of(settings: Kafka, topic: str) -> int:
    """The number of partitions of a topic, asked on a connection of its own.

    A consumer of a topic that it may not see, or that is not there, would wait for it until its time is over.

    Raises:
        UnknownTopicOrPartitionError: there is no such topic.
        TopicAuthorizationFailedError: this principal may not know whether there is.
        KafkaError, OSError, TimeoutError: no broker answered, or none lets us in.
    """
    async with admin(settings) as client:
        found = await partition_counts(client, [topic])
    if topic not in found:
        raise UnknownTopicOrPartitionError(topic)
    return found[topic]


async def topic_configs(client: AIOKafkaAdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    """The configuration in force of each of these topics, which must exist; defaults included."""
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    answers = await wait_at_most(client.describe_configs(resources), REQUEST_SECONDS)
    configs: dict[str, dict[str, str]] = {}
    for answer in answers:
        for code, message, _, name, entries in answer.resources:
            if code:
                raise for_code(code)(message)
            configs[name] = {entry[0]: entry[1] for entry in entries}
    return configs


async def _until_known(client: AIOKafkaAdminClient, names: list[str], count: int) -> None:
    """Wait until so many of these topics are known: a broker learns a little later what was created or deleted."""
    async with asyncio.timeout(REQUEST_SECONDS):
        while True:
            with suppress(LeaderNotAvailableError):
                if len(await partition_counts(client, names)) == count:
                    return
            await asyncio.sleep(KNOWN_POLL_SECONDS)


def refuse_other_partition_counts(topics: list[Topic], existing: dict[str, int]) -> None:
    """Raise TopicMismatchError for the first topic whose partition count differs."""
    for topic in topics:
        found = existing.get(topic.name, topic.partitions)
        if found != topic.partitions:
            raise TopicMismatchError(
                f"topic {topic.name} has {found} partitions, the settings say {topic.partitions}: users' events would"
                " go on in other partitions. `muster doctor` says which of the two was changed, and the way out."
            )


async def _configure(client: AIOKafkaAdminClient, topic: Topic) -> None:
    resource = ConfigResource(ConfigResourceType.TOPIC, topic.name, configs=topic.configs)
    for answer in await wait_at_most(client.alter_configs([resource]), REQUEST_SECONDS):
        for code, message, *_ in answer.resources:
            if code:
                raise for_code(code)(message or topic.name)


async def _create(client: AIOKafkaAdminClient, topic: Topic) -> None:
    new = NewTopic(
        topic.name,
        num_partitions=topic.partitions,
        replication_factor=topic.replication_factor,
        topic_configs=topic.configs,
    )
    response = await wait_at_most(client.create_topics([new]), REQUEST_SECONDS)
    for _, code, *rest in response.topic_errors:
        error = for_code(code)
        # It does no harm that somebody else created it meanwhile.
        if code and error is not TopicAlreadyExistsError:
            raise error(rest[0] if rest else f"topic {topic.name} was refused")
