"""Our partitioner is Kafka's: the same key goes to the same partition, whoever produces it."""

from uuid import UUID

from aiokafka.partitioner import murmur2 as reference
from hypothesis import given
from hypothesis import strategies as st

from outbox.publishing.partitioning import murmur2, partition_of


@given(st.binary(max_size=200))
def test_hashes_as_kafka_does_whatever_the_key(key: bytes) -> None:
    assert murmur2(key) == reference(key) & 0xFFFFFFFF


@given(st.uuids(), st.integers(1, 1000))
def test_a_users_partition_is_that_of_the_default_partitioner(user: UUID, partitions: int) -> None:
    key = str(user).encode()

    assert partition_of(key, partitions) == (reference(key) & 0x7FFFFFFF) % partitions
