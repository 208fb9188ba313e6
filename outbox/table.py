"""The outbox table: a work list of events that are committed and not yet published.

A row is one event, its data and its envelope, this one as it goes out (outbox/headers.py); the relay publishes it and
deletes it. There is no cursor, so nothing can be skipped: a transaction that commits late is simply seen later. `id` is
taken under the lock on the user's row, and CACHE 1 keeps sessions from taking ids ahead, so per user id order is commit
order. Moved by command_api/migrations.
"""

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

metadata = MetaData()

outbox = Table(
    "outbox",
    metadata,
    Column("id", BigInteger, Identity(always=True, cache=1), nullable=False),
    Column("event_id", Uuid, nullable=False),
    Column("user_id", Uuid, nullable=False),
    Column("value", LargeBinary, comment="null is a tombstone"),
    Column("headers", LargeBinary, nullable=False, comment="the envelope, as a Kafka record holds headers"),
    Column("appended_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("id", name="outbox_pkey"),
    # Every row is inserted once and deleted once: vacuum by the thousand, not by a share of a table that is mostly
    # empty, and do not pause, because dead rows at the head are what a poll has to step over.
    postgresql_with={
        "autovacuum_vacuum_scale_factor": "0",
        "autovacuum_vacuum_threshold": "1000",
        "autovacuum_vacuum_insert_threshold": "-1",
        "autovacuum_vacuum_cost_delay": "0",
    },
)
