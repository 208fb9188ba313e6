"""The checks of Kafka: brokers, topics and their configuration, copies, transactions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import ClusterAuthorizationFailedError, TopicAuthorizationFailedError, for_code

from chassis.kafka.client import KAFKA_ERRORS, REQUEST_SECONDS, Topic, admin, partition_counts, topic_configs
from chassis.kafka.refusals import REFUSALS, explain
from chassis.lifecycle import wait_at_most
from chassis.postgres.database import describe
from cli.doctor.findings import Finding, troubles_or_ok
from cli.doctor.kafka_access import OPEN_WITHOUT_ACL, examine_writers
from cli.terminal.output import counted
from outbox.settings import RelaySettings
from outbox.topics import wanted_topics

#: From this many brokers on, a single copy of each partition is more likely an oversight than a choice.
CLUSTER_BROKERS: Final = 3
_TRANSACTION_LIMIT: Final = "transaction.max.timeout.ms"


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition as the brokers report it: which of them have a copy, whose is in sync, and whether one leads."""

    number: int
    copies: frozenset[int]
    in_sync: frozenset[int]
    has_leader: bool


async def examine_kafka(settings: RelaySettings) -> list[Finding]:
    """Check the brokers and both topics."""
    where = settings.kafka_bootstrap_servers
    wanted = wanted_topics(settings)
    names = [topic.name for topic in wanted]
    try:
        async with admin(settings) as client:
            cluster = await wait_at_most(client.describe_cluster(), REQUEST_SECONDS)
            limits = await _broker_configs(client, cluster["brokers"][0]["node_id"])
            existing = await partition_counts(client, names)
            configs = await _configs_of(client, list(existing))
            partitions = await _partitions(client, list(existing))
            writers = await examine_writers(client, settings, limits)
    except REFUSALS as error:
        remedy = "correct the KAFKA settings, or run doctor as a principal with these rights"
        return [Finding("Kafka", "failed", f"{where}: {explain(error)}", remedy)]
    except KAFKA_ERRORS as error:
        remedy = "start Kafka there, of several brokers most, or correct the KAFKA settings"
        reason = "no answer in time" if isinstance(error, TimeoutError) else describe(error)
        return [Finding("Kafka", "failed", f"{where}: {reason}", remedy)]
    brokers = len(cluster["brokers"])
    findings = [judge_brokers(where, brokers, limits, settings.relay_transaction_timeout_ms)]
    for topic in wanted:
        findings += judge_topic(topic, existing, configs.get(topic.name))
        if topic.name in existing:
            findings += judge_copies(topic, partitions[topic.name], brokers)
    return [*findings, *writers]


async def _broker_configs(client: AIOKafkaAdminClient, node: int) -> dict[str, str | None] | None:
    """The broker's configuration, as far as checks need it; None where this principal may not look."""
    wanted = dict.fromkeys((_TRANSACTION_LIMIT, OPEN_WITHOUT_ACL), "")
    resource = ConfigResource(ConfigResourceType.BROKER, str(node), configs=wanted)
    [answer] = await wait_at_most(client.describe_configs([resource]), REQUEST_SECONDS)
    [(code, message, _, _, entries)] = answer.resources
    if for_code(code) is ClusterAuthorizationFailedError:
        return None
    if code:
        raise for_code(code)(message)
    return {entry[0]: entry[1] for entry in entries}


