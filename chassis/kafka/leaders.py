"""Over which connections the leaders of partitions are reached: over another one the log may be another.

The broker may have started on older disks, or another may lead that lacks what was read. Then records come from another
history at the same offsets, and no client says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.client import ConnectionGroup

#: The connection of each partition, another object each time that one is made; None where there is none.
Connections = Mapping[TopicPartition, object | None]


def leader_connections(consumer: AIOKafkaConsumer, partitions: Iterable[TopicPartition]) -> Connections:
    """The connections over which the records of these partitions come now."""
    return {partition: _connection(consumer, partition) for partition in partitions}


def is_reached_anew(consumer: AIOKafkaConsumer, before: Connections) -> bool:
    """Whether one of these leaders is reached over another connection than before."""
    now = leader_connections(consumer, before)
    return any(now[partition] not in {None, known} for partition, known in before.items())


def _connection(consumer: AIOKafkaConsumer, partition: TopicPartition) -> object | None:
    client: Any = consumer._client  # noqa: SLF001 - not public: who leads, and by which connection it is reached
    leader = client.cluster.leader_for_partition(partition)
    found = client._conns.get((leader, ConnectionGroup.DEFAULT))  # noqa: SLF001 - as said
    return found if found is not None and found.connected() else None
