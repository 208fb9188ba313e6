"""The outbox table: a work list of events that are committed and not yet published.

A row is one event: its subject, its data, and its envelope as it will be sent (outbox/headers.py). The relay publishes
the row and deletes it. There is no cursor, so nothing can be skipped: a transaction that commits late is seen later.

An `id` is taken under the lock on the subject's row, and CACHE 1 keeps sessions from taking ids ahead. So for each
subject the order of ids is the order of commits.

A row that cannot be published is named in `damage`, and whatever comes after it waits. A person may set it aside
(outbox/set_aside.py): then it is in the second table here, and only its subject's later rows wait, in the first.
command_api/migrations create and change both.
"""

import asyncpg
from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Identity,
    Index,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    Uuid,
    func,
    text,
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
    Column("damage", Text, comment="why the relay cannot publish it"),
    PrimaryKeyConstraint("id", name="outbox_pkey"),
    # Empty but for a row that holds the others back; an INSERT does not touch it.
    Index("outbox_damage_idx", "id", postgresql_where=text("damage IS NOT NULL")),
    # Every row is inserted once and deleted once. So vacuum after a thousand dead rows, not after a share of a table
    # that is mostly empty, and without pauses: a poll has to step over the dead rows at the head.
    postgresql_with={
        "autovacuum_vacuum_scale_factor": "0",
        "autovacuum_vacuum_threshold": "1000",
        "autovacuum_vacuum_insert_threshold": "-1",
        "autovacuum_vacuum_cost_delay": "0",
    },
)

#: Rows that a person has set aside, byte for byte as they were.
outbox_set_aside = Table(
    "outbox_set_aside",
    metadata,
    Column("id", BigInteger, nullable=False, comment="in the outbox"),
    Column("event_id", Uuid),
    Column("subject_id", Uuid, nullable=False, comment="whose later events wait"),
    Column("value", LargeBinary),
    Column("headers", LargeBinary),
    Column("appended_at", DateTime(timezone=True), nullable=False),
    Column("damage", Text, nullable=False),
    Column("set_aside_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("id", name="outbox_set_aside_pkey"),
)
