"""Finds the row of a page that Kafka refuses: parts of the page are sent in transactions that are aborted, and halved.

It costs a producer for each part that is refused, so it is done only once a page has failed twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aiokafka.errors import BrokerResponseError

from chassis.kafka.refusals import RIGHTS_ERRORS
from outbox.publishing.publisher import Publisher
from outbox.publishing.segment_rolling import roll_segments
from outbox.settings import RelaySettings
from outbox.table import OutboxRow


async def first_refused(rows: Sequence[OutboxRow], settings: RelaySettings) -> tuple[OutboxRow, str] | None:
    """The first row that Kafka does not take, and its word for it; None where it takes all.

    Raises:
        KafkaError, OSError, TimeoutError: Kafka takes nothing now, or does not answer; it is not about the rows.
    """
    # This sends as many records of no row: whatever fails now is about Kafka.
    await roll_segments(settings)
    if await _refusal(rows, settings) is None:
        return None
    while len(rows) > 1:
        middle = len(rows) // 2
        is_refused = await _refusal(rows[:middle], settings) is not None
        rows = rows[:middle] if is_refused else rows[middle:]
    # Alone, too: what is refused only beside others is no fault of its own.
    refusal = await _refusal(rows, settings)
    return None if refusal is None else (rows[0], refusal)


async def _refusal(rows: Sequence[OutboxRow], settings: RelaySettings) -> str | None:
    publisher = await Publisher.open(settings)
    try:
        await publisher.try_out(await publisher.prepare(rows))
    except BaseExceptionGroup as errors:
        refusal = refusal_in(errors)
        if refusal is None:
            raise
        return refusal
    finally:
        await publisher.close()
    return None


def refusal_in(error: BaseException) -> str | None:
    """The words of a broker about records that it never takes; None where this error is of another kind."""
    for leaf in leaves_of(error):
        if isinstance(leaf, BrokerResponseError) and not leaf.retriable and not isinstance(leaf, RIGHTS_ERRORS):
            return type(leaf).__name__
    return None


def leaves_of(error: BaseException) -> Iterator[BaseException]:
    """The errors that an error is a group of, or the error itself."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from leaves_of(each)
    else:
        yield error
