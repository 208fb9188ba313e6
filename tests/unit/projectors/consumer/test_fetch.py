"""The broker collects records for a feed only while they keep coming."""

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.subscription_state import SubscriptionState

from projectors.consumer.subscription import FETCH_WAIT_MS, PATIENT_BYTES, Patience, _set_fetch_wait


@pytest.mark.parametrize(("replaying", "patient"), [(False, 100), (True, FETCH_WAIT_MS)])
def test_the_broker_collects_records_only_while_they_keep_coming(*, replaying: bool, patient: int) -> None:
    patience = Patience(100)
    fetcher = SimpleNamespace(_fetch_max_wait_ms=0, _fetch_min_bytes=0)
    consumer: Any = SimpleNamespace(_fetcher=fetcher)

    def waits_after(now: float, *, came: bool) -> int:
        patience.adapt(consumer, now, came=came, replaying=replaying)
        return int(fetcher._fetch_max_wait_ms)

    assert waits_after(100.0, came=True) == FETCH_WAIT_MS
    assert waits_after(100.19, came=True) == patient
    assert waits_after(100.38, came=True) == patient
    assert waits_after(100.59, came=True) == FETCH_WAIT_MS
    assert waits_after(100.60, came=True) == patient
    assert waits_after(100.65, came=False) == FETCH_WAIT_MS
    assert fetcher._fetch_min_bytes == 1


async def test_patience_is_what_the_next_fetch_asks_for() -> None:
    partition, subscription = TopicPartition("t", 0), SubscriptionState()
    subscription.assign_from_user({partition})
    assignment = subscription.subscription.assignment
    assignment.state_value(partition).seek(0)
    fetcher = Fetcher(AIOKafkaClient(bootstrap_servers="127.0.0.1:9"), subscription)
    fetcher._preferred_read_replica[partition] = (1, float("inf"))
    fetcher._client.cluster.broker_metadata = lambda _: "it"
    consumer = AIOKafkaConsumer(bootstrap_servers="127.0.0.1:9")
    assert consumer._fetcher is None
    consumer._fetcher = fetcher
    try:
        for milliseconds, wanted in ((30, (30, PATIENT_BYTES)), (0, (FETCH_WAIT_MS, 1))):
            _set_fetch_wait(consumer, milliseconds)
            [(_, request)], *_ = fetcher._get_actions_per_node(assignment)
            assert (request._max_wait_ms, request._min_bytes) == wanted
    finally:
        await consumer.stop()
