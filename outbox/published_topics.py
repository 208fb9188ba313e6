"""The topics that events were ever published to, as the command database remembers them, apart from the brokers.

How many partitions a topic was published with says where each subject's events are. Brokers cannot tell: partitions can
be added to a topic, and then a subject's next event, or tombstone, would go to another one than all before.
command_api/migrations create and change the table.
"""

from typing import Final

from sqlalchemy import Column, DateTime, Integer, PrimaryKeyConstraint, Table, Text, Uuid, func

from chassis.postgres.database import Connection
from outbox.table import metadata

#: One row is read or written.
STATEMENT_SECONDS: Final = 15.0

published_topics = Table(
    "published_topics",
    metadata,
    Column("name", Text, nullable=False),
    Column("partitions", Integer, nullable=False),
    Column("led_at", DateTime(timezone=True), nullable=False, server_default=func.now(), comment="by a relay, last"),
    Column("refilling", Uuid, comment="the id of the topic that a refill has begun to fill; null without one"),
    Column("refilled_to", Uuid, comment="the last subject that it has appended"),
    PrimaryKeyConstraint("name", name="published_topics_pkey"),
)

_PARTITIONS: Final = "SELECT partitions FROM published_topics WHERE name = $1"
_LEAD: Final = """
INSERT INTO published_topics (name, partitions) VALUES ($1, $2)
ON CONFLICT (name) DO UPDATE SET partitions = excluded.partitions, led_at = now()
"""
_LAST: Final = "SELECT name FROM published_topics ORDER BY led_at DESC LIMIT 1"
_ALL: Final = "SELECT name, partitions FROM published_topics ORDER BY led_at"


async def published_with(connection: Connection, topic: str) -> int | None:
    """The number of partitions that this topic was first published to; None: it never was, or before that was noted."""
    partitions: int | None = await connection.fetchval(_PARTITIONS, topic, timeout=STATEMENT_SECONDS)
    return partitions


async def published_last(connection: Connection) -> str | None:
    """The topic of the relay that led last; None: none has led yet."""
    topic: str | None = await connection.fetchval(_LAST, timeout=STATEMENT_SECONDS)
    return topic


async def note_leader(connection: Connection, topic: str, partitions: int) -> None:
    """Note that a relay leads from now on, and publishes to this topic, which has so many partitions."""
    await connection.execute(_LEAD, topic, partitions, timeout=STATEMENT_SECONDS)


async def all_published(connection: Connection) -> dict[str, int]:
    """Every topic that was ever published to, with its partitions; that of the relay which led last is the last."""
    rows = await connection.fetch(_ALL, timeout=STATEMENT_SECONDS)
    return {row["name"]: row["partitions"] for row in rows}
