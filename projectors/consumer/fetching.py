"""How records are fetched: at once while somebody waits for the first, more at a time while they keep coming."""

from __future__ import annotations

import asyncio
from typing import Final

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

Fetched = dict[TopicPartition, list[ConsumerRecord[bytes, bytes]]]

#: How long the broker holds an answer back while there is nothing new. Also how often a quiet partition tells us so,
#: and thus how fine `As-Of` is; a fetch covers every partition of a broker, so two a second cost nothing.
FETCH_WAIT_MS: Final = 500
#: While a projection has patience, the broker answers as soon as it has this much for us: a full batch is more.
PATIENT_BYTES: Final = 64 * 1024
#: Unpacking so many takes a millisecond, in which nothing else happens here; a batch is many times that.
UNPACKED_AT_ONCE: Final = 250


async def fetch(consumer: AIOKafkaConsumer, wait_ms: int, limit: int) -> Fetched:
    """Wait for records and take what has come, `limit` at most; gives way while it unpacks them."""
    fetched: Fetched = {}
    missing, found = limit, await consumer.getmany(timeout_ms=wait_ms, max_records=min(limit, UNPACKED_AT_ONCE))
    while found:
        for partition, records in found.items():
            fetched.setdefault(partition, []).extend(records)
            missing -= len(records)
        if missing <= 0 or sum(map(len, found.values())) < UNPACKED_AT_ONCE:
            break
        await asyncio.sleep(0)
        found = await consumer.getmany(timeout_ms=0, max_records=min(missing, UNPACKED_AT_ONCE))
    return fetched


class Patience:
    """How long the broker may collect records for one feed."""

    def __init__(self, milliseconds: int) -> None:
        """No more than this, whatever comes."""
        self._milliseconds = milliseconds
        #: When the newest records came, by the monotonic clock in seconds.
        self._came = 0.0

    def adapt(self, consumer: AIOKafkaConsumer, now: float, *, came: bool, replaying: bool) -> None:
        """Wait for more than one record while they keep coming; not for the first, and not in a replay."""
        patient = came and now - self._came < 2 * self._milliseconds / 1000 and not replaying
        _set_fetch_wait(consumer, self._milliseconds if patient else 0)
        if came:
            self._came = now


def _set_fetch_wait(consumer: AIOKafkaConsumer, milliseconds: int) -> None:
    """From the next fetch on, let the broker collect records for so long; with 0 it answers at the first one."""
    # Not public: aiokafka can be told only once, when it is made. Without this, each partition of a transaction would
    # be an answer of its own, or every few milliseconds a request would find nothing.
    fetcher = consumer._fetcher  # noqa: SLF001 - as said
    fetcher._fetch_max_wait_ms = milliseconds or FETCH_WAIT_MS  # noqa: SLF001 - as said
    fetcher._fetch_min_bytes = PATIENT_BYTES if milliseconds else 1  # noqa: SLF001 - as said
