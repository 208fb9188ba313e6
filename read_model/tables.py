"""The tables of the query database that no generation owns: generations, checkpoints, parked records.

Alembic migrates these (projectors/migrations). read_model/generations.py creates a generation's own tables beside the
serving ones, so a rebuild changes nothing that is being read.
"""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    Uuid,
    func,
    text,
)

metadata = MetaData()


def _of_generation(name: str) -> ForeignKeyConstraint:
    """Rows that belong to a generation are deleted with it."""
    return ForeignKeyConstraint(
        ["projection", "generation"],
        ["generations.projection", "generations.generation"],
        name=name,
        ondelete="CASCADE",
    )


#: One row for each generation of a projection. Queries read the `serving` one, of which a projection has at most one.
#: The row of a retired generation stays, so that its number is never used again. A generation with a `refusal` is fed
#: no more.
generations = Table(
    "generations",
    metadata,
    Column("projection", Text, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("shape", SmallInteger, nullable=False, comment="version of the projection's tables and documents"),
    Column("status", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("changed_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("refusal", Text, comment="why it must not be fed any more"),
    PrimaryKeyConstraint("projection", "generation", name="generations_pkey"),
    CheckConstraint("status IN ('building', 'serving', 'standby', 'retired')", name="generations_status_check"),
    CheckConstraint("generation > 0", name="generations_generation_check"),
    Index("generations_serving_key", "projection", unique=True, postgresql_where=text("status = 'serving'")),
)

#: The next position of each partition, moved in the transaction that writes the rows. Everything that was on the
#: partition at `seen_until` has been applied; that is a time of this database's server, and never one to come.
#: `topic_id`, `record_offset` and `record_id` say which log the position belongs to, and the last record that was read;
#: they are null in a checkpoint from before they were kept.
checkpoints = Table(
    "checkpoints",
    metadata,
    Column("projection", Text, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("topic", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("seen_until", DateTime(timezone=True)),
    Column("moved_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("topic_id", Uuid),
    Column("record_offset", BigInteger),
    Column("record_id", Uuid, comment="its ce_id"),
    PrimaryKeyConstraint("projection", "generation", "topic", "partition", name="checkpoints_pkey"),
    _of_generation("checkpoints_generation_fkey"),
)

#: Records that a generation could not apply, byte for byte, and later ones of the same user, which wait behind them.
#: `error` is null for those that only wait. `user_id` is null if the record has no usable key: nothing waits behind it.
parked_records = Table(
    "parked_records",
    metadata,
    Column("projection", Text, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("topic", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("record_offset", BigInteger, nullable=False),
    Column("user_id", Uuid),
    Column("error", Text),
    Column("key", LargeBinary),
    Column("headers", LargeBinary, nullable=False, comment="JSON: [[name, base64 of the value or null], …]"),
    Column("value", LargeBinary),
    Column("recorded_at", DateTime(timezone=True), nullable=False, comment="the record's own timestamp"),
    Column("parked_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("projection", "generation", "topic", "partition", "record_offset", name="parked_records_pkey"),
    _of_generation("parked_records_generation_fkey"),
    Index("parked_records_user_id_idx", "projection", "generation", "user_id"),
)
