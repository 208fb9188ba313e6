"""Settling the last page of a predecessor: it may be in Kafka and not yet deleted from the outbox.

At most one page ever is: the next transaction commits only after the last one's rows are deleted. Once a new producer
has fenced the old one, the old one's transaction is either committed or aborted, and the newest readable record tells
which.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog
from aiokafka import TopicPartition

from outbox.publishing.hanging import Mender, StableOffsets
from outbox.publishing.page_marker import decode_page_marker, rows_in_doubt
from outbox.publishing.publisher import Publisher
from outbox.publishing.topic_reading import Readers, newest_value
from outbox.relay.work_list import WorkList
from outbox.settings import RelaySettings

log = structlog.get_logger("outbox.settlement")

#: All requests to Kafka: open transactions of others, which end at their timeout (46 s at most, with a margin), two
#: waits for markers of 3 s, a roll of 30 s, and 28 s for reading. Shorter than LIVE_SECONDS in state.py.
SETTLE_SECONDS: Final = 110.0


async def settle_last_page(
    work_list: WorkList, publisher: Publisher, settings: RelaySettings, foreign: StableOffsets, beat: Callable[[], None]
) -> int:
    """Mend what hangs, then delete the last published page from the outbox if it is still there.

    Call it only with the leadership held and the publisher freshly open. `foreign` is kept for the next call
    (`Mender.mend`), and `beat` is called after each step.

    Returns:
        How many rows were deleted.

    Raises:
        RelayStopError: record and outbox do not belong together.
        KafkaError, OSError, TimeoutError: the record could not be read.
    """
    async with asyncio.timeout(SETTLE_SECONDS), Readers.open(settings) as readers:
        await Mender(settings, publisher, readers, work_list.find).mend(foreign)
        value = await _newest_record(readers, settings)
    beat()
    if value is None:
        return 0
    record = decode_page_marker(value)
    identity = await work_list.identity()
    beat()
    published = rows_in_doubt(record, await work_list.find(record.ids), identity)
    beat()
    if published:
        await work_list.delete(published)
        beat()
        log.info("relay.settled", events=len(published), first=published[0], last=published[-1])
    return len(published)


async def _newest_record(readers: Readers, settings: RelaySettings) -> bytes | None:
    """The newest committed record of this relay, or None if it has never published."""
    partition = TopicPartition(settings.relay_topic, 0)
    # Only an uncommitted reader is told the true end; a committed one is told the end before open transactions.
    end = (await readers.uncommitted.end_offsets([partition]))[partition]
    return await newest_value(readers.committed, partition, settings.relay_name.encode(), end)