async def _configs_of(client: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """The configurations of those topics at which this principal may look."""
    configs: dict[str, dict[str, str]] = {}
    for name in names:
        with suppress(TopicAuthorizationFailedError):  # then its finding says so
            configs |= await topic_configs(client, [name])
    return configs


async def _partitions(client: AIOKafkaAdminClient, names: list[str]) -> dict[str, list[Partition]]:
    described: list[dict[str, Any]] = await wait_at_most(client.describe_topics(names), REQUEST_SECONDS)
    return {
        topic["topic"]: [
            Partition(
                each["partition"],
                frozenset(each["replicas"]),
                frozenset(each["isr"]),
                has_leader=each["leader"] >= 0,
            )
            for each in topic["partitions"]
        ]
        for topic in described
    }


def judge_brokers(where: str, brokers: int, limits: Mapping[str, str | None] | None, asked_ms: int) -> Finding:
    """Check that the brokers allow transactions as long as the relay asks for; None: we may not look."""
    if limits is None:
        found = f"{where}, {counted(brokers, 'broker')}; this principal may not look at {_TRANSACTION_LIMIT}"
        return Finding("Kafka", "warning", found, "run doctor as a principal that may DESCRIBE_CONFIGS the cluster")
    limit = limits.get(_TRANSACTION_LIMIT)
    if limit is not None and int(limit) < asked_ms:
        found = f"{_TRANSACTION_LIMIT}={limit}, but RELAY_TRANSACTION_TIMEOUT_MS={asked_ms}"
        remedy = "lower the setting or raise the brokers' limit: as it is, the relay cannot start"
        return Finding("Kafka", "failed", found, remedy)
    return Finding("Kafka", "ok", f"{where}, {counted(brokers, 'broker')}")


def judge_topic(topic: Topic, existing: dict[str, int], found: dict[str, str] | None) -> list[Finding]:
    """Check that a topic exists, with the partitions and configuration of the settings; None: we may not look."""
    check = f"topic {topic.name}"
    if topic.name not in existing:
        return [Finding(check, "failed", "is not there", "`muster topics`")]
    if existing[topic.name] != topic.partitions:
        remedy = f"see the finding `partitions of {topic.name}`: the count of a topic in use never changes"
        return [
            Finding(check, "failed", f"{counted(existing[topic.name], 'partition')}, not {topic.partitions}", remedy)
        ]
    if found is None:
        remedy = f"run doctor as a principal that may DESCRIBE_CONFIGS {topic.name}"
        return [Finding(check, "warning", "this principal may not look at its configuration", remedy)]
    wrong = [
        f"{key}={found.get(key)} (should be {value})" for key, value in topic.configs.items() if found.get(key) != value
    ]
    if wrong:
        return [Finding(check, "failed", ", ".join(wrong), "`muster topics`")]
    return [Finding(check, "ok", f"{counted(topic.partitions, 'partition')}, configured as the settings say")]


def judge_copies(topic: Topic, partitions: Sequence[Partition], brokers: int) -> list[Finding]:
    """Check that acknowledged records survive: producers wait for all copies that are in sync (acks=all)."""
    check = f"durability of {topic.name}"
    least = int(topic.configs["min.insync.replicas"])
    copies = min(len(partition.copies) for partition in partitions)
    away = _numbers(sorted({broker for each in partitions for broker in each.copies - each.in_sync}))
    troubles = []
    if headless := [partition.number for partition in partitions if not partition.has_leader]:
        remedy = "start the missing brokers: nothing can be written or read there"
        troubles.append(Finding(check, "failed", f"no leader for partitions {_numbers(headless)}", remedy))
    if behind := [each.number for each in partitions if each.has_leader and len(each.in_sync) < least]:
        remedy = f"see why broker {away} is away or slow: the relay's writes are refused until then"
        troubles.append(
            Finding(check, "failed", f"fewer than {least} copies in sync of partitions {_numbers(behind)}", remedy)
        )
    elif lagging := [each.number for each in partitions if each.has_leader and each.in_sync < each.copies]:
        remedy = f"see why broker {away} is away or slow"
        troubles.append(
            Finding(check, "warning", f"not every copy is in sync of partitions {_numbers(lagging)}", remedy)
        )
    if copies != topic.replication_factor:
        remedy = f"set TOPIC_REPLICATION_FACTOR={copies}, or change the copies with kafka-reassign-partitions.sh"
        found = f"{copies} copies, not {topic.replication_factor} as the settings say"
        troubles.append(Finding(check, "warning", found, remedy))
    if least > copies:
        found = f"{copies} copies, of which {least} must be in sync"
        troubles.append(Finding(check, "failed", found, "lower TOPIC_MIN_INSYNC_REPLICAS: nothing can be written"))
    elif brokers >= CLUSTER_BROKERS and least < min(2, brokers):
        remedy = "set TOPIC_REPLICATION_FACTOR=3 and TOPIC_MIN_INSYNC_REPLICAS=2: one lost broker loses events"
        troubles.append(Finding(check, "warning", f"one copy is enough, on a cluster of {brokers} brokers", remedy))
    elif copies > 1 and least == copies:
        remedy = f"set TOPIC_MIN_INSYNC_REPLICAS={copies - 1}: as it is, one broker away stops the relay"
        troubles.append(Finding(check, "warning", f"all {copies} copies must be in sync", remedy))
    return troubles_or_ok(
        check, troubles, f"acks=all, {least} of {copies} copies in sync at least, no unclean election"
    )


def _numbers(partitions: Sequence[int]) -> str:
    return ", ".join(map(str, partitions))
