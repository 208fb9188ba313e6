"""The outbox table: a work list of events that are committed and not yet published.

A row is one event: its subject, its data, and its envelope as it will be sent (outbox/headers.py). The relay publishes
the row and deletes it. There is no cursor, so nothing can be skipped: a transaction that commits late is seen later.

An `id` is taken under the lock on the subject's row, and CACHE 1 keeps sessions from taking ids ahead. So for each
subject the order of ids is the order of commits. command_api/migrations create and change the table.
"""

import asyncpg
from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Identity,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Uuid,
    func,
)

#: A row as the relay selects it, columns by name: a tuple of our own for each of thousands of rows would cost more than
#: publishing them.
OutboxRow = asyncpg.Record

metadata = MetaData()

outbox = Table(
    "outbox",
    metadata,
    Column("id", BigInteger, Identity(always=True, cache=1), nullable=False),
    Column("event_id", Uuid, nullable=False),
    Column("subject_id", Uuid, nullable=False),
    Column("value", LargeBinary, comment="null is a tombstone"),
    Column("headers", LargeBinary, nullable=False, comment="the envelope, as a Kafka record holds headers"),
    Column("appended_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("id", name="outbox_pkey"),
    # Every row is inserted once and deleted once. So vacuum after a thousand dead rows, not after a share of a table
    # that is mostly empty, and without pauses: a poll has to step over the dead rows at the head.
    postgresql_with={
        "autovacuum_vacuum_scale_factor": "0",
        "autovacuum_vacuum_threshold": "1000",
        "autovacuum_vacuum_insert_threshold": "-1",
        "autovacuum_vacuum_cost_delay": "0",
    },
)
