"""The number of partitions of the topic: that with which it was first published to, whatever brokers and settings say.

Settings and brokers can agree on another number: partitions were added, and then the setting was made to fit. From then
on a user's events would go on in another partition: out of order, and the tombstone apart from what it is to remove.
"""

from __future__ import annotations

from chassis.postgres.database import session
from outbox.published_topics import note_leader, published_with
from outbox.publishing.page_marker import RelayStopError
from outbox.publishing.topic_reading import is_empty
from outbox.settings import RelaySettings


async def hold_division(settings: RelaySettings) -> None:
    """Note that this relay publishes to the topic of its settings, which has as many partitions as they say.

    Raises:
        RelayStopError: it was published to with another number, and is not empty.
        DatabaseUnavailableError, asyncpg.PostgresError, OSError, TimeoutError, KafkaError: a server is away.
    """
    topic, partitions = settings.events_topic, settings.topic_partitions
    async with session(settings.command_database, application="muster relay") as connection:
        before = await published_with(connection, topic)
        if before not in {None, partitions} and not await is_empty(settings, topic, partitions):
            raise RelayStopError(another_division(topic, before, partitions))
        await note_leader(connection, topic, partitions)


def another_division(topic: str, before: int | None, now: int) -> str:
    """Says that a topic has another number of partitions now, and the way out."""
    return (
        f"topic {topic} was published to with {before} partitions and has {now} now: users' events would go on in other"
        " partitions. Partitions cannot be taken away: go on with another topic, as"
        " docs/how-to/change-the-number-of-partitions.md says"
    )
